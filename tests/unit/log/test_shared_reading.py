"""Several who read one shard in one process: each gets all of it once, fetched together."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from trunkline.kernel.virtual import VirtualClock, run_in_virtual_time
from trunkline.log.engines.jetstream.positions import Key, Position, Positions
from trunkline.log.engines.jetstream.requests import Requests
from trunkline.log.engines.jetstream.shared import OPEN_MAX, SharedReader, wants
from trunkline.log.engines.jetstream.tail import KEPT_MAX, Tail, TailFollower
from trunkline.log.interface import (
    Delivery,
    Follower,
    LogUnavailable,
    ReadAnswer,
    Stored,
    Unreadable,
)
from trunkline.log.limits import WORK_MAX_S
from trunkline.log.local_bus import LocalBus

KEY = Key("EV_0", "dispatch", ("ev.0.message.created.>",))


class Shard:
    """What a shard holds, and how many followers read it."""

    shard = 0

    def __init__(self) -> None:
        self.held: list[Stored] = []
        self.followers = 0
        self.fetched = 0
        self.is_away = False
        self.trimmed_up_to = 0
        self.clock = VirtualClock()
        self._news = asyncio.Event()

    def put(self, count: int, *, subject: str = "ev.0.message.created.AC1.x") -> None:
        for _ in range(count):
            number = len(self.held) + 1
            self.held.append(Stored(0, subject, number, 0.0, b"%d" % number))
        self._news.set()
        self._news = asyncio.Event()

    async def open(self, after: int) -> Follower:
        if self.is_away:
            raise LogUnavailable("away")
        return ShardFollower(self, after)

    async def read_at(self, sequence: int) -> ReadAnswer:
        if self.is_away:
            return Unreadable("away")
        return self.held[sequence - 1]

    async def done_up_to(self) -> int | Unreadable:
        return Unreadable("away") if self.is_away else self.trimmed_up_to

    async def wait(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._news.wait()
        except TimeoutError:
            return


class ShardFollower:
    def __init__(self, shard: Shard, after: int) -> None:
        self.is_at_end = False
        self._shard = shard
        self._last = after
        shard.followers += 1

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[Stored]:
        if self._shard.is_away:
            raise LogUnavailable("away")
        if self._last == len(self._shard.held):
            await self._shard.wait(wait_s)
        taken = self._shard.held[self._last : self._last + items_max]
        self._last += len(taken)
        self._shard.fetched += len(taken)
        self.is_at_end = self._last == len(self._shard.held)
        return taken

    async def close(self) -> None:
        self._shard.followers -= 1


class World:
    def __init__(self) -> None:
        self.shard = Shard()
        self.clock = self.shard.clock
        self.tail = Tail(self.shard.open, self.clock)
        self.positions = Positions(cast(Requests, None), LocalBus(), None, self.clock)

    def reader(self, positions: Positions | None = None) -> SharedReader:
        known = positions or self.positions
        return SharedReader(KEY, self.tail, known, self.shard, self.clock)


def test_two_followers_share_what_one_fetches() -> None:
    async def main() -> None:
        world = World()
        one, two = TailFollower(world.tail, 0), TailFollower(world.tail, 0)

        async def follow(follower: TailFollower) -> list[int]:
            came: list[int] = []
            while len(came) < 30:
                came += [each.sequence for each in await follower.fetch(7, 1.0)]
            return came

        async with asyncio.TaskGroup() as tasks:
            following = [tasks.create_task(follow(each)) for each in (one, two)]
            for _ in range(3):
                await asyncio.sleep(0.3)
                world.shard.put(10)
        assert [each.result() for each in following] == [list(range(1, 31))] * 2
        assert (world.shard.followers, world.shard.fetched) == (1, 30)
        assert one.is_at_end

        await one.close()
        await two.close()
        assert world.shard.followers == 0

    run_in_virtual_time(main())


def test_who_is_behind_or_ahead_reads_alone_until_they_meet() -> None:
    async def main() -> None:
        world = World()
        world.shard.put(3 * KEPT_MAX)
        slow = TailFollower(world.tail, 0)
        ahead = TailFollower(world.tail, 3 * KEPT_MAX - 1)
        assert [each.sequence for each in await ahead.fetch(9, 0.1)] == [3 * KEPT_MAX]

        fast = TailFollower(world.tail, 0)
        came = 0
        while came < 3 * KEPT_MAX:
            came += len(await fast.fetch(500, 0.1))
        late = [each.sequence for each in await slow.fetch(5, 0.1)]
        assert late == [1, 2, 3, 4, 5]
        while slow.sequence < 3 * KEPT_MAX:
            late += [each.sequence for each in await slow.fetch(500, 0.1)]
        assert late == list(range(1, 3 * KEPT_MAX + 1))

        world.shard.put(1)
        for follower in (slow, ahead, fast):
            assert len(await follower.fetch(9, 0.1)) == 1
        assert world.shard.followers == 1

    run_in_virtual_time(main())


def test_who_waits_goes_on_fetching_when_the_one_that_fetched_is_gone() -> None:
    async def main() -> None:
        world = World()
        one, two = TailFollower(world.tail, 0), TailFollower(world.tail, 0)
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(one.fetch(9, 60.0))
            await asyncio.sleep(0.1)
            waiting = tasks.create_task(two.fetch(9, 60.0))
            await asyncio.sleep(0.1)
            gone.cancel()
            await asyncio.sleep(0.1)
            world.shard.put(1)
        assert len(waiting.result()) == 1

    run_in_virtual_time(main())


def test_a_reader_gets_what_it_wants_and_says_what_is_done() -> None:
    async def main() -> None:
        world = World()
        reader = world.reader()
        world.shard.put(2)
        world.shard.put(1, subject="ev.0.message.changed.AC1")
        world.shard.put(2)

        taken = await reader.fetch(9, 0.1)
        assert [each.stored.sequence for each in taken] == [1, 2, 4, 5]
        for each in (taken[0], taken[2]):
            await each.ack()

        assert world.positions.known(KEY) == Position(5, (2, 5))
        await taken[1].ack()
        await taken[3].ack()
        assert world.positions.known(KEY) == Position(5)

    run_in_virtual_time(main())


def test_what_is_put_back_or_in_hand_for_too_long_comes_again() -> None:
    async def main() -> None:
        world = World()
        reader = world.reader()
        world.shard.put(2)
        one, two = await reader.fetch(9, 0.1)

        await one.nak(5.0)
        began = world.clock.monotonic()
        (again,) = await reader.fetch(9, 30.0)
        assert (again.stored.sequence, world.clock.monotonic() - began) == (1, 5.0)
        await again.ack()

        await asyncio.sleep(WORK_MAX_S)
        (again,) = await reader.fetch(9, 0.1)
        assert again.stored.sequence == 2
        await two.ack()  # it was slow, and it is done: nobody needs to do it once more
        assert world.positions.known(KEY) == Position(2)

    run_in_virtual_time(main())


def test_whoever_takes_over_gets_what_is_open_and_nothing_that_is_done() -> None:
    async def main() -> None:
        world = World()
        first, second = world.reader(), world.reader()
        world.shard.put(20)
        taken = await first.fetch(10, 0.1)
        for each in taken:
            if each.stored.sequence not in (3, 7):
                await each.ack()
        await taken[6].nak(3600.0)

        await first.rest()

        came = [each.stored.sequence for each in await second.fetch(50, 0.1)]
        came += [each.stored.sequence for each in await second.fetch(50, 0.1)]
        assert came == [3, 7, *range(11, 21)]
        await taken[2].ack()  # too late: it is another one's now
        assert 3 in world.positions.known(KEY).open

    run_in_virtual_time(main())


def test_who_knows_nothing_begins_behind_what_trimming_proves_to_be_done() -> None:
    async def main() -> None:
        world = World()
        world.shard.put(9)
        world.shard.trimmed_up_to = 6

        new = await world.reader().fetch(9, 0.1)

        assert [each.stored.sequence for each in new] == [7, 8, 9]

    run_in_virtual_time(main())


def test_no_more_is_given_out_than_may_be_open() -> None:
    async def main() -> None:
        world = World()
        reader = world.reader()
        world.shard.put(OPEN_MAX + 5)
        taken: list[Delivery] = []
        while len(taken) < OPEN_MAX:
            taken += await reader.fetch(500, 0.1)
        assert await reader.fetch(500, 0.1) == []

        async with asyncio.TaskGroup() as tasks:
            fetching = tasks.create_task(reader.fetch(500, 10.0))
            await asyncio.sleep(1.0)
            await taken[0].ack()
        assert [each.stored.sequence for each in fetching.result()] == [OPEN_MAX + 1]

    run_in_virtual_time(main())


def test_a_shard_that_is_away_ends_no_service() -> None:
    async def main() -> None:
        world = World()
        reader = world.reader()
        world.shard.put(1)
        world.shard.is_away = True
        assert await reader.fetch(9, 0.1) == []

        world.shard.is_away = False
        (taken,) = await reader.fetch(9, 0.1)
        await reader.rest()
        world.shard.is_away = True
        assert await reader.fetch(9, 0.1) == []  # what is open cannot be read
        world.shard.is_away = False
        assert len(await reader.fetch(9, 0.1)) == 1
        assert taken.stored.sequence == 1

    run_in_virtual_time(main())


def test_filters_end_in_a_wildcard_or_name_one_subject() -> None:
    is_wanted = wants(("ev.0.message.created.>", "ev.0.message.chain"))

    assert is_wanted("ev.0.message.created.AC1.x")
    assert is_wanted("ev.0.message.chain")
    assert not is_wanted("ev.0.message.chain.x")
    assert not is_wanted("ev.0.inbound.created.AC1.x")
    for unknown in ("ev.*.x", "ev.>.x"):
        with pytest.raises(ValueError, match="filters end in >"):
            wants((unknown,))
