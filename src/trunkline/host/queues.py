"""How long the oldest thing has waited that a service of this process is not through with.

The engine is asked, because it alone knows what nobody has fetched yet: while the carrier is down,
say. It is asked every few seconds and for this host's shards, so the hosts of a cluster show a
shard's queue once. While it does not answer, what waited goes on waiting, and its age grows.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from trunkline.kernel import Clock
from trunkline.log.interface import RetainedLog, Stored, Unreadable
from trunkline.messaging.wanted import WANTED

LOOK_EVERY_S: Final = 10.0
"""Three or four requests a shard, of a tenth of a millisecond of the engine each."""
ASK_TIMEOUT_S: Final = 1.0


class QueueLine(msgspec.Struct, frozen=True, kw_only=True):
    """One service's. `oldest_s` is 0 where nothing is known to wait; `unknown_shards` are those of this
    host that could not be asked the last time."""

    service: str
    oldest_s: float
    unknown_shards: int = 0


class QueueAges:
    """A support: looks until cancelled. `services` are those of the process, of which some read from
    the log; `is_ours` says which shards this host is to tell of; `unkept_s` is how long something
    that a carrier gave has waited to be written down, in a process that takes from one."""

    name = "queues"

    def __init__(
        self,
        log: RetainedLog,
        services: Sequence[str],
        *,
        is_ours: Callable[[int], bool],
        unkept_s: Callable[[], float] | None,
        clock: Clock,
    ) -> None:
        self._log = log
        self._services = tuple(name for name in services if name in WANTED)
        self._is_ours = is_ours
        self._unkept_s = unkept_s
        self._clock = clock
        self._oldest_at: dict[tuple[str, int], float] = {}
        self._unknown: set[int] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while self._services:
            await self.look()
            await self._clock.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Ask for all shards at once, and once."""
        async with asyncio.TaskGroup() as tasks:
            for shard in range(self._log.shards):
                if self._is_ours(shard):
                    tasks.create_task(self._look_at(shard))
                else:
                    self._forget(shard)

    def lines(self) -> list[QueueLine]:
        """As of now."""
        now = self._clock.wall()
        lines = []
        for service in self._services:
            since = [at for (whose, _), at in self._oldest_at.items() if whose == service]
            oldest_s = max(0.0, now - min(since)) if since else 0.0
            lines.append(
                QueueLine(
                    service=service, oldest_s=round(oldest_s, 1), unknown_shards=len(self._unknown)
                )
            )
        if self._unkept_s is not None:
            lines.append(QueueLine(service="receipts", oldest_s=round(self._unkept_s(), 1)))
        return lines

    async def _look_at(self, shard: int) -> None:
        floors = await self._log.ack_floors(shard, timeout_s=ASK_TIMEOUT_S)
        if isinstance(floors, Unreadable):
            self._unknown.add(shard)
            return
        for service in self._services:
            # One that never asked for anything yet has everything before it.
            oldest = await self._oldest(shard, service, floors.get(service, 0))
            if isinstance(oldest, Unreadable):
                self._unknown.add(shard)
                return
            if oldest is None:
                self._oldest_at.pop((service, shard), None)
            else:
                self._oldest_at[service, shard] = oldest.at
        self._unknown.discard(shard)

    async def _oldest(self, shard: int, service: str, floor: int) -> Stored | Unreadable | None:
        found: Stored | None = None
        for subjects in WANTED[service](shard):
            answer = await self._log.read_next(
                shard, subjects, after=floor, timeout_s=ASK_TIMEOUT_S
            )
            if isinstance(answer, Unreadable):
                return answer
            if answer is not None and (found is None or answer.sequence < found.sequence):
                found = answer
        return found

    def _forget(self, shard: int) -> None:
        self._unknown.discard(shard)
        for service in self._services:
            self._oldest_at.pop((service, shard), None)
