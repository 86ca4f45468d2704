"""What this host's copy shows of the directory: waiting until it shows what was just decided."""

import asyncio
from dataclasses import dataclass
from typing import Final

from trunkline.kernel import Clock, Deadline
from trunkline.log.interface import Log
from trunkline.replica.queries import Replica

ASK_TIMEOUT_S: Final = 0.5
SHOWN_MAX_S: Final = 1.0
"""How long an answer waits for this host's copy to show what it is about."""


@dataclass(frozen=True, slots=True)
class View:
    """The copy, held against the log."""

    log: Log
    replica: Replica
    clock: Clock

    async def show(self, shard: int, sequence: int) -> bool:
        """Whether the copy shows it, now or soon. Nothing is wrong if not: it will."""
        shown_by = Deadline.after(SHOWN_MAX_S, self.clock)
        return await self.replica.wait_until_seen(shard, sequence, deadline=shown_by)

    async def show_newest(self, shard: int) -> bool:
        """The same, for all that stands in the shard now."""
        last = await self.log.last_sequence(shard, timeout_s=ASK_TIMEOUT_S)
        return isinstance(last, int) and await self.show(shard, last)

    async def catch_up(self, *, deadline: Deadline) -> bool:
        """Whether the copy shows everything that was acknowledged before the call, in any shard.
        What it does not show then is surely not there."""
        shards = range(self.log.shards)
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self.show_newest(shard)) for shard in shards]
        return all(each.result() for each in asked) and not deadline.has_passed()
