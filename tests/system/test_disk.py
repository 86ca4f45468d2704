"""What the disk can do to one host: fill up, shrink, lose a part; and what the host then says."""

import contextlib
import errno
import http.client
import itertools
import json
import shutil
import subprocess
import sys
import threading
import urllib.error
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import pytest
from tests.system.running import Running, get_json, simulator, up, wait_until
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from trunkline.host.engine import WRITE_FAILED

pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.timeout(120)]

HANDSET = "+12025550123"
MIB = 1024 * 1024
LOAD_EVERY_S = 0.005
FILLINGS_MAX = 5
"""The host may see the disk fill up before any write of the engine fails, about once in nine."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 512 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("needs to mount a small file system: run as root on Linux")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_host_whose_disk_has_become_smaller_starts_again(tmp_path: Path) -> None:
    settings = {"TRUNKLINE_LOG_BYTES_MAX": "1000000GiB"}
    with up(tmp_path / "data", settings=settings) as host:
        sid = send(host, "before")
        assert host.stop() == 0
    (tmp_path / "something else").write_bytes(bytes(64 * MIB))

    with up(tmp_path / "data", settings=settings) as host:
        assert client_of(host).messages(sid).fetch().sid == sid
        send(host, "after")


def test_a_full_disk_refuses_creates_at_once_and_takes_them_again_by_itself(
    small_disk: Path,
) -> None:
    with up(small_disk / "data") as host:
        kept = send(host, "before")
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 100 * MIB))
        wait_until(lambda: not_ready(host) == ["room"], "the host to notice")

        with pytest.raises(TwilioRestException) as refusal:
            send(host, "while full")
        assert (refusal.value.status, refusal.value.code) == (503, 20503)
        wait_until(lambda: status_of(host, kept) == "delivered", "what was accepted to go out")

        ballast.unlink()
        wait_until(lambda: not_ready(host) == [], "the host to notice again")
        sid = send(host, "after")
        wait_until(lambda: status_of(host, sid) == "delivered", "it to go out")


def test_a_disk_that_fills_up_under_load_loses_nothing_and_needs_no_restart(
    small_disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        simulator(tmp_path / "carrier") as carrier,
        up(small_disk / "data", carrier=carrier) as host,
        Load(host) as load,
    ):
        wait_until(lambda: len(load.accepted) >= 50, "the load to be accepted")
        ballast, said = small_disk / "ballast", small_disk / "data" / "run" / "nats.log"
        for _ in range(FILLINGS_MAX):
            fill_up(ballast)
            wait_until(lambda: load.refused_in_a_row >= 20, "creates to be refused")
            assert not_ready(host) == ["room"]
            ballast.unlink()
            wait_until(lambda: load.accepted_in_a_row >= 50, "creates to go on")
            if WRITE_FAILED in said.read_text().lower():
                break
        load.stop()

        assert set(load.refusals) == {503}
        wait_until(lambda: load.accepted <= set(arrived(carrier)), "everything accepted to arrive")
        bodies = arrived(carrier)
        assert len(bodies) == len(set(bodies))
        assert host.stop() == 0
    events = capfd.readouterr().err
    # A write of the engine failed: such a shard takes nothing more until the engine is started anew.
    assert "engine.replaced" in events
    assert "starting it again" not in events


def test_a_shard_that_is_missing_is_a_loss_and_is_refused(tmp_path: Path) -> None:
    with up(tmp_path / "data") as host:
        send(host, "kept somewhere")
        assert host.stop() == 0
    (lost,) = (tmp_path / "data" / "log").rglob("EV_3")
    shutil.rmtree(lost)

    command = [sys.executable, "-m", "trunkline", "up", "--data", str(tmp_path / "data")]
    done = subprocess.run(
        [*command, "--http", "127.0.0.1:0", "--simulator-http", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "shard 3 is missing" in done.stderr
    assert "backup" in done.stderr
    assert "Traceback" not in done.stderr


def fill_up(path: Path) -> None:
    """Take every byte that the disk has left, and what is given back meanwhile."""
    with path.open("wb", buffering=0) as file:
        piece = 16 * MIB
        while piece >= 4096:
            try:
                file.write(bytes(piece))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                piece //= 2


class Load:
    """Creates without end from a thread, each under a key of its own, until stopped."""

    def __init__(self, host: Running) -> None:
        self.accepted: set[str] = set()
        self.refusals: Counter[int] = Counter()
        self.refused_in_a_row = 0
        self.accepted_in_a_row = 0
        self._host = host
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=20.0)

    def _run(self) -> None:
        account, token = self._host.facts["account_sid"], self._host.facts["auth_token"]
        url = urlsplit(self._host.facts["base_url"])
        secret = b64encode(f"{account}:{token}".encode()).decode()
        form = {"To": HANDSET, "From": self._host.facts["phone_number"]}
        path = f"/2010-04-01/Accounts/{account}/Messages.json"
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=20)
        with contextlib.closing(connection):
            for number in itertools.count():
                if self._stopping.wait(LOAD_EVERY_S):
                    return
                body = f"message {number}"
                headers = {
                    "Authorization": f"Basic {secret}",
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Idempotency-Key": body,
                }
                connection.request("POST", path, urlencode(form | {"Body": body}), headers)
                answer = connection.getresponse()
                answer.read()
                self._note(body, answer.status)

    def _note(self, body: str, status: int) -> None:
        if status == 201:
            self.accepted.add(body)
            self.refused_in_a_row = 0
            self.accepted_in_a_row += 1
        else:
            self.refusals[status] += 1
            self.refused_in_a_row += 1
            self.accepted_in_a_row = 0


def arrived(carrier: str) -> list[str]:
    """What the handset has, oldest first."""
    bodies: list[str] = []
    after = 0
    while True:
        url = f"{carrier}/v1/handsets/{HANDSET}/messages?limit=1000&after={after}"
        page = get_json(url)
        if not page:
            return bodies
        bodies += [message["body"] for message in page]
        after = page[-1]["n"]


def client_of(host: Running) -> Client:
    client = Client(host.facts["account_sid"], host.facts["auth_token"])
    client.api.base_url = host.facts["base_url"]
    return client


def send(host: Running, body: str) -> str:
    sender = host.facts["phone_number"]
    return str(client_of(host).messages.create(to=HANDSET, from_=sender, body=body).sid)


def status_of(host: Running, sid: str) -> str:
    return str(client_of(host).messages(sid).fetch().status)


def not_ready(host: Running) -> list[str]:
    """What `/readyz` names; nothing when it says ready."""

    try:
        get_json(f"{host.facts['base_url']}/readyz")
    except urllib.error.HTTPError as refusal:
        answer: dict[str, Any] = json.load(refusal)
        return list(answer["not_ready"])
    return []
