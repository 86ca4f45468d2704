"""Wall clocks that are wrong, or that jump: what may still be concluded from their stamps.

Two rules of the log rest on wall clocks: a copy that was stored far from its own time is closed, and
a message expires. A host whose clock is too far from a shard's stores nothing new there, or what it
answered 201 would be closed; and an age is counted without the steps that the clock has made.
"""

from typing import Final

from trunkline.kernel import Clock
from trunkline.log.limits import LATE_MAX_S

CLOCK_OFF_MAX_S: Final = LATE_MAX_S / 4
"""How far a host's clock may be from a shard's: two such hosts, and slow answers, fit in LATE_MAX_S."""

STEP_LEAST_S: Final = 1.0
"""A time service that slews a clock moves it by half a millisecond in a second; this is a step."""

STEPS_REMEMBERED_MAX: Final = 64
"""What was stamped before the oldest of them is taken for younger than it is."""


def can_be_trusted(off_s: float) -> bool:
    """Whether a host may create something in a shard whose clock is so far ahead of its own."""
    return abs(off_s) <= CLOCK_OFF_MAX_S


def apart_s(*, asked_at: float, said: float, answered_at: float) -> float:
    """How far ahead a clock surely is that `said` this between two moments of ours; less than 0:
    behind. All are wall times. An answer that took long says less, and is never blamed."""
    if said > answered_at:
        return said - answered_at
    return min(0.0, said - asked_at)


class Stopwatch:
    """Time that passed on the monotonic clock and on the wall clock since it was made."""

    __slots__ = ("_clock", "_monotonic", "_wall")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall = clock.wall()
        self._monotonic = clock.monotonic()

    def stepped_s(self) -> float:
        """By how much the wall clock was set forward meanwhile; less than 0: back."""
        clock = self._clock
        return (clock.wall() - self._wall) - (clock.monotonic() - self._monotonic)


class Ages:
    """How old something is that the wall clock stamped, whatever steps that clock has made while
    this process ran. A stamp that can be read in two ways is read as the younger one.

    A step that nobody saw, because no process ran, cannot be told from time that passed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Since when, on the monotonic clock, the wall clock was ahead of it by how much.
        self._spans: list[tuple[float, float]] = [(float("-inf"), self._ahead_s())]

    def age_s(self, stamp: float) -> float:
        """Seconds since `stamp`; 0 for one that lies in the future."""
        self._look()
        now = end = self._clock.monotonic()
        for began, ahead_s in reversed(self._spans):
            at = stamp - ahead_s
            if at >= began - STEP_LEAST_S:  # so much a span's own clock may have been slewed
                return max(0.0, now - min(at, end))
            end = began
        return max(0.0, now - end)

    def _look(self) -> None:
        """Begin a new span where the clock was stepped since the last look; follow it where not."""
        began, known_s = self._spans[-1]
        ahead_s = self._ahead_s()
        if abs(ahead_s - known_s) < STEP_LEAST_S:
            self._spans[-1] = (began, ahead_s)
            return
        self._spans.append((self._clock.monotonic(), ahead_s))
        if len(self._spans) > STEPS_REMEMBERED_MAX:
            del self._spans[0]

    def _ahead_s(self) -> float:
        return self._clock.wall() - self._clock.monotonic()
