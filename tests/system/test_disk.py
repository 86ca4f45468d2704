"""What the disk can do to one host: fill up, shrink, lose a part; and what the host then says."""

import json
import shutil
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.running import Running, get_json, up, wait_until
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

HANDSET = "+12025550123"
MIB = 1024 * 1024


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
