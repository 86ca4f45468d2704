"""Looking a message up in the log itself: there, surely not there, or nobody can say."""

import pytest
from tests.unit.log.scripted_log import ACCOUNT, Fate, pen, put, walk
from tests.unit.messaging.message_bench import Bench

from trunkline.domain.events import MessageCreated, Tombstone, Type
from trunkline.domain.message import Message
from trunkline.domain.status import Status
from trunkline.kernel import Deadline, FakeClock
from trunkline.log.interface import Unreadable
from trunkline.log.limits import LATE_MAX_S
from trunkline.messaging.lookup import MessageLookup

pytestmark = pytest.mark.anyio

NAME = "c" * 32
SID = "SM" + NAME
FIRST, SECOND, *_ = walk(NAME)


async def look_up(
    bench: Bench, sid: str = SID, account: str = ACCOUNT
) -> Message | Unreadable | None:
    deadline = Deadline.after(5.0, bench.clock)
    return await MessageLookup(bench.log).message(account, sid, deadline=deadline)


async def test_a_message_just_accepted_is_found_by_its_sid(bench: Bench) -> None:
    await bench.put(NAME)

    found = await look_up(bench)

    assert isinstance(found, Message)
    assert (found.sid, found.account, found.status) == (SID, ACCOUNT, Status.QUEUED)


async def test_a_diverted_message_is_found_too(bench: Bench) -> None:
    bench.log.will(FIRST, Fate.LOST)
    await bench.put(NAME)

    found = await look_up(bench)

    assert isinstance(found, Message)
    assert found.position == 1


async def test_of_two_copies_the_first_in_the_order_is_shown(bench: Bench) -> None:
    bench.log.will(FIRST, Fate.ANSWER_LOST)
    await bench.put(NAME)

    found = await look_up(bench)

    assert isinstance(found, Message)
    assert found.position == 0


async def test_a_message_that_no_shard_has_is_surely_not_there(bench: Bench) -> None:
    assert await look_up(bench) is None


async def test_a_message_is_found_although_another_shard_cannot_be_asked(bench: Bench) -> None:
    await bench.put(NAME)
    bench.log.unreadable.update(shard for shard in range(bench.log.shards) if shard != FIRST)

    assert isinstance(await look_up(bench), Message)


async def test_a_message_is_not_denied_while_a_single_shard_cannot_be_asked(
    bench: Bench,
) -> None:
    bench.log.unreadable.add(walk(NAME)[-1])

    assert isinstance(await look_up(bench), Unreadable)


async def test_a_tombstone_or_a_late_original_is_not_a_message(bench: Bench) -> None:
    tombstone = Tombstone(for_shard=SECOND)
    await put(bench.log, FIRST, NAME, bench.author("one"), Type.TOMBSTONE, tombstone)
    long_ago = pen("old", FakeClock(wall=bench.clock.wall() - LATE_MAX_S - 1.0))
    body = MessageCreated(sid=SID, sender="+15550001", recipient="+15550002", text="hello")
    await put(bench.log, SECOND, NAME, long_ago, Type.ORIGINAL, body)

    assert await look_up(bench) is None


async def test_another_account_s_message_is_not_shown(bench: Bench) -> None:
    await bench.put(NAME)

    assert await look_up(bench, account="AC" + "b" * 32) is None


async def test_a_sid_of_other_letters_is_another_sid(bench: Bench) -> None:
    await bench.put(NAME)

    assert await look_up(bench, sid="MM" + NAME) is None
