"""A key names one message: at once, afterwards, with other words, and over the death of its host."""

import base64
import json
import os
import signal
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.system.running import (
    Running,
    descendants,
    get_json,
    is_running,
    simulator,
    up,
    wait_until,
)

pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.timeout(120)]

AT_ONCE = 50
HANDSET = "+12025550123"
CALLBACK = "http://127.0.0.1:9/told"

# The ways to give a key: a header of ours, the one that clients take for it, and the callback's.
WAYS: dict[str, tuple[dict[str, str], str]] = {
    "header": ({"Idempotency-Key": "one"}, CALLBACK),
    "token": ({"I-Twilio-Idempotency-Token": "two"}, CALLBACK),
    "fragment": ({}, f"{CALLBACK}#ik=three"),
}


@pytest.mark.parametrize("way", WAYS)
def test_fifty_repeats_at_once_and_those_after_a_crash_are_one_message(
    way: str, tmp_path: Path
) -> None:
    with simulator(tmp_path / "simulator") as carrier:
        with up(tmp_path / "data", carrier=carrier) as host:
            with ThreadPoolExecutor(max_workers=AT_ONCE) as threads:
                answers = list(threads.map(lambda _: create(host, way), range(AT_ONCE)))
            assert {status for status, _ in answers} == {201}
            first = told(answers[0][1])
            assert all(told(body) == first for _, body in answers)
            kill(host)

        with up(tmp_path / "data", carrier=carrier) as host:
            status, body = create(host, way)
            assert (status, told(body)) == (201, first)
            status, body = create(host, way, text="something else")
            assert (status, str(first["sid"]) in body["message"]) == (422, True)
            wait_until(lambda: received(carrier), "the message to arrive")
            assert create(host, way)[1]["sid"] == first["sid"]

        assert [message["body"] for message in received(carrier)] == ["the same"]


def create(host: Running, way: str, *, text: str = "the same") -> tuple[int, dict[str, Any]]:
    headers, callback = WAYS[way]
    facts = host.facts
    form = {
        "To": HANDSET, "From": facts["phone_number"], "Body": text, "StatusCallback": callback,
    }  # fmt: skip
    request = urllib.request.Request(  # noqa: S310 - our own server
        f"{facts['base_url']}/2010-04-01/Accounts/{facts['account_sid']}/Messages.json",
        urllib.parse.urlencode(form).encode(),
        headers,
    )
    secret = f"{facts['account_sid']}:{facts['auth_token']}".encode()
    request.add_header("Authorization", f"Basic {base64.b64encode(secret).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - as above
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def told(body: dict[str, Any]) -> dict[str, Any]:
    """What a repeat must say again; the message goes its way meanwhile."""
    moving = {"status", "date_updated", "date_sent", "price"}
    return {name: value for name, value in body.items() if name not in moving}


def kill(host: Running) -> None:
    whole_host = [host.pid, *descendants(host.pid)]
    for pid in whole_host:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, whole_host)), "the host to be gone")


def received(carrier: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get_json(f"{carrier}/v1/handsets/{HANDSET}/messages")
    return found
