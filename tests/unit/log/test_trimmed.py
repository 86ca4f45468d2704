"""What the beginnings of the shards prove to one who does not know how far it is."""

import pytest

from trunkline.kernel import FakeClock
from trunkline.log.engines.memory import MemoryLog
from trunkline.log.interface import Accepted, Unreadable
from trunkline.log.marker import NO_EVENTS, marker_subject
from trunkline.log.trimmed import done_up_to

pytestmark = pytest.mark.anyio

A, B, C = 0, 1, 2
HOUR_S = 3600.0


class World:
    """Each hour two messages and a marker go into every shard but one, which is quiet."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.log = MemoryLog(clock=self.clock, shards=3)

    async def pass_hours(self, hours: int) -> None:
        for hour in range(hours):
            for shard in (A, B):
                for number in range(2):
                    await self.put(shard, f"ev.{shard}.message.created.AC1.{hour}x{number}")
            for shard in (A, B, C):
                await self.put(shard, marker_subject(shard))
            await self.clock.advance(HOUR_S)

    async def put(self, shard: int, subject: str) -> None:
        answer = await self.log.publish(shard, subject, NO_EVENTS, expected=None, timeout_s=1.0)
        assert isinstance(answer, Accepted)

    async def purge(self, shard: int, *, hours: int) -> None:
        """The messages of so many hours; the marker behind them stays."""
        assert await self.log.purge(shard, before=3 * hours, timeout_s=1.0) == 3 * hours - 1

    async def done(self, shard: int) -> int | Unreadable:
        return await done_up_to(self.log, shard, timeout_s=1.0)


async def test_where_nothing_was_trimmed_nothing_is_known_to_be_done() -> None:
    world = World()
    assert await world.done(A) == 0

    await world.pass_hours(4)

    assert [await world.done(shard) for shard in (A, B, C)] == [0, 0, 0]


async def test_what_is_as_old_as_what_another_shard_has_lost_is_done() -> None:
    world = World()
    await world.pass_hours(6)

    await world.purge(A, hours=3)

    assert await world.done(A) == 9  # its first marker, which stands at its beginning
    assert await world.done(B) == 9  # whose messages of those hours are all still there
    assert await world.done(C) == 3

    await world.purge(B, hours=5)
    assert await world.done(A) == 15


async def test_a_shard_that_cannot_be_asked_proves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    await world.pass_hours(2)
    whole = world.log.read_next

    async def read_next(shard: int, subjects: str, *, after: int, timeout_s: float) -> object:
        if shard == C:
            return Unreadable("no leader")
        return await whole(shard, subjects, after=after, timeout_s=timeout_s)

    monkeypatch.setattr(world.log, "read_next", read_next)

    assert await world.done(A) == Unreadable("no leader")
