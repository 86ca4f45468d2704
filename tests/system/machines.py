"""A cluster on this machine, from outside: hosts that are started and killed one by one, and what a
client, the carrier and the command line see of them."""

import json
import os
import secrets
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.system import running
from tests.system.running import descendants, end, get_json, wait_until

from trunkline.host.listen import Address, address_of, bound
from trunkline.host.supervise import PROGRAM

Facts = dict[str, Any]

RECIPIENT: Final = "+12025550123"
SETTLED_S: Final = 60.0
BACK_S: Final = 90.0
"""A host that comes back waits for elections of 4-9 s before all its services run, and for several in
a row where others are refused meanwhile: twenty seconds were seen while the secret was changed."""
ENDED_S: Final = 40.0
ANSWERED_S: Final = 15.0


def request(
    facts: Facts,
    base_url: str,
    path: str,
    form: dict[str, str] | None = None,
    *,
    key: str | None = None,
    method: str | None = None,
) -> Facts:
    """What the API answers; nothing, where its answer is empty. Raises `HTTPError` for a refusal."""
    account = facts["account_sid"]
    url = f"{base_url}/2010-04-01/Accounts/{account}/{path}"
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    passwords.add_password(None, url, account, facts["auth_token"], is_authenticated=True)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
    body = None if form is None else urllib.parse.urlencode(form).encode()
    headers = {} if key is None else {"Idempotency-Key": key}
    asked = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 - our own server
    with opener.open(asked, timeout=ANSWERED_S) as answer:
        found: Facts = {} if answer.status == 204 else json.load(answer)
    return found


def create(
    facts: Facts, base_url: str, body: str, *, key: str | None = None, told_at: str = ""
) -> str:
    """Its SID. `told_at` is where its statuses are told."""
    form = {"To": RECIPIENT, "From": facts["phone_number"], "Body": body}
    if told_at:
        form["StatusCallback"] = told_at
    return str(request(facts, base_url, "Messages.json", form, key=key)["sid"])


def status(facts: Facts, base_url: str, sid: str) -> str:
    """What this host says of the message; empty while it cannot say."""
    try:
        return str(request(facts, base_url, f"Messages/{sid}.json")["status"])
    except (OSError, urllib.error.HTTPError):
        return ""


def is_ready(base_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base_url}/readyz", timeout=2.0) as answer:  # noqa: S310 - our own server
            return bool(answer.status == 200)
    except OSError:
        return False


def bodies_on_the_phone(facts: Facts) -> list[str]:
    number = urllib.parse.quote(RECIPIENT)
    url = f"{facts['simulator_url']}/v1/handsets/{number}/messages?limit=1000"
    return sorted(message["body"] for message in get_json(url))


def expect_delivered_once(facts: Facts, bodies: Sequence[str]) -> None:
    wait_until(
        lambda: set(bodies_on_the_phone(facts)) >= set(bodies),
        "every message to be on the phone",
        within_s=SETTLED_S,
    )
    assert bodies_on_the_phone(facts) == sorted(bodies)


def expect_told(facts: Facts, base_url: str, sid: str) -> None:
    wait_until(
        lambda: status(facts, base_url, sid) == "delivered",
        f"{base_url} to tell that {sid} was delivered",
        within_s=SETTLED_S,
    )


def kill_host(pid: int) -> None:
    """Everything of one host, at once, as when its power fails."""
    below = descendants(pid)
    assert "nats-server" in below.values()
    for each in (pid, *below):
        os.kill(each, signal.SIGKILL)


def trunkline(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        (*PROGRAM, *arguments), capture_output=True, text=True, timeout=ENDED_S, check=False
    )


@dataclass
class Host:
    """One `trunkline host` of its own, as a service manager starts it."""

    process: subprocess.Popen[bytes]
    ready: Path
    said: Path

    def is_ready(self) -> bool:
        return self.ready.exists()

    def events(self, name: str) -> list[Facts]:
        lines = self.said.read_text("utf-8").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in found if event.get("event") == name]


class Machines:
    """The hosts of one cluster, each with a file of settings; ended at the end. With `zones`, a zone
    for each of the letters, the copies of each shard are kept in different ones."""

    def __init__(
        self, folder: Path, carrier: str, stack: ExitStack, zones: Mapping[str, str] | None
    ) -> None:
        self._folder, self.carrier, self._stack = folder, carrier, stack
        self.zones = zones or {}
        self.on_ambiguous = "hold"
        self.token = self.token_file("token")
        with ExitStack() as chosen:
            self.hosts = [
                f"host-{name}@127.0.0.{last}:{free_port(last, chosen)}:{free_port(last, chosen)}"
                for last, name in enumerate(self.zones or "abc", start=2)
            ]

    def token_file(self, name: str) -> Path:
        path = self._folder / name
        path.write_text(secrets.token_hex(32))
        path.chmod(0o600)
        return path

    def settings_file(
        self, letter: str, *, token: Path | None = None, data: str = "", tls: str = ""
    ) -> Path:
        name, last = f"host-{letter}", 2 + "abcde".index(letter)
        zone = self.zones.get(letter, "")
        file = self._folder / f"{name}.toml"
        file.write_text(
            f'[host]\nname = "{name}"\nzone = "{zone}"\ndata = "{self._folder / (data or name)}"\n'
            f'http = "127.0.0.{last}:0"\n'
            f"[cluster]\nhosts = {json.dumps(self.hosts)}\nspread = {json.dumps(bool(zone))}\n"
            f'token_file = "{token or self.token}"\n{tls}'
            f'[carrier]\nurl = "{self.carrier}"\non_ambiguous = "{self.on_ambiguous}"\n'
        )
        return file

    def start(
        self, letter: str, *, token: Path | None = None, data: str = "", tls: str = ""
    ) -> Host:
        name, file = f"host-{letter}", self.settings_file(letter, token=token, data=data, tls=tls)
        ready, said = self._folder / f"{name}.ready", self._folder / f"{name}.said"
        ready.unlink(missing_ok=True)
        with said.open("wb") as errors:
            process = subprocess.Popen(
                (*PROGRAM, "host", "--config", str(file), "--ready-file", str(ready)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self._stack.callback(end, process)
        return Host(process, ready, said)


def free_port(last: int, chosen: ExitStack) -> int:
    held = chosen.enter_context(bound(Address(f"127.0.0.{last}", 0), setting=""))
    return address_of(held).port


@contextmanager
def machines(folder: Path, zones: Mapping[str, str] | None = None) -> Iterator[Machines]:
    with ExitStack() as stack:
        carrier = stack.enter_context(running.simulator(folder / "simulator"))
        yield Machines(folder, carrier, stack, zones)
