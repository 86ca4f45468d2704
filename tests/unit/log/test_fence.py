"""The fence: which copy of a resource counts, whoever asks, however often, in whatever order."""

import pytest
from tests.unit.log.conftest import Host
from tests.unit.log.scripted_log import (
    Fate,
    Publish,
    ScriptedLog,
    in_virtual_time,
    pen,
    put,
    register,
    walk,
)

from trunkline.domain.events import MessageCreated, Tombstone, Type
from trunkline.domain.sid import digits_of
from trunkline.kernel import Deadline, FakeClock
from trunkline.log.append import Appended, Found, Uncertain
from trunkline.log.event import Event, encode
from trunkline.log.fence import Verdict, is_true_copy
from trunkline.log.interface import Exists, Stored
from trunkline.log.limits import LATE_MAX_S, WORK_MAX_S

pytestmark = pytest.mark.anyio

NAME = "6" * 32
FIRST, SECOND, THIRD, *REST = walk(NAME)


async def fence(log: ScriptedLog, clock: FakeClock, event: Event, shard: int) -> Verdict:
    deadline = Deadline.after(WORK_MAX_S, clock)
    subject = register(shard, digits_of(event.sid))
    stored = Stored(shard, subject, 1, event.at, encode(event))
    asked = is_true_copy(log, event, stored, clock=clock, deadline=deadline)
    return await in_virtual_time(clock, asked)


async def diverted(log: ScriptedLog, host: Host, *, is_keyed: bool = True) -> Appended:
    """A copy in the second shard, because the first lost its create."""
    log.will(FIRST, Fate.LOST)
    copy = await host.created(NAME, is_keyed=is_keyed)
    assert copy.shard == SECOND
    return copy


async def test_a_copy_in_its_first_shard_is_true_without_asking_anybody(
    log: ScriptedLog, clock: FakeClock, host: Host
) -> None:
    copy = await host.created(NAME)
    log.published.clear()

    assert await fence(log, clock, copy.event, copy.shard) is Verdict.TRUE
    assert log.published == []


async def test_an_empty_earlier_shard_is_closed_by_a_tombstone(
    log: ScriptedLog, clock: FakeClock, host: Host
) -> None:
    copy = await diverted(log, host)

    assert await fence(log, clock, copy.event, copy.shard) is Verdict.TRUE

    (tombstone,) = await log.chain(FIRST, NAME)
    assert tombstone.body() == Tombstone(for_shard=SECOND)


@pytest.mark.parametrize("is_keyed", [True, False])
async def test_a_create_that_lands_after_the_fence_is_too_late(
    log: ScriptedLog, clock: FakeClock, host: Host, *, is_keyed: bool
) -> None:
    # S5: the first shard applies the create only when the second copy has been dispatched.
    log.will(FIRST, Fate.DELAYED)
    copy = await host.created(NAME, is_keyed=is_keyed)
    assert await fence(log, clock, copy.event, copy.shard) is Verdict.TRUE

    assert await log.land() == [Exists()]

    assert [event.type for event in await log.chain(FIRST, NAME)] == [Type.TOMBSTONE]


@pytest.mark.parametrize("is_keyed", [True, False])
async def test_a_create_that_landed_before_the_fence_makes_the_later_copy_a_duplicate(
    log: ScriptedLog, clock: FakeClock, host: Host, *, is_keyed: bool
) -> None:
    log.will(FIRST, Fate.ANSWER_LOST)
    copy = await host.created(NAME, is_keyed=is_keyed)
    (earlier,) = await log.chain(FIRST, NAME)

    assert await fence(log, clock, copy.event, copy.shard) is Verdict.DUPLICATE
    assert await fence(log, clock, earlier, FIRST) is Verdict.TRUE


async def test_two_copies_never_kill_each_other(
    log: ScriptedLog, clock: FakeClock, host: Host, other_host: Host
) -> None:
    # S1: one host passes the first shard over and commits in the second; another does not.
    host.health.eject(FIRST)
    log.will(SECOND, Fate.ANSWER_LOST)
    behind = await host.created(NAME)
    assert behind.shard == THIRD
    before = await other_host.created(NAME)
    assert before.shard == FIRST
    (between,) = await log.chain(SECOND, NAME)

    verdicts = [
        await fence(log, clock, between, SECOND),
        await fence(log, clock, before.event, FIRST),
        await fence(log, clock, behind.event, THIRD),
    ]

    assert verdicts == [Verdict.DUPLICATE, Verdict.TRUE, Verdict.DUPLICATE]


async def test_a_create_repeated_while_nothing_answered_does_not_kill_itself(
    log: ScriptedLog, clock: FakeClock, host: Host, other_host: Host
) -> None:
    # S2: every shard is unknown, all copies land afterwards, and the client repeats its key.
    log.always(Fate.DELAYED)
    assert isinstance(await host.create(NAME), Uncertain)
    log.always(Fate.WELL)
    await log.land()

    assert isinstance(await other_host.create(NAME), Found)
    copies = {shard: (await log.chain(shard, NAME))[0] for shard in walk(NAME)}
    verdicts = [await fence(log, clock, event, shard) for shard, event in copies.items()]

    assert verdicts == [Verdict.TRUE, *[Verdict.DUPLICATE] * (log.shards - 1)]


