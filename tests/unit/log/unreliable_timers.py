"""Timers in memory whose shards fail as told."""

from trunkline.kernel import FakeClock
from trunkline.log.engines.memory import MemoryTimers
from trunkline.log.interface import PublishAnswer, Refused, Unknown, Unreadable


class UnreliableTimers(MemoryTimers):
    """Shards that are away, and shards that do what they are asked and cannot say so."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.away: set[int] = set()
        self.mute: set[int] = set()

    async def write(
        self, shard: int, name: str, due_at: float, payload: bytes, *, timeout_s: float
    ) -> PublishAnswer:
        if shard in self.away:
            return Refused("no leader")
        answer = await super().write(shard, name, due_at, payload, timeout_s=timeout_s)
        return Unknown("no answer") if shard in self.mute else answer

    async def drop(self, shard: int, name: str, *, timeout_s: float) -> int | Unreadable:
        if shard in self.away:
            return Unreadable("no leader")
        return await super().drop(shard, name, timeout_s=timeout_s)

    async def standing(self) -> int:
        counts = [await self.count(shard, timeout_s=1.0) for shard in range(self.shards)]
        return sum(count for count in counts if isinstance(count, int))
