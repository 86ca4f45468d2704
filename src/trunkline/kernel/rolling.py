"""How often something happened lately, counted in buckets so that old counts leave by themselves.

The sum covers the current bucket and the full ones before it: between nine and ten tenths of the
span. Neither adding nor asking costs more when more has happened.
"""

from typing import Final

SPAN_S: Final = 10.0
BUCKETS: Final = 10


class RollingCount:
    """A count over the last `span_s` seconds of a clock that never goes back."""

    __slots__ = ("_buckets", "_per_s", "_slot", "_total")

    def __init__(self, span_s: float = SPAN_S, buckets: int = BUCKETS) -> None:
        self._buckets = [0] * buckets
        self._per_s = buckets / span_s
        self._slot = 0
        self._total = 0

    def add(self, now: float) -> None:
        """One more."""
        slot = int(now * self._per_s)
        if slot > self._slot:
            self._move_to(slot)
        self._buckets[slot % len(self._buckets)] += 1
        self._total += 1

    def total(self, now: float) -> int:
        slot = int(now * self._per_s)
        if slot > self._slot:
            self._move_to(slot)
        return self._total

    def clear(self) -> None:
        self._buckets = [0] * len(self._buckets)
        self._total = 0

    def _move_to(self, slot: int) -> None:
        count = len(self._buckets)
        for passed in range(self._slot + 1, self._slot + 1 + min(slot - self._slot, count)):
            self._total -= self._buckets[passed % count]
            self._buckets[passed % count] = 0
        self._slot = slot