async def test_an_earlier_proposal_under_way_is_waited_for(
    log: ScriptedLog, clock: FakeClock, host: Host
) -> None:
    # S7: dropping the later copy would lose it, if the proposal is lost in an election.
    log.will(FIRST, Fate.PROPOSED)
    copy = await host.created(NAME)
    assert copy.shard == SECOND
    asked_at = clock.monotonic()

    async def elect(publish: Publish) -> None:
        del publish
        if clock.monotonic() - asked_at > 4.0:
            log.lose()

    log.on_publish = elect

    assert await fence(log, clock, copy.event, copy.shard) is Verdict.TRUE
    assert clock.monotonic() - asked_at > 4.0


async def test_an_earlier_proposal_that_commits_makes_the_later_copy_a_duplicate(
    log: ScriptedLog, clock: FakeClock, host: Host
) -> None:
    log.will(FIRST, Fate.PROPOSED)
    copy = await host.created(NAME)

    async def commit(publish: Publish) -> None:
        del publish
        log.on_publish = None
        await log.land()

    log.on_publish = commit

    assert await fence(log, clock, copy.event, copy.shard) is Verdict.DUPLICATE


async def test_a_repeat_and_a_fence_that_planted_a_tombstone_agree_on_one_copy(
    log: ScriptedLog, clock: FakeClock, host: Host, other_host: Host
) -> None:
    # S9: the copy stands third; its fence closed only the first shard and died.
    log.will(FIRST, Fate.LOST)
    log.will(SECOND, Fate.LOST)
    third = await host.created(NAME)
    assert third.shard == THIRD
    await put(log, FIRST, NAME, host.author, Type.TOMBSTONE, Tombstone(for_shard=THIRD))

    repeat = await other_host.created(NAME)

    assert repeat.shard == SECOND
    assert await fence(log, clock, repeat.event, SECOND) is Verdict.TRUE
    assert await fence(log, clock, third.event, THIRD) is Verdict.DUPLICATE


async def test_a_late_original_is_closed_and_does_not_drop_the_copy_behind_it(
    log: ScriptedLog, clock: FakeClock, host: Host
) -> None:
    # S14: the late one is never dispatched, so dropping the other would lose the message.
    copy = await diverted(log, host)
    long_ago = pen("old", FakeClock(wall=clock.wall() - LATE_MAX_S - 1.0))
    body = MessageCreated(sid="SM" + NAME, sender="+15550001", recipient="+15550002", text="hello")
    await put(log, FIRST, NAME, long_ago, Type.ORIGINAL, body)

    assert await fence(log, clock, copy.event, copy.shard) is Verdict.TRUE


async def test_an_answer_never_changes(
    log: ScriptedLog, clock: FakeClock, host: Host, other_host: Host
) -> None:
    log.will(FIRST, Fate.DELAYED)
    log.will(SECOND, Fate.DELAYED)
    copy = await host.created(NAME)
    answers = [await fence(log, clock, copy.event, THIRD)]

    await log.land()
    answers.append(await fence(log, clock, copy.event, THIRD))
    await other_host.create(NAME)
    answers.append(await fence(log, clock, copy.event, THIRD))

    assert answers == [Verdict.TRUE] * 3


async def test_a_keyless_copy_asks_only_the_shards_it_names(
    log: ScriptedLog, clock: FakeClock, host: Host
) -> None:
    log.will(FIRST, Fate.REFUSED)
    log.will(SECOND, Fate.LOST)
    copy = await host.created(NAME, is_keyed=False)
    log.published.clear()

    assert await fence(log, clock, copy.event, copy.shard) is Verdict.TRUE
    assert [publish.shard for publish in log.published] == [SECOND]


@pytest.mark.parametrize("fate", [Fate.REFUSED, Fate.LOST, Fate.UNDECIDED])
async def test_an_earlier_shard_that_cannot_be_asked_leaves_it_unsettled(
    log: ScriptedLog, clock: FakeClock, host: Host, fate: Fate
) -> None:
    copy = await diverted(log, host)
    log.always(fate, FIRST)
    asked_at = clock.monotonic()

    assert await fence(log, clock, copy.event, copy.shard) is Verdict.UNSETTLED
    assert clock.monotonic() - asked_at == pytest.approx(WORK_MAX_S, abs=1.0)


async def test_an_earlier_register_that_looks_empty_proves_nothing(
    log: ScriptedLog, clock: FakeClock, host: Host
) -> None:
    log.will(FIRST, Fate.ANSWER_LOST)
    copy = await host.created(NAME)
    log.empty_looking.add(FIRST)
    assert await fence(log, clock, copy.event, copy.shard) is Verdict.UNSETTLED

    log.empty_looking.clear()
    log.unreadable.add(FIRST)
    assert await fence(log, clock, copy.event, copy.shard) is Verdict.UNSETTLED

    log.unreadable.clear()
    assert await fence(log, clock, copy.event, copy.shard) is Verdict.DUPLICATE


async def test_a_tombstone_never_replaces_anything(
    log: ScriptedLog, clock: FakeClock, host: Host
) -> None:
    log.will(FIRST, Fate.ANSWER_LOST)
    copy = await host.created(NAME)

    await fence(log, clock, copy.event, copy.shard)

    (standing,) = await log.chain(FIRST, NAME)
    assert standing.type is Type.ORIGINAL
    assert log.published[-1].subject == register(FIRST, NAME)
