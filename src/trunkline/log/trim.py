"""Trimming: how much of each shard nobody can need any more, from facts and time alone.

An original or a tombstone that was removed cannot be told from one that never was. So a prefix of a
shard goes only when no live copy, create or delivery can meet a register in it: see `Trimmer`. The
counter-example to each condition is in docs/design/retention.md, and played in the tests.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trunkline.log.limits import COPY_LAG_MAX_S, LATE_MAX_S, RETAIN_MIN_S, WORK_MAX_S
from trunkline.log.marker import Marker, Markers

REACHES_KEPT_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class TrimLimits:
    """In seconds. Only a test or a drill gives others than the defaults, or a longer `retain_s`."""

    retain_s: float = RETAIN_MIN_S
    barrier_s: float = COPY_LAG_MAX_S + LATE_MAX_S
    """A marker proves the end of what was created this long before it: by then a copy that lags
    knows it, and a publish of it that is still under way counts as late."""
    work_s: float = WORK_MAX_S


@dataclass(frozen=True, slots=True)
class Floor:
    """Who is through with a shard up to where: the least of all that read it."""

    reader: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why no more is trimmed: `reader` has not got past `sequence` of `shard`, and `since` is the
    time of the newest marker it did get past, if it got past any."""

    shard: int
    reader: str
    sequence: int
    since: float | None


class Trimmer:
    """Decides what may be purged. Messages that were stored by a time T may go, in every shard,
    when all of this holds:

    (a) T is `retain_s` ago;
    (b) every shard, and not only the one that is trimmed, holds a marker stored at or after
        T + `barrier_s`;
    (c) in every shard everybody who reads it is past that marker;
    (d) `work_s` has passed since (c) was seen: who has something in hand has given it up.

    A shard that cannot be asked is not told of: its last known floor stands, and T with it.
    """

    def __init__(self, markers: Mapping[int, Markers], limits: TrimLimits) -> None:
        self._markers = markers
        self._limits = limits
        self._floors: dict[int, Floor] = {}
        self._reaches: deque[tuple[float, float]] = deque(maxlen=REACHES_KEPT_MAX)
        """When, by the clock that counts suspension, which T was seen to fulfil (b) and (c)."""

    def observe(self, shard: int, floors: Mapping[str, int]) -> None:
        """Take note of how far each reader of the shard is. Without any, nothing is known."""
        if floors:
            reader = min(floors, key=lambda name: floors[name])
            self._floors[shard] = Floor(reader, floors[reader])

    def decide(self, *, wall: float, monotonic: float) -> Mapping[int, int]:
        """For each shard with something to purge, the sequence of the marker before which all of it
        may go. The marker stays, so no shard is ever empty."""
        horizon = self.horizon(wall=wall, monotonic=monotonic)
        if horizon is None:
            return {}
        found = {shard: known.newest_until(horizon) for shard, known in self._markers.items()}
        return {shard: marker.sequence for shard, marker in found.items() if marker is not None}

    def horizon(self, *, wall: float, monotonic: float) -> float | None:
        """The greatest T for which all conditions hold; `None` while there is none."""
        reach = self._reach()
        if reach is None:
            self._reaches.clear()
            return None
        # A floor that went back takes back what was seen beyond it.
        while self._reaches and self._reaches[-1][1] > reach:
            self._reaches.pop()
        if not self._reaches or self._reaches[-1][1] < reach:
            self._reaches.append((monotonic, reach))
        while len(self._reaches) > 1 and self._is_settled(self._reaches[1], monotonic):
            self._reaches.popleft()
        if not self._is_settled(self._reaches[0], monotonic):
            return None
        return min(self._reaches[0][1], wall - self._limits.retain_s)

    def _is_settled(self, reach: tuple[float, float], monotonic: float) -> bool:
        return monotonic - reach[0] >= self._limits.work_s

    def waiting(self) -> Waiting | None:
        """Whom everybody waits for, as far as (b) and (c) go."""
        cleared = {shard: self._cleared(shard) for shard in self._markers}
        slowest = min(
            cleared,
            key=lambda shard: _age(cleared[shard]),
            default=None,
        )
        if slowest is None:
            return None
        floor, marker = self._floors.get(slowest, Floor("engine", 0)), cleared[slowest]
        return Waiting(slowest, floor.reader, floor.sequence, marker.at if marker else None)

    def _reach(self) -> float | None:
        """The greatest T for which (b) and (c) hold as far as is known now."""
        cleared = [self._cleared(shard) for shard in self._markers]
        known = [marker.at for marker in cleared if marker is not None]
        if len(known) < len(cleared):
            return None
        return min(known) - self._limits.barrier_s

    def _cleared(self, shard: int) -> Marker | None:
        """The newest marker of the shard that everybody is past."""
        floor = self._floors.get(shard)
        return None if floor is None else self._markers[shard].newest_up_to(floor.sequence)


def _age(marker: Marker | None) -> float:
    return 0.0 if marker is None else marker.at
