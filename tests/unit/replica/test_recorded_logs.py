"""Logs of other versions: an old one is read as it was meant, a newer one is left to newer code."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.unit import recorded_log
from tests.unit.log.scripted_log import ACCOUNT, Publish, register, walk
from tests.unit.messaging.message_bench import CATCH_UP_STEP_S, TEST_MAX_S, Bench, Copy

from trunkline.domain.events import Kind, Receipt, Type
from trunkline.domain.status import Status
from trunkline.log.engines.memory import MemoryLog
from trunkline.log.event import changed_subject, encode
from trunkline.log.interface import Accepted
from trunkline.replica.queries import MessageFilter, NumberFilter

pytestmark = pytest.mark.anyio

NAME, BEHIND = "1" * 32, "2" * 32
ROWS_MAX = 1_000
DELIVERED = Receipt(status="delivered", carrier="acme", carrier_message_id="acme-1")


def replay(log: MemoryLog, version: str) -> None:
    """Put a recorded log where it was, message by message."""
    for stored in recorded_log.stored(version):
        shard = log._shards[stored.shard]
        assert shard.store(stored.subject, stored.payload, None, at=stored.at) == Accepted(
            stored.sequence
        )


@pytest.mark.parametrize("version", recorded_log.RECORDED)
async def test_a_log_of_an_older_version_reads_exactly_as_it_did_then(
    version: str, tmp_path: Path
) -> None:
    bench = Bench()
    replay(bench.log._inner, version)
    recorded = recorded_log.records(version)

    with capture_logs() as logs:
        async with Copy(bench, tmp_path / "replica.db").following() as copy:
            await copy.catch_up()
            (account,) = recorded.accounts
            messages = copy.replica.messages(account.sid, MessageFilter(), items_max=ROWS_MAX)
            numbers = copy.replica.numbers(account.sid, NumberFilter(), items_max=ROWS_MAX)

            assert copy.replica.account(account.sid) == account
            assert sorted(numbers, key=lambda number: number.settings.sid) == recorded.numbers
            told = [recorded_log.as_then(version, message) for message in messages]
            assert sorted(told, key=lambda message: message.sid) == recorded.messages
    assert logs == []


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": 2, "type": "cancel", "kind": "fax", "data": None},
        {"type": "cancelled"},
        {"kind": "call"},
    ],
)
async def test_what_only_a_newer_version_can_read_stops_the_copy_right_there(
    change: dict[str, object], tmp_path: Path
) -> None:
    bench = Bench()
    before = await bench.put(NAME)
    shard, subject = before.shard, changed_subject(before.shard, Kind.MESSAGE, ACCOUNT)
    newer = json.loads(encode(before.event)) | change
    await bench.log._store(Publish(shard, subject, json.dumps(newer).encode(), None))
    event = bench.author("receipts").event(
        Kind.MESSAGE, Type.RECEIPT, ACCOUNT, before.event.sid, DELIVERED
    )
    await bench.log._store(Publish(shard, subject, encode(event), None))

    for _ in range(2):  # another start of the same version comes no further
        with capture_logs() as logs:
            async with Copy(bench, tmp_path / "replica.db").following() as copy:
                await _until_told(bench, logs)
                await bench.pass_time(30.0)
                message = copy.replica.message(before.event.sid)
                lag_ms = copy.replica.lag_ms()

        assert message is not None
        assert message.status is Status.QUEUED  # what stands behind is not shown either
        assert lag_ms >= 29_000.0
        assert [entry["event"] for entry in logs] == ["replica.newer_log"]
        assert logs[0]["mend"] == "run the newer version"


async def _until_told(bench: Bench, logs: Sequence[object]) -> None:
    """The copy's disk takes real time."""
    async with asyncio.timeout(TEST_MAX_S):
        while not logs:
            await bench.clock.advance(CATCH_UP_STEP_S)


async def test_a_damaged_event_is_reported_and_passed_over(tmp_path: Path) -> None:
    bench = Bench()
    before = await bench.put(NAME)
    subject = register(walk(NAME)[0], NAME)
    for damaged in (b"junk", b"", b'{"v":1,"type":"receipt"}', b'{"v":"\xff', b"[" * 5000):
        await bench.log._store(Publish(before.shard, subject, damaged, None))
    await bench.put(BEHIND)

    with capture_logs() as logs:
        async with Copy(bench, tmp_path / "replica.db").following() as copy:
            await copy.catch_up()
            assert copy.replica.message("SM" + BEHIND) is not None

    assert [entry["event"] for entry in logs] == ["replica.unreadable_event"] * 5


async def test_optional_fields_that_were_added_later_are_passed_over(tmp_path: Path) -> None:
    bench = Bench()
    event = bench.author("newer").event(Kind.MESSAGE, Type.RECEIPT, ACCOUNT, "SM" + NAME, DELIVERED)
    written = json.loads(encode(event))
    written["span"] = "0af7"
    written["data"]["network"] = "310-260"
    created = await bench.put(NAME)
    subject = changed_subject(created.shard, Kind.MESSAGE, ACCOUNT)
    await bench.log._store(Publish(created.shard, subject, json.dumps(written).encode(), None))

    async with Copy(bench, tmp_path / "replica.db").following() as copy:
        await copy.catch_up()
        message = copy.replica.message("SM" + NAME)

    assert message is not None
    assert message.status is Status.DELIVERED
