"""Capped exponential backoff with full jitter (AWS Builders' Library, "Timeouts, retries and backoff").

The first wait is drawn from 0..base, the next from 0..2*base, and so on up to the cap, so that many
clients cut off together do not come back together.
"""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """`delay_s(attempt)` for attempt 0, 1, 2 ...; `rng` decides the jitter."""

    base_s: float
    cap_s: float
    rng: random.Random

    def delay_s(self, attempt: int) -> float:
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(attempt, 32))
        return self.rng.uniform(0.0, ceiling)
