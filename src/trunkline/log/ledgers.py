"""The ledgers of all shards, for many tasks at once: what they want written is gathered.

While one write of a shard is under way, wishes for the next one gather; so the busier a shard is,
the more each flush carries. `run` must be running for anything to be written.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from trunkline.domain.events import Kind
from trunkline.kernel import Clock
from trunkline.log.interface import Log
from trunkline.log.ledger import Entry, Ledger, LedgerAnswer, Past, Wish
from trunkline.log.limits import RETRY_PAUSE_S

GATHER_S: Final = 0.01
"""Between two writes of one shard: a flush costs the same for one record as for fifty. It is paid
only by what comes right behind a write."""


class Chains(Protocol):
    """Where chains are written."""

    async def advance(self, shard: int, wish: Wish) -> LedgerAnswer:
        """Have it written in a shard's ledger, or know why not, within its deadline."""

    def want(self, shard: int, wish: Wish, tell: Callable[[LedgerAnswer], None]) -> Entry:
        """The same without a task that waits: `tell` is called once, with what came of it, from the
        event loop and not before this returns. It must not raise."""

    def withdraw(self, shard: int, entry: Entry) -> None:
        """Nobody waits for it any more. What is on its way may still land."""

    async def run(self) -> None:
        """Whatever it takes for `advance` to get anywhere; until cancelled."""


class Ledgers:
    """Implements `Chains` by one writing task a shard."""

    def __init__(self, log: Log, kind: Kind, *, past: Past, clock: Clock) -> None:
        self._clock = clock
        self._ledgers = [
            Ledger(log, shard, kind, past=past, clock=clock) for shard in range(log.shards)
        ]
        self._wanted = [asyncio.Event() for _ in self._ledgers]

    async def advance(self, shard: int, wish: Wish) -> LedgerAnswer:
        answer: asyncio.Future[LedgerAnswer] = asyncio.get_running_loop().create_future()
        entry = self.want(shard, wish, _teller(answer))
        try:
            return await answer
        finally:
            self.withdraw(shard, entry)

    def want(self, shard: int, wish: Wish, tell: Callable[[LedgerAnswer], None]) -> Entry:
        entry = self._ledgers[shard].add(wish, tell)
        self._wanted[shard].set()
        return entry

    def withdraw(self, shard: int, entry: Entry) -> None:
        self._ledgers[shard].withdraw(entry)

    async def run(self) -> None:
        """Until cancelled; what is on its way then may still land."""
        async with asyncio.TaskGroup() as tasks:
            for ledger, wanted in zip(self._ledgers, self._wanted, strict=True):
                tasks.create_task(self._write(ledger, wanted))

    async def _write(self, ledger: Ledger, wanted: asyncio.Event) -> None:
        while True:
            await wanted.wait()
            wanted.clear()
            while ledger.is_wanted:
                written = await ledger.round()
                if written is None:
                    await self._clock.sleep(RETRY_PAUSE_S)
                elif written:
                    await self._clock.sleep(GATHER_S)


def _teller(answer: "asyncio.Future[LedgerAnswer]") -> Callable[[LedgerAnswer], None]:
    def tell(found: LedgerAnswer) -> None:
        if not answer.done():
            answer.set_result(found)

    return tell
