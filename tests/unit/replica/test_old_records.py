"""Finished records leave the copy when they were kept long enough; unfinished ones never do."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from trunkline.domain.events import (
    Ambiguous,
    Canceled,
    Claimed,
    Deleted,
    HandedOver,
    Kind,
    MessageCreated,
    MessageReceived,
    Receipt,
    Refused,
    Type,
)
from trunkline.domain.events import Body as Fact
from trunkline.kernel import FakeClock
from trunkline.log.event import Event, chain_subject, encode_body
from trunkline.log.interface import Stored
from trunkline.replica import old_records, schema
from trunkline.replica.folding import Folding
from trunkline.replica.old_records import BATCH_MAX, OldRecords

pytestmark = pytest.mark.anyio

NOW: Final = 1_700_000_000.0
MONTH_S: Final = 31 * 86_400.0
OLD: Final = NOW - 14 * MONTH_S
YOUNG: Final = NOW - MONTH_S
KEEP_S: Final = 13 * MONTH_S

CLAIM: Final = Claimed(attempt=1, nonce="n", lease="l", carrier="acme")
SENT: Final = HandedOver(attempt=1, carrier="acme", carrier_message_id="1")
DELIVERED: Final = Receipt(status="delivered", carrier="acme", carrier_message_id="1")
FAILED: Final = Refused(attempt=1, error_code=30003)
HELD: Final = Ambiguous(attempt=1, is_held=True)


class Table:
    """The copy's messages, written as the projector writes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folding = Folding(schema.open_for_writing(path, cluster="test"))
        self._count = 0

    def add(
        self,
        *facts: Fact,
        at: float,
        account: str = "AC1",
        is_known: bool = True,
        send_at: float | None = None,
    ) -> str:
        """A message with these later events; its digits."""
        self._count += 1
        digits = f"{self._count:032x}"
        original = MessageCreated(
            sid="SM" + digits, sender="+1", recipient="+2", text="hello", send_at=send_at
        )
        for fact in (original, *facts) if is_known else facts:
            self._take(digits, fact, at, account)
        self._folding.write()
        self._folding.commit()
        self._folding.forget_written()
        return digits

    def add_inbound(self, *, at: float) -> str:
        self._count += 1
        digits = f"{self._count:032x}"
        self._take(
            digits,
            MessageReceived(sid="SM" + digits, sender="+1", recipient="+2", text="hi"),
            at,
            "AC1",
        )
        self._folding.write()
        self._folding.commit()
        self._folding.forget_written()
        return digits

    def _take(self, digits: str, fact: Fact, at: float, account: str) -> None:
        is_original = isinstance(fact, MessageCreated | MessageReceived)
        event = Event(
            id="e",
            kind=Kind.INBOUND if isinstance(fact, MessageReceived) else Kind.MESSAGE,
            type=Type.ORIGINAL if is_original else Type.OUTCOME,
            sid="SM" + digits,
            account=account,
            at=at,
            by_host="one",
            data=encode_body(fact),
        )
        stored = Stored(0, chain_subject(0, event.kind), 1, at, b"")
        self._folding.add(event, fact, stored)

    def digits(self) -> set[str]:
        with closing(schema.open_for_reading(self.path)) as database:
            return {row[0] for row in database.execute("SELECT digits FROM message")}

    def close(self) -> None:
        self._folding.close()


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    table = Table(tmp_path / "replica.db")
    yield table
    table.close()


async def forget(table: Table, keep_s: float | None = KEEP_S) -> int:
    async def here(step: old_records.Step) -> old_records.Stepped:
        return step()

    clock = FakeClock()
    async with asyncio.TaskGroup() as tasks:
        walk = tasks.create_task(OldRecords(table.path, keep_s).forget(NOW, here, clock))
        while not walk.done():
            await clock.advance(1.0)
    return walk.result()


async def test_finished_records_leave_when_they_are_old(table: Table) -> None:
    finished: list[tuple[Fact, ...]] = [
        (CLAIM, SENT, DELIVERED), (CLAIM, SENT), (CLAIM, FAILED),
    ]  # fmt: skip
    for facts in finished:
        table.add(*facts, at=OLD)
    table.add_inbound(at=OLD)
    kept = {table.add(*facts, at=YOUNG) for facts in finished}

    assert await forget(table) == len(finished) + 1

    assert table.digits() == kept


async def test_unfinished_ones_stay_however_old_they_are(table: Table) -> None:
    unfinished: list[tuple[Fact, ...]] = [(), (CLAIM,), (CLAIM, HELD)]
    kept = {table.add(*facts, at=0.0 + 86_400.0) for facts in unfinished}

    assert await forget(table) == 0

    assert table.digits() == kept


async def test_what_is_left_of_a_message_that_is_gone_leaves_too(table: Table) -> None:
    table.add(DELIVERED, at=OLD, is_known=False)
    kept = table.add(DELIVERED, at=YOUNG, is_known=False)

    assert await forget(table) == 1
    assert table.digits() == {kept}


async def test_many_of_many_accounts_leave_in_small_steps(table: Table) -> None:
    kept = {table.add(at=OLD + number, account="AC2") for number in range(BATCH_MAX + 1)}
    for number in range(2 * BATCH_MAX + 1):
        table.add(FAILED, at=OLD, account=f"AC{number % 3}")

    assert await forget(table) == 2 * BATCH_MAX + 1

    assert table.digits() == kept


async def test_with_no_limit_everything_stays(table: Table) -> None:
    table.add(FAILED, at=1.0)

    assert await forget(table, keep_s=None) == 0


async def test_a_busy_copy_is_left_for_the_next_time(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_TIMEOUT_S", 0.01)
    digits = table.add(FAILED, at=OLD)
    with closing(schema.open_for_writing(table.path, cluster="test")) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert await forget(table) == 0
        writer.execute("ROLLBACK")

    assert table.digits() == {digits}
    assert await forget(table) == 1


@pytest.mark.parametrize("end", [Canceled(), SENT])
async def test_a_scheduled_message_is_kept_from_its_time_on(table: Table, end: Fact) -> None:
    young = table.add(end, at=OLD, send_at=YOUNG)
    table.add(end, at=OLD - MONTH_S, send_at=OLD)

    assert await forget(table) == 1
    assert table.digits() == {young}


async def test_a_deleted_message_is_remembered_for_as_long_as_any_other(table: Table) -> None:
    table.add(CLAIM, SENT, DELIVERED, Deleted(), at=OLD)
    young = table.add(CLAIM, SENT, DELIVERED, Deleted(), at=YOUNG)

    assert await forget(table) == 1
    assert table.digits() == {young}
