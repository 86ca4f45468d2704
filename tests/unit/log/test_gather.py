"""Keyless creates that come while others are being stored share a register and a flush."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.unit.log.scripted_log import ACCOUNT, Fate, ScriptedLog, in_virtual_time, pen

from trunkline.domain.events import Kind, MessageCreated, Type
from trunkline.kernel import Deadline, FakeClock
from trunkline.log.append import (
    AppendAnswer,
    Appended,
    Draft,
    NotStored,
    ShardHealth,
    Uncertain,
    append,
)
from trunkline.log.fence import Verdict, is_true_copy
from trunkline.log.gather import (
    GATHERED_BYTES_MAX,
    GATHERED_MAX,
    WALK_EVERY_S,
    Gatherer,
)
from trunkline.log.lookup import find_original
from trunkline.log.names import KEPT_MAX, SHARED_DIGITS, STAY_S, Names
from trunkline.log.shards import order

pytestmark = pytest.mark.anyio

OTHER_ACCOUNT = "AC" + "b" * 32


class Creator:
    """Creates what it is told to, all at the same moment, over one gatherer."""

    def __init__(self, log: ScriptedLog, clock: FakeClock) -> None:
        self._log = log
        self._clock = clock
        self._author = pen("one", clock)
        self._health = ShardHealth(clock)
        self.names = Names(
            log.shards,
            entropy=self._author.entropy,
            clock=clock,
            is_passable=lambda shard: not self._health.is_ejected(shard),
        )
        self.gatherer = Gatherer(self._walk, author=self._author, names=self.names)

    async def _walk(self, draft: Draft) -> AppendAnswer:
        return await append(self._log, draft, author=self._author, health=self._health)

    async def create(self, text: str, account: str = ACCOUNT) -> AppendAnswer:
        place = self.gatherer.place("SM", account)
        body = MessageCreated(sid=place.sid, sender="+15550001", recipient="+15550002", text=text)
        draft = Draft(Kind.MESSAGE, place.sid, account, body, is_keyed=False)
        return await self.gatherer.append(place, draft)

    async def at_once(
        self, *texts: str, accounts: Sequence[str] = (ACCOUNT,)
    ) -> list[AppendAnswer]:
        async def all_of_them() -> list[AppendAnswer]:
            async with asyncio.TaskGroup() as tasks:
                creates = [
                    tasks.create_task(self.create(text, account))
                    for text in texts
                    for account in accounts
                ]
            return [each.result() for each in creates]

        return await in_virtual_time(self._clock, all_of_them())


@pytest.fixture
def creator(log: ScriptedLog, clock: FakeClock) -> Creator:
    async def slow(publish: object) -> None:
        del publish
        await asyncio.sleep(0)  # as any engine would, so that others get their turn

    log.on_publish = slow
    return Creator(log, clock)


def texts_of(answers: Sequence[AppendAnswer]) -> list[str]:
    bodies = [each.event.body() for each in answers if isinstance(each, Appended)]
    return [body.text for body in bodies if isinstance(body, MessageCreated)]


async def test_who_comes_alone_waits_for_nobody(log: ScriptedLog, creator: Creator) -> None:
    (answer,) = await creator.at_once("a")

    assert texts_of([answer]) == ["a"]
    assert [len(publish.events) for publish in log.published] == [1]


async def test_what_comes_while_a_walk_is_under_way_goes_together(
    log: ScriptedLog, creator: Creator
) -> None:
    answers = await creator.at_once("a", "b", "c", "d")

    assert texts_of(answers) == ["a", "b", "c", "d"]
    assert [len(publish.events) for publish in log.published] == [1, 3]


async def test_each_is_told_its_own_sid_and_those_of_a_register_begin_alike(
    log: ScriptedLog, creator: Creator
) -> None:
    answers = await creator.at_once("a", "b", "c")

    sids = [each.event.sid for each in answers if isinstance(each, Appended)]
    assert len(set(sids)) == 3
    assert sids[1][: 2 + SHARED_DIGITS] == sids[2][: 2 + SHARED_DIGITS]
    assert log.published[1].subject.endswith(sids[1][2 : 2 + SHARED_DIGITS])


async def test_accounts_never_share_a_register(log: ScriptedLog, creator: Creator) -> None:
    await creator.at_once("a", "b", "c", accounts=(ACCOUNT, OTHER_ACCOUNT))

    for publish in log.published:
        assert len({event.account for event in publish.events}) == 1


@pytest.mark.parametrize(
    ("fate", "kind"), [(Fate.REFUSED, NotStored), (Fate.LOST, Uncertain), (Fate.WELL, Appended)]
)
async def test_all_that_go_together_are_answered_alike(
    log: ScriptedLog, creator: Creator, fate: Fate, kind: type[AppendAnswer]
) -> None:
    log.always(fate)

    answers = await creator.at_once("a", "b", "c")

    assert {type(each) for each in answers} == {kind}


async def test_a_shard_that_is_silent_keeps_nobody_waiting_for_its_walk(
    log: ScriptedLog, clock: FakeClock, creator: Creator
) -> None:
    stuck = asyncio.Event()

    async def silent(publish: object) -> None:
        if len(log.published) == 1:
            await stuck.wait()

    log.on_publish = silent
    creator.gatherer._walk_every_s = 0.0
    async with asyncio.timeout(5.0), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(creator.create("a"))
        await asyncio.sleep(0)
        assert isinstance(await creator.create("b"), Appended)
        assert not first.done()
        stuck.set()
    assert isinstance(first.result(), Appended)


async def test_a_register_takes_no_more_than_the_engine_does(
    log: ScriptedLog, creator: Creator
) -> None:
    await creator.at_once(*map(str, range(3 * GATHERED_MAX)))
    assert max(len(publish.events) for publish in log.published) == GATHERED_MAX

    log.published.clear()
    await creator.at_once(*["x" * 6_000] * GATHERED_MAX)
    assert max(len(publish.payload) for publish in log.published) < 2 * GATHERED_BYTES_MAX


async def test_those_of_a_register_are_fenced_as_one(
    log: ScriptedLog, clock: FakeClock, creator: Creator
) -> None:
    shards_asked: list[int] = []

    async def lose_the_second(publish: object) -> None:
        await asyncio.sleep(0)
        shards_asked.append(log.published[-1].shard)
        if len(log.published) == 2:
            log.will(log.published[-1].shard, Fate.DELAYED)

    log.on_publish = lose_the_second
    answers = await creator.at_once("a", "b", "c")
    together = answers[1]
    assert isinstance(together, Appended)
    first = shards_asked[1]
    assert (together.event.prior, together.shard != first) == ((first,), True)

    stored = next(each for each in await log.everything() if b'"text":"b"' in each.payload)
    verdict = is_true_copy(
        log, together.event, stored, clock=clock, deadline=Deadline.after(5.0, clock)
    )
    assert await in_virtual_time(clock, verdict) is Verdict.TRUE
    await log.land()

    late = [each for each in await log.everything() if each.shard == first]
    assert not any(b'"text":"b"' in each.payload for each in late)
    assert log.published[-1].event.type is Type.TOMBSTONE


async def test_each_of_a_register_is_found_in_the_log_by_its_sid(
    log: ScriptedLog, clock: FakeClock, creator: Creator
) -> None:
    answers = await creator.at_once("a", "b", "c")

    for answer in answers:
        assert isinstance(answer, Appended)
        found = await find_original(
            log, Kind.MESSAGE, ACCOUNT, answer.event.sid, deadline=Deadline.after(5.0, clock)
        )
        assert found == answer.event
    unknown = "SM" + answers[2].event.sid[2 : 2 + SHARED_DIGITS] + "0" * 12  # type: ignore[union-attr] # asserted
    missing = find_original(
        log, Kind.MESSAGE, ACCOUNT, unknown, deadline=Deadline.after(5.0, clock)
    )
    assert await missing is None


async def test_who_comes_right_behind_another_joins_the_next_walk(
    log: ScriptedLog, clock: FakeClock, creator: Creator
) -> None:
    await creator.at_once("a")
    before_s = clock.monotonic()
    await creator.at_once("b", "c")
    assert clock.monotonic() - before_s >= WALK_EVERY_S

    await clock.advance(1.0)
    before_s = clock.monotonic()
    await creator.create("d")
    assert clock.monotonic() == before_s
    assert [len(publish.events) for publish in log.published] == [1, 2, 1]


async def test_creates_of_the_same_moment_stand_in_the_same_shard_and_later_ones_in_others(
    clock: FakeClock, creator: Creator
) -> None:
    seen: list[int] = []
    for _ in range(24):
        shards = {order(creator.names.next())[0] for _ in range(10)}
        assert len(shards) == 1
        seen.extend(shards)
        await clock.advance(STAY_S + 0.001)

    assert set(seen) == set(range(12))


async def test_a_shard_that_new_resources_pass_over_is_not_preferred(clock: FakeClock) -> None:
    names = Names(
        12, entropy=pen("one", clock).entropy, clock=clock, is_passable=lambda shard: shard == 5
    )

    assert {order(names.next())[0] for _ in range(50)} == {5}


async def test_near_shards_take_turns_and_far_ones_are_for_when_there_is_none(
    clock: FakeClock,
) -> None:
    passable, near = set(range(12)), {2, 7}
    names = Names(
        12,
        entropy=pen("one", clock).entropy,
        clock=clock,
        is_passable=passable.__contains__,
        is_near=near.__contains__,
    )

    async def seen() -> set[int]:
        shards = set()
        for _ in range(24):
            shards.add(order(names.next())[0])
            await clock.advance(STAY_S + 0.001)
        return shards

    assert await seen() == near
    passable.remove(2)
    assert await seen() == {7}
    passable.remove(7)
    assert await seen() == passable


async def test_no_name_is_drawn_twice_and_few_are_kept(clock: FakeClock) -> None:
    names = Names(12, entropy=pen("one", clock).entropy, clock=clock, is_passable=bool)
    drawn = []
    for _ in range(60):
        drawn += [names.next() for _ in range(KEPT_MAX)]
        await clock.advance(STAY_S)

    assert len(set(drawn)) == len(drawn)
    assert max(len(kept) for kept in names._kept) <= KEPT_MAX
