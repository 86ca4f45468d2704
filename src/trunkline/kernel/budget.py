"""How many extra tries a client may make: a share of its own requests, and a trickle besides.

Under a failure that retries cannot mend, they are only load. With a budget of a tenth, a service
that fails every request sees 1.1 times its usual load and not three times.
"""

from dataclasses import dataclass
from typing import Final

from trunkline.kernel.rolling import BUCKETS, SPAN_S, RollingCount

RETRY_RATIO: Final = 0.10
"""Of requests. Google SRE, "Handling Overload"; in our model a tenth recovers sooner than the
fifth that Finagle allows."""
RETRIES_PER_S_LEAST: Final = 1.0
"""So that a client with few requests may retry at all."""
HEDGE_RATIO: Final = 0.05
"""Of requests. Dean and Barroso, "The Tail at Scale": a hedge at the 95th percentile."""


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """Extras allowed in `span_s` seconds: `ratio` of the requests, and `per_s` each second."""

    ratio: float
    per_s: float
    span_s: float = SPAN_S


RETRY_BUDGET: Final = BudgetLimits(RETRY_RATIO, RETRIES_PER_S_LEAST)
HEDGE_BUDGET: Final = BudgetLimits(HEDGE_RATIO, 0.0)


class Budget:
    """Counts requests and extras. What was not used in time is gone."""

    __slots__ = ("_extras", "_limits", "_requests")

    def __init__(self, limits: BudgetLimits = RETRY_BUDGET) -> None:
        self._limits = limits
        self._requests = RollingCount(limits.span_s, BUCKETS)
        self._extras = RollingCount(limits.span_s, BUCKETS)

    def deposit(self, now: float) -> None:
        """A request begins."""
        self._requests.add(now)

    def withdraw(self, now: float) -> bool:
        """Whether one extra try may be made; if so it is counted."""
        if self._extras.total(now) + 1 > self.allowance(now):
            return False
        self._extras.add(now)
        return True

    def allowance(self, now: float) -> float:
        """Extras allowed in the present span, used ones included."""
        limits = self._limits
        return limits.ratio * self._requests.total(now) + limits.per_s * limits.span_s
