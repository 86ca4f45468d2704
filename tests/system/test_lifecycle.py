"""A host from its start to its end, as processes: who may start, what is left, what comes back."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from trunkline.host.supervise import PROGRAM

pytestmark = pytest.mark.system

READY_S: Final = 20.0
GONE_S: Final = 10.0
POLL_S: Final = 0.01

Facts = dict[str, Any]


def until(what: Callable[[], bool], *, within_s: float) -> None:
    """Wait for something to be so, with a bound."""
    give_up_at = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < give_up_at, "it did not come about"
        time.sleep(POLL_S)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def engines_of(pid: int) -> set[int]:
    """The log engines below one process."""
    return {
        child
        for child in descendants(pid)
        if "nats-server" in Path(f"/proc/{child}/cmdline").read_text()
    }


def descendants(pid: int) -> set[int]:
    """The ids of all processes below one."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = {int(child) for child in children.read_text().split()} if children.exists() else set()
    return found.union(*(descendants(child) for child in found))


class Up:
    """One `trunkline up` on a data folder, on free ports."""

    def __init__(self, data: Path, folder: Path, *flags: str) -> None:
        self.ready_file = folder / f"ready-{data.name}.json"
        self.process = subprocess.Popen(
            (
                *PROGRAM, "up", "--data", str(data), "--http", "127.0.0.1:0",
                "--simulator-http", "127.0.0.1:0", "--ready-file", str(self.ready_file), *flags,
            ),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ready(self) -> Facts:
        until(self._is_ready_or_ended, within_s=READY_S)
        assert self.process.poll() is None, self.process.communicate()[1]
        facts: Facts = json.loads(self.ready_file.read_text())
        return facts

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        if self.process.poll() is None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=GONE_S + 10.0)
        return self.process.returncode, out, err

    def _is_ready_or_ended(self) -> bool:
        return self.ready_file.exists() or self.process.poll() is not None


Start = Callable[..., Up]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Up] = []

    def start_one(data: Path, *flags: str) -> Up:
        started.append(Up(data, tmp_path, *flags))
        return started[-1]

    yield start_one
    for up in started:
        # Shown by pytest where the test failed.
        sys.stderr.write(up.end(signal.SIGKILL)[2])


def trunkline(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        (*PROGRAM, *arguments), capture_output=True, text=True, timeout=READY_S, check=False
    )


def create_message(facts: Facts, body: str) -> Facts:
    """Send with nothing but what the ready file says."""
    sid, token = facts["account_sid"], facts["auth_token"]
    url = f"{facts['base_url']}/2010-04-01/Accounts/{sid}/Messages.json"
    form = {"To": "+12025550123", "From": facts["phone_number"], "Body": body}
    return request(url, sid, token, urllib.parse.urlencode(form).encode())


def request(url: str, sid: str, token: str, form: bytes | None = None) -> Facts:
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    passwords.add_password(None, url, sid, token, is_authenticated=True)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
    with opener.open(urllib.request.Request(url, form), timeout=10.0) as answer:  # noqa: S310 - our own server
        found: Facts = json.load(answer)
    return found


def test_up_says_how_it_is_reached_and_keeps_its_secrets_to_its_owner(
    start: Start, tmp_path: Path
) -> None:
    up = start(tmp_path / "data")
    facts = up.ready()
    mode = up.ready_file.stat().st_mode & 0o777

    code, out, _ = up.end()

    assert set(facts) == {
        "account_sid", "auth_token", "base_url", "hosts", "phone_number", "pid", "simulator_url",
    }  # fmt: skip
    assert set(facts["hosts"][0]) == {"name", "base_url", "pid", "data"}
    assert facts["pid"] == up.process.pid
    assert mode == 0o600
    assert code == 0
    assert all(facts[k] in out for k in ("base_url", "account_sid", "auth_token", "phone_number"))
    data = tmp_path / "data"
    assert data.stat().st_mode & 0o777 == 0o700
    secret = (data / "credentials.json", data / "run" / "nats.conf", data / "run" / "settings.json")
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}
    assert not up.ready_file.exists()


def test_a_second_up_on_the_same_folder_is_refused_by_the_id_of_the_first(
    start: Start, tmp_path: Path
) -> None:
    first = start(tmp_path / "data")
    first.ready()

    second = trunkline("up", "--data", str(tmp_path / "data"), "--http", "127.0.0.1:0")

    assert second.returncode == 1
    assert f"is in use by process {first.process.pid}" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_a_port_that_is_taken_is_named_with_the_mend(start: Start, tmp_path: Path) -> None:
    facts = start(tmp_path / "data").ready()
    taken = facts["base_url"].removeprefix("http://")

    second = trunkline("up", "--data", str(tmp_path / "other"), "--http", taken)

    assert second.returncode == 1
    assert f"{taken} is already in use" in second.stderr
    assert "--http" in second.stderr
    assert "127.0.0.1:0" in second.stderr


def test_a_folder_of_a_newer_format_is_refused_before_the_engine_sees_it(tmp_path: Path) -> None:
    document = {"product": "trunkline", "format": 99, "created_by": "9.0"}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "format.json").write_text(json.dumps(document))

    done = trunkline("up", "--data", str(tmp_path / "data"))

    assert done.returncode == 1
    assert "has format 99, written by version 9.0" in done.stderr
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["format.json"]


