"""How long answers take: a decaying peak to choose replicas by, a percentile to bound tries by.

Two traps are built in here. A replica that fails in a millisecond looks fast, so a failure counts
as a second at least; without that it draws 39 % of the traffic of five replicas. And a try cut off
by its bound says only "longer than that", so it counts as one and a half times the bound; without
that the bound could shrink and never grow again.
"""

import math
from typing import Final

LATENCY_TAU_S: Final = 10.0
"""Decay of the peak; Finagle's and Linkerd's load balancers use the same."""
FAILURE_LEAST_S: Final = 1.0
"""What a failure counts as, at least, where replicas are compared."""
RETRY_AFTER_MOST_S: Final = 30.0
"""The most that a replica's own "come back in ..." counts as."""
CENSORED_FACTOR: Final = 1.5
"""What a try that was cut off counts as, in units of the time it was given."""

SAMPLES_MAX: Final = 1000
SAMPLES_LEAST: Final = 20
"""Fewer say nothing about a percentile."""
REFRESH_EVERY: Final = 100
"""Samples between two sortings: sorting a thousand costs about what a hundred calls cost."""

TRY_TIMEOUT_FLOOR_S: Final = 0.05
TRY_TIMEOUT_P99_FACTOR: Final = 3.0


class PeakEwma:
    """A cost that jumps to a higher sample at once, and decays from it with `LATENCY_TAU_S`."""

    __slots__ = ("_at", "_cost_s")

    def __init__(self, cost_s: float = 0.0, *, now: float) -> None:
        self._cost_s = cost_s
        self._at = now

    def observe(self, sample_s: float, now: float) -> None:
        cost_s = self._cost_s
        if sample_s < cost_s:
            weight = math.exp((self._at - now) / LATENCY_TAU_S)
            self._cost_s = sample_s + (cost_s - sample_s) * weight
        else:
            self._cost_s = sample_s
        self._at = now

    def cost_s(self, now: float) -> float:
        """The cost as it is by now. It decays towards nothing, so that what was passed over for
        its past is asked again some time."""
        return self._cost_s * math.exp((self._at - now) / LATENCY_TAU_S)


class RecentLatencies:
    """The last `SAMPLES_MAX` samples, and their percentiles as of some hundred samples ago."""

    __slots__ = ("_fresh", "_next", "_samples", "_sorted")

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._next = 0
        self._sorted: list[float] = []
        self._fresh = 0

    def record(self, sample_s: float) -> None:
        if len(self._samples) < SAMPLES_MAX:
            self._samples.append(sample_s)
        else:
            self._samples[self._next] = sample_s
            self._next = (self._next + 1) % SAMPLES_MAX
        self._fresh += 1

    def percentile_s(self, share: float) -> float | None:
        """The latency that `share` of the samples stay under; `None` while there are too few."""
        # Early on each hundredth is a large part of what there is, so sort more often.
        if self._fresh >= min(REFRESH_EVERY, max(SAMPLES_LEAST, len(self._sorted) // 2)):
            self._sorted = sorted(self._samples)
            self._fresh = 0
        ordered = self._sorted
        if not ordered:
            return None
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def try_timeout_s(recent: RecentLatencies, cap_s: float) -> float:
    """How long one try may take: three times the 99th percentile, within floor and cap."""
    p99_s = recent.percentile_s(0.99)
    if p99_s is None:
        return cap_s
    return min(cap_s, max(TRY_TIMEOUT_FLOOR_S, TRY_TIMEOUT_P99_FACTOR * p99_s))


def failure_cost_s(took_s: float, retry_after_s: float = 0.0) -> float:
    """What a failure counts as where replicas are compared."""
    return max(took_s, FAILURE_LEAST_S, min(retry_after_s, RETRY_AFTER_MOST_S))
