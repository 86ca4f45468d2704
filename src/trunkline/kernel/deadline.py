"""A deadline: a moment on the monotonic clock after which nobody waits for the answer.

Between processes it travels as the milliseconds that are left, never as a time of day: two hosts'
clocks need not agree. Inside a process it is an argument, and a context variable for what cannot
be given one. Look at it on arrival, when something leaves a queue, and before every outside effect.
"""

from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
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
    def from_header(
        cls, text: str | None, clock: Clock, *, cap_s: float, waited_s: float = 0.0
    ) -> "Deadline":
        """The caller's deadline as `DEADLINE_HEADER` tells it, at most `cap_s`; just that if the
        header is absent or no number. It counts from when the request came, `waited_s` ago."""
        if text is None or not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
            return cls.after(cap_s - waited_s, clock)
        return cls.after(min(cap_s, int(text) / 1000.0) - waited_s, clock)

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


def deadline_scope(deadline: Deadline) -> "DeadlineScope":
    """What runs inside, tasks started there included, has this deadline, or an earlier one that
    holds already. Gives the one in force."""
    return DeadlineScope(deadline)


class DeadlineScope:
    """What `deadline_scope` gives. A class, because a server enters one for each request, and a
    generator as context manager costs five times as much."""

    __slots__ = ("_deadline", "_token")

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def __enter__(self) -> Deadline:
        outer = _ambient.get()
        in_force = self._deadline if outer is None or self._deadline.at <= outer.at else outer
        self._token: Token[Deadline | None] = _ambient.set(in_force)
        return in_force

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _ambient.reset(self._token)


def check_deadline() -> None:
    """Raise `DeadlinePassed` if the ambient deadline has passed; without one, do nothing."""
    deadline = _ambient.get()
    if deadline is not None:
        deadline.check()
