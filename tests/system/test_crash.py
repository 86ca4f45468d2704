"""The promise, counted from outside: what was accepted arrives, and nothing twice in silence."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.system.running import (
    Running,
    descendants,
    get_json,
    is_running,
    put_json,
    simulator,
    up,
    wait_until,
)
from twilio.rest import Client

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

MESSAGES = 400
WINDOW = 10
HANDSET = "+12025550123"
LATENCY_MS = 100
SETTINGS = {"TRUNKLINE_CARRIER_ON_AMBIGUOUS": "resend", "TRUNKLINE_CARRIER_WINDOW": str(WINDOW)}


def test_a_host_killed_with_400_messages_queued_loses_none(tmp_path: Path) -> None:
    with slow_carrier(tmp_path) as carrier:
        with up(tmp_path / "data", carrier=carrier, settings=SETTINGS) as host:
            accepted = queue(host)
            wait_until(lambda: len(received(carrier)) >= 100, "a quarter to be delivered")
            whole_host = [host.pid, *descendants(host.pid)]
            for pid in whole_host:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not any(map(is_running, whole_host)), "the host to be gone")
        killed_at = len(received(carrier))
        assert killed_at < MESSAGES, "the host was killed too late to prove anything"

        with up(tmp_path / "data", carrier=carrier, settings=SETTINGS) as host:
            wait_until_settled(host, accepted)
            assert_kept_and_not_doubled_in_silence(carrier, accepted)


def test_a_killed_log_engine_loses_none_and_stops_nothing(tmp_path: Path) -> None:
    with (
        slow_carrier(tmp_path) as carrier,
        up(tmp_path / "data", carrier=carrier, settings=SETTINGS) as host,
    ):
        accepted = queue(host)
        wait_until(lambda: len(received(carrier)) >= 100, "a quarter to be delivered")
        (engine,) = (pid for pid, name in descendants(host.pid).items() if name == "nats-server")
        os.kill(engine, signal.SIGKILL)
        late = [create(host, "late-0"), create(host, "late-1")]

        wait_until_settled(host, accepted | dict(late))
        assert_kept_and_not_doubled_in_silence(carrier, accepted | dict(late))
        assert engine not in descendants(host.pid)


def queue(host: Running) -> dict[str, str]:
    """Body of each accepted message, with its SID: create them all at once."""
    with ThreadPoolExecutor(max_workers=16) as threads:
        return dict(threads.map(lambda n: create(host, f"crash-{n}"), range(MESSAGES)))


def create(host: Running, body: str) -> tuple[str, str]:
    message = client_of(host).messages.create(
        to=HANDSET, from_=host.facts["phone_number"], body=body
    )
    assert message.status == "queued"
    return body, str(message.sid)


def client_of(host: Running) -> Client:
    client = Client(host.facts["account_sid"], host.facts["auth_token"])
    client.api.base_url = host.facts["base_url"]
    return client


def received(carrier: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get_json(f"{carrier}/v1/handsets/{HANDSET}/messages")
    return found


def wait_until_settled(host: Running, accepted: dict[str, str]) -> None:
    client = client_of(host)

    def all_are_delivered() -> bool:
        told = {m.sid: m.status for m in client.messages.list(page_size=1000)}
        return all(told.get(sid) == "delivered" for sid in accepted.values())

    wait_until(all_are_delivered, "all messages to be delivered", within_s=60.0)


def assert_kept_and_not_doubled_in_silence(carrier: str, accepted: dict[str, str]) -> None:
    arrived = received(carrier)
    copies = Counter(message["body"] for message in arrived)
    assert copies.keys() == accepted.keys()
    flagged = [message for message in arrived if message["possible_duplicate"]]
    silent = Counter(m["body"] for m in arrived if not m["possible_duplicate"])
    assert max(silent.values()) == 1, "a message was sent twice and not flagged"
    assert len(flagged) <= WINDOW, "more are ambiguous than the window allows"


@contextmanager
def slow_carrier(folder: Path) -> Iterator[str]:
    with simulator(folder / "simulator") as carrier:
        put_json(f"{carrier}/v1/behaviour", {"latency_ms": LATENCY_MS})
        yield carrier
