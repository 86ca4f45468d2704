"""Retention on a real host: a trimmed log, and a read copy that is lost."""

import re
import shutil
import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from tests.system.running import Running, up, wait_until
from twilio.rest import Client

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

HANDSET = "+12025550123"
HASTENED = {"TRUNKLINE_CRASH_AT": "purge-after:1000000"}
"""Trims within seconds what else stays for two days; and the point is never reached."""
MESSAGES = 20


def test_a_lost_copy_of_a_trimmed_log_comes_back_from_its_snapshot(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    sids = delivered_and_trimmed(data)
    copy = data / "replica" / "replica.db"
    with copy.open("r+b") as file:
        file.truncate(copy.stat().st_size // 2)
        file.seek(0)
        file.write(b"spoilt")

    with up(data, settings=HASTENED) as host:
        client = client_of(host)
        assert delivered(client) == sids
        (number,) = client.incoming_phone_numbers.list()
        assert number.phone_number == host.facts["phone_number"]
        sid = send(client, host, "behind the snapshot")
        wait_until(lambda: sid in delivered(client), "it to be delivered")
        assert host.stop() == 0
    assert "replica.restored" in capfd.readouterr().err


def test_a_host_without_any_copy_of_what_was_trimmed_does_not_start(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    delivered_and_trimmed(data)
    shutil.rmtree(data / "replica")

    with pytest.raises(AssertionError), up(data):
        pass

    said = capfd.readouterr().err
    assert "there is no read copy to serve from" in said
    assert "trunkline restore" in said
    assert not (data / "replica" / "replica.db").exists(), "a copy with a hole must not be begun"


def delivered_and_trimmed(data: Path) -> set[str]:
    """The messages that a stopped host has in its copy and in no log any more."""
    with up(data, settings=HASTENED) as host:
        client = client_of(host)
        sids = {send(client, host, f"kept {number}") for number in range(MESSAGES)}
        wait_until(lambda: log_resources(host) > MESSAGES, "the log to be looked at")
        wait_until(lambda: delivered(client) == sids, "all to be delivered")
        wait_until(lambda: log_resources(host) <= 20, "the log to be trimmed", within_s=30.0)
        assert host.stop() == 0
    snapshots = list((data / "replica" / "snapshots").glob("*.db*"))
    assert [path.suffix for path in snapshots] == [".db", ".db"]
    for path in snapshots:
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT count(*) FROM message").fetchone()[0] >= MESSAGES
    return sids


def client_of(host: Running) -> Client:
    client = Client(host.facts["account_sid"], host.facts["auth_token"])
    client.api.base_url = host.facts["base_url"]
    return client


def send(client: Client, host: Running, body: str) -> str:
    sender = host.facts["phone_number"]
    return str(client.messages.create(to=HANDSET, from_=sender, body=body).sid)


def delivered(client: Client) -> set[str]:
    listed = client.messages.list(page_size=1000)
    return {str(message.sid) for message in listed if message.status == "delivered"}


def log_resources(host: Running) -> float:
    """How many subjects the log holds; infinite before the first pass."""
    with urllib.request.urlopen(f"{host.facts['base_url']}/metrics", timeout=10) as answer:  # noqa: S310 - our own server
        found = re.search(r"^trunkline_log_resources (\S+)", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else float("inf")
