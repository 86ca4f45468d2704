"""A limit on work in flight that follows the latency: less while answers take longer than usual.

Netflix's Gradient2, with its constants. It is for servers whose capacity changes or is not known;
a fixed limit is easier to understand, and is what a `Limiter` has without this.
"""

from dataclasses import dataclass
from typing import Final

GRADIENT_LEAST: Final = 0.5
"""One window never takes away more than half, before smoothing."""
LONG_SAMPLES: Final = 600
"""Windows in the average that counts as usual."""
DRIFT_FACTOR: Final = 2.0
DRIFT_DECAY: Final = 0.95
"""After an overload the usual latency is too high; while it is twice the present one, it decays."""


@dataclass(frozen=True, slots=True)
class GradientLimits:
    """`tolerance`: how many times the usual latency is still no reason to take on less."""

    initial: int = 20
    least: int = 4
    most: int = 200
    tolerance: float = 2.0
    smoothing: float = 0.2
    queue: int = 4
    window_s: float = 1.0


class Gradient:
    """Feed it what was done in full: neither what was shed nor what was given up."""

    def __init__(self, limits: GradientLimits | None = None) -> None:
        self._limits = limits or GradientLimits()
        self._limit = float(self._limits.initial)
        self._long_s = 0.0
        self._windows = 0
        self._window_ends = float("-inf")
        self._sum_s = 0.0
        self._count = 0
        self._in_flight_most = 0

    @property
    def limit(self) -> int:
        """How much may be in flight now."""
        return int(self._limit)

    def observe(self, latency_s: float, *, in_flight: int, now: float) -> None:
        """One more was done; `in_flight` were under way when it began."""
        if self._count == 0:
            self._window_ends = now + self._limits.window_s
        self._sum_s += latency_s
        self._count += 1
        self._in_flight_most = max(self._in_flight_most, in_flight)
        if now >= self._window_ends:
            self._close_window()

    def _close_window(self) -> None:
        short_s = max(1e-9, self._sum_s / self._count)
        is_used = self._in_flight_most * 2 >= self._limit
        self._sum_s, self._count, self._in_flight_most = 0.0, 0, 0
        self._windows = min(self._windows + 1, LONG_SAMPLES)
        self._long_s += (short_s - self._long_s) / self._windows
        if self._long_s > DRIFT_FACTOR * short_s:
            self._long_s *= DRIFT_DECAY
        if not is_used:  # the limit was not what held anything back
            return
        limits = self._limits
        gradient = min(1.0, max(GRADIENT_LEAST, limits.tolerance * self._long_s / short_s))
        wanted = self._limit * gradient + limits.queue
        smoothed = self._limit + (wanted - self._limit) * limits.smoothing
        self._limit = min(float(limits.most), max(float(limits.least), smoothed))