def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("mine")

    done = trunkline("up", "--data", str(tmp_path / "data"))

    assert done.returncode == 1
    assert "is not empty (it holds 'thesis.txt')" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_drains_and_leaves_nothing_running(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    up = start(tmp_path / "data")
    up.ready()
    running = descendants(up.process.pid)
    assert len(running) == 4  # the host's two processes, its engine, the simulator

    code, _, err = up.end(number)

    assert code == 0, err
    assert not any(is_alive(pid) for pid in running)


def test_killing_the_parent_leaves_nothing_running_and_the_folder_free(
    start: Start, tmp_path: Path
) -> None:
    up = start(tmp_path / "data")
    up.ready()
    running = descendants(up.process.pid)

    up.end(signal.SIGKILL)

    until(lambda: not any(is_alive(pid) for pid in running), within_s=GONE_S)
    up.ready_file.unlink()
    assert start(tmp_path / "data").ready()["pid"] != up.process.pid


def test_a_killed_host_comes_back_at_the_same_address_and_nobody_is_refused(
    start: Start, tmp_path: Path
) -> None:
    up = start(tmp_path / "data")
    facts = up.ready()
    victim = facts["hosts"][0]["pid"]
    engines = descendants(victim)

    os.kill(victim, signal.SIGKILL)
    message = create_message(facts, "sent while no host was there")

    assert message["status"] in {"accepted", "queued", "sending", "sent"}
    until(lambda: not any(is_alive(pid) for pid in engines), within_s=GONE_S)
    until(
        lambda: json.loads(up.ready_file.read_text())["hosts"][0]["pid"] != victim,
        within_s=READY_S,
    )


def test_a_killed_engine_is_replaced_under_a_running_host(start: Start, tmp_path: Path) -> None:
    facts = start(tmp_path / "data").ready()
    host = facts["hosts"][0]["pid"]
    (engine,) = engines_of(host)

    os.kill(engine, signal.SIGKILL)
    until(lambda: bool(engines_of(host) - {engine}), within_s=READY_S)

    def accepts() -> bool:
        with suppress(OSError):
            return bool(create_message(facts, "after the engine came back")["sid"])
        return False

    until(accepts, within_s=READY_S)
    assert is_alive(host)


def test_what_was_backed_up_is_there_after_a_restore(start: Start, tmp_path: Path) -> None:
    up = start(tmp_path / "data")
    facts = up.ready()
    message = create_message(facts, "keep me")
    refused = trunkline("backup", "--data", str(tmp_path / "data"), "--to", str(tmp_path / "b"))
    assert f"is in use by process {up.process.pid}" in refused.stderr
    up.end()

    written = trunkline("backup", "--data", str(tmp_path / "data"), "--to", str(tmp_path / "b"))
    placed = trunkline("restore", "--from", str(tmp_path / "b"), "--data", str(tmp_path / "new"))

    assert (written.returncode, placed.returncode) == (0, 0), written.stderr + placed.stderr
    again = start(tmp_path / "new").ready()
    assert again["account_sid"] == facts["account_sid"]
    url = f"{again['base_url']}{message['uri']}"
    assert request(url, again["account_sid"], again["auth_token"])["body"] == "keep me"


def test_an_ephemeral_host_leaves_nothing_behind(start: Start, tmp_path: Path) -> None:
    up = start(tmp_path / "unused", "--ephemeral")
    facts = up.ready()
    data = Path(facts["hosts"][0]["data"])
    assert create_message(facts, "for a moment")["sid"]
    assert len(descendants(up.process.pid)) == 2  # no engine

    code, out, _ = up.end()

    assert code == 0
    assert "everything is gone when this ends" in out
    assert not data.exists()
    assert not (tmp_path / "unused").exists()


def test_a_host_whose_engine_is_not_there_says_so(tmp_path: Path) -> None:
    done = trunkline("up", "--data", str(tmp_path / "data"), "--nats-server", "/nowhere/nats")

    assert done.returncode == 1
    assert done.stderr == "trunkline: /nowhere/nats is not a program: correct --nats-server\n"


@pytest.mark.parametrize("name", ["nowhere/ready.json", "data.txt/ready.json", "."])
def test_a_ready_file_that_cannot_be_written_is_refused_before_the_start(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "data.txt").write_text("a file")
    place = ("--data", str(tmp_path / "data"), "--http", "127.0.0.1:0")

    done = trunkline("up", *place, "--ready-file", str(tmp_path / name))

    assert done.returncode == 1
    assert done.stderr.startswith("trunkline: cannot write the ready file ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_a_phone_reads_at_the_host_that_was_named(start: Start, tmp_path: Path) -> None:
    up = start(tmp_path / "data")
    facts = up.ready()
    create_message(facts, "for the phone of this host")

    def read() -> str:
        return trunkline("phone", "+12025550123", "--data", str(tmp_path / "data")).stdout

    until(lambda: "for the phone of this host" in read(), within_s=READY_S)
    up.end(signal.SIGKILL)
    until(lambda: not is_alive(facts["hosts"][0]["pid"]), within_s=GONE_S)
    done = trunkline("phone", "+12025550123", "--data", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "no host runs on" in done.stderr


def test_the_example_of_the_banner_stands_at_the_margin(start: Start, tmp_path: Path) -> None:
    up = start(tmp_path / "data")
    up.ready()
    _, out, _ = up.end()

    example = out.partition("from twilio.rest import Client\n")[2].partition("\n\n")[0]
    assert example.startswith("client = Client(")
    compile(example, "banner", "exec")
