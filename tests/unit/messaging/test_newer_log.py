"""A log that a newer version has written to: the services leave it alone, say so, and lose nothing."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.unit.log.scripted_log import ACCOUNT, register, walk
from tests.unit.messaging.message_bench import Bench, Copy, Service

from trunkline.domain.events import Kind
from trunkline.kernel import Deadline
from trunkline.log.engines.memory import MemoryLog
from trunkline.log.event import chain_subject, encode
from trunkline.log.interface import Unreadable
from trunkline.log.lookup import find_original
from trunkline.messaging.callbacks import StatusCallbacks
from trunkline.messaging.record import EventRecorder
from trunkline.webhooks.client import WebhookClient

pytestmark = pytest.mark.anyio

NAME = "8" * 32
SID = "SM" + NAME
SHARD = walk(NAME)[0]


SUBJECTS = {"dispatch": register(SHARD, NAME), "webhooks": chain_subject(SHARD, Kind.MESSAGE)}


async def newer_message(
    bench: Bench, log: MemoryLog, service: str, change: dict[str, object]
) -> None:
    """Something about the message, as a newer version would have written it where a service looks."""
    event = (await bench.put(NAME)).event
    payload = json.dumps(json.loads(encode(event)) | change).encode()
    await log.publish(SHARD, SUBJECTS[service], payload, expected=0, timeout_s=0.0)


async def left_in_the_log(log: MemoryLog, service: str) -> int:
    """How many deliveries a service of a newer host would be given in the place of this one."""
    consumer = await log.consumer(SHARD, service, [SUBJECTS[service]])
    return len(await consumer.fetch(10, 0.0))


def dispatcher(bench: Bench, copy: Copy) -> Service:
    del copy
    return bench.dispatcher("one")


def callbacks(bench: Bench, copy: Copy) -> Service:
    return StatusCallbacks(
        log=bench.log,
        replica=copy.replica,
        client=WebhookClient(clock=bench.clock, rng=random.Random(1)),
        recorder=EventRecorder(bench.log, author=bench.author("one")),
        author=bench.author("one"),
        clock=bench.clock,
        rng=random.Random(1),
    )


@pytest.mark.parametrize("change", [{"v": 2}, {"type": "postponed"}])
@pytest.mark.parametrize(
    ("service", "make", "says"),
    [
        ("dispatch", dispatcher, "dispatch.failed"),
        ("webhooks", callbacks, "intake.unreadable"),
    ],
)
async def test_an_event_of_a_newer_version_is_reported_and_never_acknowledged(
    service: str,
    make: Callable[[Bench, Copy], Service],
    says: str,
    change: dict[str, object],
    tmp_path: Path,
) -> None:
    log = MemoryLog(clock=(bench := Bench()).clock)
    await newer_message(bench, log, service, change)

    async with Copy(bench, tmp_path / "replica.db").following() as copy:
        bench.log._inner = log
        with capture_logs() as logs:
            async with bench.running(make(bench, copy)):
                await bench.pass_time(1.0)
    await bench.clock.advance(60.0)

    assert [entry["event"] for entry in logs] == [says]
    assert bench.log.acked == []
    assert bench.carrier.submitted == []
    assert await left_in_the_log(log, service) == 1


async def test_a_message_of_a_newer_version_is_not_said_to_be_missing() -> None:
    log = MemoryLog(clock=(bench := Bench()).clock)
    await newer_message(bench, log, "dispatch", {"v": 2})

    deadline = Deadline.after(1.0, bench.clock)
    found = await find_original(log, Kind.MESSAGE, ACCOUNT, SID, deadline=deadline)

    assert isinstance(found, Unreadable)
    assert "version 2" in found.reason
