"""A host and a log that a newer version has written to."""

import asyncio
import json
import random
import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any

import pytest
from tests.system.running import Running, get_json, up, wait_until
from twilio.rest import Client

from trunkline.domain.events import Kind
from trunkline.host.engine import Door, open_door
from trunkline.host.layout import Layout
from trunkline.kernel import SystemClock
from trunkline.log.event import changed_subject
from trunkline.log.interface import Accepted

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


def test_a_host_that_is_too_old_for_its_log_says_so_and_loses_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with up(data) as host:
        asyncio.run(write_as_a_newer_version_would(data, host.facts["account_sid"]))

        wait_until(lambda: not_ready(host) == ["replica"], "the host to notice")
        send(host, "what is accepted is still safe")
        assert host.stop() == 0

    command = [sys.executable, "-m", "trunkline", "up", "--data", str(data)]
    done = subprocess.run(
        [*command, "--http", "127.0.0.1:0", "--simulator-http", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "is of a newer version" in done.stderr
    assert "run the newer version of Trunkline" in done.stderr
    assert "Traceback" not in done.stderr


async def write_as_a_newer_version_would(data: Path, account: str) -> None:
    door = Door.find(Layout(data))
    async with open_door(door, clock=SystemClock(), rng=random.Random()) as log:
        subject = changed_subject(0, Kind.MESSAGE, account)
        answer = await log.publish(0, subject, b'{"v":2}', expected=None, timeout_s=5.0)
    assert isinstance(answer, Accepted)


def send(host: Running, body: str) -> None:
    client = Client(host.facts["account_sid"], host.facts["auth_token"])
    client.api.base_url = host.facts["base_url"]
    client.messages.create(to="+12025550123", from_=host.facts["phone_number"], body=body)


def not_ready(host: Running) -> list[str]:
    try:
        get_json(f"{host.facts['base_url']}/readyz")
    except urllib.error.HTTPError as refusal:
        answer: dict[str, Any] = json.load(refusal)
        return list(answer["not_ready"])
    return []
