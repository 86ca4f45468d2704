"""What came last in a shard, kept for a while for all in this process who read there.

The read copy and the services of a host each want the same messages. They are fetched once, by
whichever of them waits first; the others find them here. Who is further behind than what is kept, or
further ahead, reads with a follower of their own until they meet.
"""

import asyncio
import bisect
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from trunkline.kernel import Clock, Deadline
from trunkline.log.interface import Follower, Stored

FETCH_MAX: Final = 500
KEPT_MAX: Final = 1024
KEPT_BYTES_MAX: Final = 1 << 20
"""Of each shard. A busy one fills this in a second or two, and its readers are a fetch apart."""

OpenFollower = Callable[[int], Awaitable[Follower]]
"""A follower of the shard behind a sequence."""


class Tail:
    """Of one shard. `open_follower` may raise `LogUnavailable`, and so may a fetch."""

    def __init__(self, open_follower: OpenFollower, clock: Clock) -> None:
        self.open_follower = open_follower
        self.clock = clock
        self.is_at_end = False
        self._follower: Follower | None = None
        self._readers = 0
        self._is_fetching = False
        self._news = asyncio.Event()
        self._kept: list[Stored] = []
        self._sequences: list[int] = []
        self._bytes = 0
        self._behind = -1
        """All that the shard holds behind this sequence, up to `_last`, is kept."""
        self._last = -1

    def has(self, after: int) -> bool:
        """Whether one who has read up to there may go on here."""
        return self._behind <= after <= self._last

    def is_end(self, sequence: int) -> bool:
        """Whether there surely was nothing behind it, as of the last fetch."""
        return sequence == self._last and self.is_at_end

    def enter(self, after: int) -> None:
        """One more reads here; the first one decides where it begins."""
        if self._readers == 0:
            self._behind = self._last = after
        self._readers += 1

    async def leave(self) -> None:
        """Nothing is fetched or kept for nobody."""
        self._readers -= 1
        if self._readers:
            return
        self._behind = self._last = -1
        self.is_at_end = False
        self._kept, self._sequences, self._bytes = [], [], 0
        await self._close()

    async def fetch(self, after: int, items_max: int, wait_s: float) -> Sequence[Stored]:
        """What is behind `after`, of which the tail `has` the beginning; empty after `wait_s`
        without, or sooner."""
        deadline = Deadline.after(wait_s, self.clock)
        while after == self._last and not deadline.has_passed():
            if not self._is_fetching:
                if not await self._fetch(deadline.remaining_s()):
                    break
                continue
            news = self._news
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline.remaining_s()):
                    await news.wait()
        begin = bisect.bisect_right(self._sequences, after)
        return self._kept[begin : begin + items_max]

    async def _fetch(self, wait_s: float) -> bool:
        """For everybody; whether something came."""
        self._is_fetching = True
        try:
            if self._follower is None:
                self._follower = await self.open_follower(self._last)
            taken = await self._follower.fetch(FETCH_MAX, wait_s)
            self.is_at_end = self._follower.is_at_end
            self._keep(taken)
        finally:
            self._is_fetching = False
            self._news.set()
            self._news = asyncio.Event()
        return bool(taken)

    def _keep(self, taken: Sequence[Stored]) -> None:
        if not taken or self._last < 0:  # or everybody left meanwhile
            return
        self._kept += taken
        self._sequences += [each.sequence for each in taken]
        self._bytes += sum(len(each.payload) for each in taken)
        self._last = taken[-1].sequence
        if len(self._kept) > 2 * KEPT_MAX or self._bytes > 2 * KEPT_BYTES_MAX:
            self._forget()

    def _forget(self) -> None:
        """All but the newest that fit."""
        keep, size = 0, 0
        for each in reversed(self._kept):
            size += len(each.payload)
            if keep == KEPT_MAX or size > KEPT_BYTES_MAX:
                break
            keep += 1
        gone = len(self._kept) - keep
        if gone:
            self._behind = self._sequences[gone - 1]
            self._bytes -= sum(len(each.payload) for each in self._kept[:gone])
            del self._kept[:gone], self._sequences[:gone]

    async def _close(self) -> None:
        follower, self._follower = self._follower, None
        if follower is not None:
            await follower.close()


class TailFollower:
    """Implements `Follower`, by what others fetch as well."""

    def __init__(self, tail: Tail, after: int) -> None:
        self.sequence = after
        """All up to here was given."""
        self._tail = tail
        self._own: Follower | None = None
        self._is_closed = False
        tail.enter(after)

    @property
    def is_at_end(self) -> bool:
        return self._tail.is_end(self.sequence)

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[Stored]:
        if self._tail.has(self.sequence):
            await self._leave_own()
            taken = await self._tail.fetch(self.sequence, items_max, wait_s)
        else:
            if self._own is None:
                self._own = await self._tail.open_follower(self.sequence)
            taken = await self._own.fetch(items_max, wait_s)
        if taken:
            self.sequence = taken[-1].sequence
        return taken

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await self._leave_own()
        await self._tail.leave()

    async def _leave_own(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            await own.close()
