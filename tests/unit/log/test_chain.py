"""A chain: one record behind another, written once however often the answer is lost."""

import pytest
from tests.unit.log.scripted_log import (
    ACCOUNT,
    Fate,
    ScriptedLog,
    in_virtual_time,
    pen,
    put,
    register,
)

from trunkline.domain.events import Claimed, Kind, MessageCreated, Type
from trunkline.kernel import Deadline, FakeClock
from trunkline.log.chain import AdvanceAnswer, Advanced, Overtaken, Stalled, advance
from trunkline.log.event import Event, decode

pytestmark = pytest.mark.anyio

NAME = "7" * 32
SHARD = 4
SUBJECT = register(SHARD, NAME)


@pytest.fixture
async def original(log: ScriptedLog, clock: FakeClock) -> int:
    """The sequence at which the chain begins."""
    body = MessageCreated(sid="SM" + NAME, sender="+15550001", recipient="+15550002", text="hello")
    return await put(log, SHARD, NAME, pen("one", clock), Type.ORIGINAL, body)


def claim(host: str, clock: FakeClock) -> Event:
    body = Claimed(attempt=1, nonce=f"{host}-1", lease=host, carrier="acme")
    return pen(host, clock).event(Kind.MESSAGE, Type.CLAIM, ACCOUNT, "SM" + NAME, body)


async def write(
    log: ScriptedLog, clock: FakeClock, record: Event, *, behind: int, within_s: float = 5.0
) -> AdvanceAnswer:
    deadline = Deadline.after(within_s, clock)
    writing = advance(log, SHARD, SUBJECT, record, expected=behind, clock=clock, deadline=deadline)
    return await in_virtual_time(clock, writing)


async def test_a_record_is_written_behind_what_its_writer_saw(
    log: ScriptedLog, clock: FakeClock, original: int
) -> None:
    record = claim("two", clock)

    assert await write(log, clock, record, behind=original) == Advanced(original + 1)
    assert (await log.chain(SHARD, NAME))[-1] == record


async def test_a_lost_answer_is_asked_for_again_until_it_is_known(
    log: ScriptedLog, clock: FakeClock, original: int
) -> None:
    log.will(SHARD, Fate.ANSWER_LOST, Fate.LOST, Fate.UNDECIDED, Fate.REFUSED)

    answer = await write(log, clock, claim("two", clock), behind=original)

    assert answer == Advanced(original + 1)
    assert len(await log.chain(SHARD, NAME)) == 2


async def test_a_try_that_lands_while_it_is_repeated_counts_once(
    log: ScriptedLog, clock: FakeClock, original: int
) -> None:
    log.will(SHARD, Fate.DELAYED)

    answer = await write(log, clock, claim("two", clock), behind=original)
    await log.land()

    assert answer == Advanced(original + 1)
    assert len(await log.chain(SHARD, NAME)) == 2


async def test_whoever_writes_second_is_told_what_stands_there(
    log: ScriptedLog, clock: FakeClock, original: int
) -> None:
    first = claim("two", clock)
    await write(log, clock, first, behind=original)

    answer = await write(log, clock, claim("six", clock), behind=original)

    assert isinstance(answer, Overtaken)
    assert answer.newest.sequence == original + 1
    assert decode(answer.newest.payload) == first


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.REFUSED, Fate.UNDECIDED])
async def test_what_is_not_known_by_the_deadline_is_not_concluded(
    log: ScriptedLog, clock: FakeClock, original: int, fate: Fate
) -> None:
    log.always(fate, SHARD)

    answer = await write(log, clock, claim("two", clock), behind=original)

    assert isinstance(answer, Stalled)
    assert clock.monotonic() == pytest.approx(5.0, abs=0.5)


async def test_a_chain_that_cannot_be_read_is_not_concluded_from(
    log: ScriptedLog, clock: FakeClock, original: int
) -> None:
    await write(log, clock, claim("two", clock), behind=original)
    log.unreadable.add(SHARD)
    assert isinstance(await write(log, clock, claim("six", clock), behind=original), Stalled)

    log.unreadable.clear()
    log.empty_looking.add(SHARD)
    assert isinstance(await write(log, clock, claim("six", clock), behind=original), Stalled)


async def test_a_deadline_that_has_passed_writes_nothing(
    log: ScriptedLog, clock: FakeClock, original: int
) -> None:
    answer = await write(log, clock, claim("two", clock), behind=original, within_s=0.0)

    assert isinstance(answer, Stalled)
    assert log.published == []
