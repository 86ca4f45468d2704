"""A deadline: a moment on the monotonic clock after which nobody waits for the answer.

Between processes it travels as the milliseconds that are left, never as a time of day: two hosts'
clocks need not agree. Inside a process it is an argument, and a context variable for what cannot
be given one. Look at it on arrival, when something leaves a queue, and before every outside effect.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from trunkline.kernel.clock import Clock

DEADLINE_HEADER: Final = "X-Deadline-Ms"
"""Whole milliseconds, rounded down, so that no hop believes it has longer than its caller."""
_DIGITS_MAX: Final = 9


class DeadlinePassed(Exception):
    """Nobody waits for this any more. Not an `OSError`: no replica is to blame."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """An absolute moment of `clock.monotonic()`, made with `after`."""

    at: float
    clock: Clock

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> "Deadline":
        return cls(clock.monotonic() + seconds, clock)

    @classmethod
    def from_header(cls, text: str | None, clock: Clock, *, cap_s: float) -> "Deadline":
        """The caller's deadline as `DEADLINE_HEADER` tells it, at most `cap_s` from now; just that
        if the header is absent or no number."""
        if text is None or not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
            return cls.after(cap_s, clock)
        return cls.after(min(cap_s, int(text) / 1000.0), clock)

    def header(self) -> str:
        """The value of `DEADLINE_HEADER` for a request that leaves now."""
        return str(int(self.remaining_s() * 1000.0))

    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - self.clock.monotonic())

    def has_passed(self) -> bool:
        return self.clock.monotonic() >= self.at

    def check(self) -> None:
        """Raise `DeadlinePassed` if it has."""
        if self.has_passed():
            raise DeadlinePassed(
                f"the deadline passed {self.clock.monotonic() - self.at:.3f} s ago"
            )


_ambient: ContextVar[Deadline | None] = ContextVar("trunkline_deadline", default=None)


def ambient_deadline() -> Deadline | None:
    """The deadline of what this task is doing, if somebody above has set one."""
    return _ambient.get()


@contextlib.contextmanager
def deadline_scope(deadline: Deadline) -> Iterator[Deadline]:
    """What runs inside, tasks started there included, has this deadline, or an earlier one that
    holds already. Gives the one in force."""
    outer = _ambient.get()
    if outer is not None and outer.at < deadline.at:
        deadline = outer
    token = _ambient.set(deadline)
    try:
        yield deadline
    finally:
        _ambient.reset(token)


def check_deadline() -> None:
    """Raise `DeadlinePassed` if the ambient deadline has passed; without one, do nothing."""
    deadline = _ambient.get()
    if deadline is not None:
        deadline.check()
