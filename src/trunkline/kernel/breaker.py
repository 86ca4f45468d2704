"""A breaker, for what has no replicas: one carrier's link, one customer's server.

Closed, all calls pass. When half of them fail it opens, and calls are refused at once, which
spares both sides. After its term one probe passes, and decides. Where there are replicas, use a
`Pool`: a breaker in front of one would turn off what still works.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from trunkline.kernel.clock import Clock
from trunkline.kernel.rolling import RollingCount

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """Hystrix's share and volume; the term doubles while probes fail."""

    failure_share: float = 0.5
    outcomes_least: int = 20
    """Fewer in ten seconds say nothing about a share."""
    term_least_s: float = 5.0
    term_most_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Open:
    """The call was refused and nothing left. Asking again before `retry_after_s` is useless."""

    retry_after_s: float


class Breaker:
    """The decision: ask before each call, report after it."""

    __slots__ = ("_bad", "_good", "_is_open", "_limits", "_probed_at", "_term_s", "_until")

    def __init__(self, limits: BreakerLimits | None = None) -> None:
        self._limits = limits or BreakerLimits()
        self._good = RollingCount()
        self._bad = RollingCount()
        self._is_open = False
        self._until = 0.0
        self._term_s = 0.0
        self._probed_at: float | None = None

    def ask(self, now: float) -> Open | None:
        """`None`: go on. In an open breaker whose term is over that is so for one caller only."""
        if not self._is_open:
            return None
        if now < self._until:
            return Open(self._until - now)
        # A probe whose outcome nobody reported is given up after the shortest term.
        if self._probed_at is not None:
            left_s = self._probed_at + self._limits.term_least_s - now
            if left_s > 0.0:
                return Open(left_s)
        self._probed_at = now
        return None

    def succeed(self, *, began: float, now: float) -> None:
        """A call that began at `began` succeeded."""
        if not self._is_open:
            self._good.add(now)
        elif began >= self._until:
            self._is_open = False
            self._term_s = 0.0
            self._good.clear()
            self._bad.clear()

    def fail(self, *, began: float, now: float) -> None:
        """A call that began at `began` failed, in a way that says something about the peer."""
        if self._is_open:
            if began >= self._until:
                self._open(now)
            return
        self._bad.add(now)
        bad = self._bad.total(now)
        outcomes = bad + self._good.total(now)
        if outcomes >= self._limits.outcomes_least and bad >= self._limits.failure_share * outcomes:
            self._open(now)

    def abandon(self, *, began: float) -> None:
        """A call ended without an outcome; if it was the probe, another one may be made."""
        if self._is_open and began >= self._until:
            self._probed_at = None

    def _open(self, now: float) -> None:
        limits = self._limits
        self._term_s = min(limits.term_most_s, max(limits.term_least_s, 2.0 * self._term_s))
        self._is_open = True
        self._until = now + self._term_s
        self._probed_at = None

    def __repr__(self) -> str:
        state = f"open, next probe at {self._until:.3f}" if self._is_open else "closed"
        return f"<Breaker {state}>"


async def guarded(
    breaker: Breaker, act: Callable[[], Awaitable[Answer]], *, clock: Clock
) -> Answer | Open:
    """Run `act` if the breaker lets it. An `OSError`, and so a timeout, counts as a failure and is
    raised on; other exceptions are the caller's own and count as nothing."""
    began = clock.monotonic()
    if (refusal := breaker.ask(began)) is not None:
        return refusal
    is_told = False
    try:
        answer = await act()
        breaker.succeed(began=began, now=clock.monotonic())
        is_told = True
    except OSError:
        breaker.fail(began=began, now=clock.monotonic())
        is_told = True
        raise
    finally:
        if not is_told:
            breaker.abandon(began=began)
    return answer
