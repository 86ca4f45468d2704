"""Two clocks and a sleep, as an argument: what every part that waits is given.

`wall` is for people and for comparing hosts; `monotonic` is for every bound and lease, and counts
the time the machine was suspended, because a thawed host must know how long it was away.
"""

import asyncio
import heapq
import time
from typing import Final, Protocol

_COUNTS_SUSPENSION: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Seconds, always as floats."""

    def wall(self) -> float:
        """Seconds since the Unix epoch; may jump."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never goes back, and counts suspension."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`, at once if that is not positive."""


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def wall(self) -> float:
        return time.time()  # noqa: TID251 - the one place that reads it

    def monotonic(self) -> float:
        return time.clock_gettime(_COUNTS_SUSPENSION)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class FakeClock:
    """Virtual time for tests: it stands still until `advance` moves it and wakes the sleepers."""

    def __init__(self, *, wall: float = 1_700_000_000.0) -> None:
        self._wall_offset = wall
        self._now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._slept = 0

    def wall(self) -> float:
        return self._wall_offset + self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.Event()
        self._slept += 1
        heapq.heappush(self._sleepers, (self._now + seconds, self._slept, woken))
        await woken.wait()

    async def advance(self, seconds: float) -> None:
        """Move time on, waking each sleeper at its own moment and letting it run."""
        end = self._now + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, woken = heapq.heappop(self._sleepers)
            self._now = max(self._now, at)
            woken.set()
            await _settle()
        self._now = max(self._now, end)
        await _settle()

    def jump_wall(self, seconds: float) -> None:
        """Step the wall clock, as an administrator or a time server may."""
        self._wall_offset += seconds


async def _settle() -> None:
    """Let every task that can run do so: a bounded number of turns of the loop."""
    for _ in range(20):
        await asyncio.sleep(0)
