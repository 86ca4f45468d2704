"""How far the copy is: two numbers a shard in a small mapped file that every process can see.

For each shard the last sequence in the copy, and the wall time at which the shard was last known to
hold nothing newer; and behind them, how often stops and starts were written, and whether the copy is
held still for good. Waiters in the projector's process are woken; others look every few milliseconds.
"""

import asyncio
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from trunkline.kernel import Clock, Deadline
from trunkline.log.interface import Log, Unreadable

CATCH_UP_POLL_S: Final = 0.005
ASK_TIMEOUT_S: Final = 2.0

_ENTRY: Final = struct.Struct("=Qd")
_HELD: Final = struct.Struct("=?")
_KEYWORDS: Final = struct.Struct("@Q")
"""In the machine's own way, so that it is written as one: nobody sees half of a new number."""


class Progress:
    """The mapped file at `path`, made when missing."""

    def __init__(self, path: Path, *, shards: int, clock: Clock) -> None:
        self._keywords_at = _ENTRY.size * shards
        self._held_at = self._keywords_at + _KEYWORDS.size
        size = self._held_at + _HELD.size
        with path.open("a+b") as file:
            if file.seek(0, 2) != size:
                file.truncate(0)
                file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        self._shards = shards
        self.clock: Final = clock
        self._moved = asyncio.Event()

    def sequence(self, shard: int) -> int:
        sequence: int = _ENTRY.unpack_from(self._map, shard * _ENTRY.size)[0]
        return sequence

    def version(self) -> bytes:
        """All of it: no two states of the copy have the same, because sequences only grow."""
        return self._map[:]

    def lag_ms(self) -> float:
        """How long ago the copy was last known to be complete, in milliseconds; the true lag is
        not greater. Infinite when it never was."""
        return self._ago_ms(min(self._complete_at(shard) for shard in range(self._shards)))

    def lag_ms_of(self, shard: int) -> float:
        """The same of one shard alone."""
        return self._ago_ms(self._complete_at(shard))

    def record(self, shard: int, *, sequence: int, complete_at: float | None) -> None:
        """Of the projector: `complete_at` is None while there may be more."""
        known_at = self._complete_at(shard)
        _ENTRY.pack_into(
            self._map,
            shard * _ENTRY.size,
            sequence,
            known_at if complete_at is None else complete_at,
        )

    @property
    def is_held(self) -> bool:
        """Whether the copy goes no further, because what comes next is for a newer version."""
        held: bool = _HELD.unpack_from(self._map, self._held_at)[0]
        return held

    def hold(self, *, is_held: bool) -> None:
        """Of the projector: say so, or at its start take it back."""
        _HELD.pack_into(self._map, self._held_at, is_held)

    def keywords(self) -> int | None:
        """Another number whenever another stop or start may be in the copy, or count for another owner,
        and `None` while that is being written: what was read under the same number still holds."""
        count: int = _KEYWORDS.unpack_from(self._map, self._keywords_at)[0]
        return None if count % 2 else count

    def keywords_change(self) -> None:
        """Of the projector: said before stops, starts and owners are committed, or the file is replaced.
        Should it die then, this stands until the next one has opened the copy."""
        count: int = _KEYWORDS.unpack_from(self._map, self._keywords_at)[0]
        _KEYWORDS.pack_into(self._map, self._keywords_at, count | 1)

    def keywords_changed(self) -> None:
        """Of the projector: said when they stand."""
        count: int = _KEYWORDS.unpack_from(self._map, self._keywords_at)[0]
        _KEYWORDS.pack_into(self._map, self._keywords_at, (count | 1) + 1)

    def wake(self) -> None:
        """Of the projector: what was recorded may be what somebody here waits for."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def wait_until_seen(self, shard: int, sequence: int, *, deadline: Deadline) -> bool:
        """Whether the copy holds `sequence` of `shard` before the deadline."""
        while self.sequence(shard) < sequence:
            if deadline.has_passed():
                return False
            moved = self._moved
            try:
                async with asyncio.timeout(min(CATCH_UP_POLL_S, deadline.remaining_s())):
                    await moved.wait()
            except TimeoutError:
                continue
        return True

    def close(self) -> None:
        self._map.close()

    def _complete_at(self, shard: int) -> float:
        at: float = _ENTRY.unpack_from(self._map, shard * _ENTRY.size)[1]
        return at

    def _ago_ms(self, at: float) -> float:
        return max(0.0, (self.clock.wall() - at) * 1000.0) if at else float("inf")


async def ends_of(log: Log) -> Mapping[int, int] | None:
    """The last sequence of every shard now; `None` while one cannot be asked."""
    ends: dict[int, int] = {}
    for shard in range(log.shards):
        last = await log.last_sequence(shard, timeout_s=ASK_TIMEOUT_S)
        if isinstance(last, Unreadable):
            return None
        ends[shard] = last
    return ends


def has_reached(progress: Progress, ends: Mapping[int, int]) -> bool:
    """Whether the copy holds all up to `ends`, and was complete once. Its own end is always a little
    further, while others write."""
    return progress.lag_ms() != float("inf") and all(
        progress.sequence(shard) >= end for shard, end in ends.items()
    )


async def is_caught_up(progress: Progress, log: Log) -> bool:
    """Whether the copy holds all that the log holds now."""
    ends = await ends_of(log)
    return ends is not None and has_reached(progress, ends)
