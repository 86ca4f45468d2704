"""Which replicas are passed over: those that failed five times in a row, or one time in five.

The score by latency already keeps most calls from a replica that fails or hangs. Ejection is for
one that fails only some of the time, and makes sure that a dead one costs one try a term.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from trunkline.kernel.rolling import RollingCount


@dataclass(frozen=True, slots=True)
class EjectionLimits:
    """When a replica is ejected and for how long (the consecutive rule is Envoy's, the share over
    a window is Finagle's and Linkerd's)."""

    failures_in_a_row: int = 5
    success_share_least: float = 0.8
    outcomes_least: int = 20
    """Fewer in ten seconds say nothing about a share."""
    term_least_s: float = 1.0
    term_most_s: float = 30.0


EJECTION: Final = EjectionLimits()
EJECTED_SHARE_MOST: Final = 0.5
"""When more of a pool looks bad than this, the fault is elsewhere and ejections are ignored."""


class Standing(Enum):
    """What a replica may be given."""

    IN = "in"
    OUT = "out"
    DUE = "due"
    """Its term is over: one call will show whether it is back."""


@dataclass(frozen=True, slots=True)
class Ejection:
    """Why a replica is out. `rule` says which of the two it broke, `failures` of `outcomes` tries in the
    ten seconds before it did, and `last_error` what it answered last, a failed probe included. It is out
    `since` that moment `until` the next probe, by the clock of who asks."""

    rule: str
    failures: int
    outcomes: int
    last_error: str
    since: float
    until: float


class Health:
    """One replica's record. Outcomes of tries that began before an ejection no longer count."""

    __slots__ = (
        "_bad", "_good", "_limits", "_probed_at", "_readmitted_at", "_rng", "_since",
        "_terms", "_until", "ejection", "in_a_row", "is_in",
    )  # fmt: skip

    def __init__(self, limits: EjectionLimits, rng: random.Random) -> None:
        self.is_in = True
        self.ejection: Ejection | None = None
        """Of a replica that is out."""
        self._limits = limits
        self._rng = rng
        self.in_a_row = 0
        self._good = RollingCount()
        self._bad = RollingCount()
        self._terms = 0
        self._since = 0.0
        self._until = 0.0
        self._probed_at: float | None = None
        self._readmitted_at = float("-inf")

    def standing(self, now: float) -> Standing:
        if self.is_in:
            return Standing.IN
        if now < self._until:
            return Standing.OUT
        # A probe whose outcome nobody reported is given up after another shortest term.
        if self._probed_at is None or now >= self._probed_at + self._limits.term_least_s:
            return Standing.DUE
        return Standing.OUT

    def probe(self, now: float) -> None:
        """The one call that may show it is back begins."""
        self._probed_at = now

    def abandon(self, *, began: float) -> None:
        """A try ended without an outcome; if it was the probe, another one may be made."""
        if not self.is_in and began >= self._until:
            self._probed_at = None

    def succeed(self, *, began: float, now: float) -> None:
        if self.is_in:
            self.in_a_row = 0
            self._good.add(now)
        elif began >= self._since:
            self.is_in = True
            self.ejection = None
            self._readmitted_at = now
            self.in_a_row = 0
            self._good.clear()
            self._bad.clear()

    def fail(self, *, began: float, now: float, error: str = "") -> bool:
        """Whether that ejects it, for the first time or because its probe failed."""
        if self.is_in:
            self.in_a_row += 1
            self._bad.add(now)
            if not self._is_bad(now):
                return False
            # What has been well for the longest term starts anew.
            if now - self._readmitted_at >= self._limits.term_most_s:
                self._terms = 0
            self._eject(now, error)
            return True
        if began >= self._since and now >= self._until:
            self._eject(now, error)
            return True
        return False

    def _is_bad(self, now: float) -> bool:
        limits = self._limits
        if self.in_a_row >= limits.failures_in_a_row:
            return True
        bad = self._bad.total(now)
        outcomes = bad + self._good.total(now)
        good_least = limits.success_share_least * outcomes
        return outcomes >= limits.outcomes_least and outcomes - bad < good_least

    def _eject(self, now: float, error: str) -> None:
        # Jitter over the upper half, so that many clients do not probe at the same moment.
        limits = self._limits
        longest_s = min(limits.term_most_s, limits.term_least_s * 2.0 ** min(self._terms + 1, 32))
        term_s = self._rng.uniform(max(limits.term_least_s, longest_s / 2.0), longest_s)
        self.is_in = False
        self._terms += 1
        self._since = now
        self._until = now + term_s
        self._probed_at = None
        if self.ejection is None:
            self.ejection = self._ejection(now, error)
        else:
            self.ejection = replace(self.ejection, last_error=error, until=self._until)

    def _ejection(self, now: float, error: str) -> Ejection:
        bad = self._bad.total(now)
        outcomes = bad + self._good.total(now)
        is_row = self.in_a_row >= self._limits.failures_in_a_row
        rule = (
            f"{self.in_a_row} failures in a row"
            if is_row
            else f"{bad} failures of {outcomes} tries"
        )
        return Ejection(rule, bad, outcomes, error, since=now, until=self._until)


def ejections_count(healths: Sequence[Health]) -> bool:
    """Whether so few are out that it is they who are bad, and not something they share."""
    out = sum(not health.is_in for health in healths)
    return out <= EJECTED_SHARE_MOST * len(healths)
