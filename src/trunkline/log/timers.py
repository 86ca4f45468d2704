"""Timers by name: set in the first shard that takes them, cancelled in all, due at least once.

A timer is a reminder and nothing more: whoever is given a due one looks at the time and at the
chain of what it is about, and only a record of that chain decides. That is why a timer may stand in
two shards after an answer was lost, come twice, come early, or come after it was cancelled.
"""

import re
from dataclasses import dataclass
from typing import Final, assert_never

from trunkline.kernel import Clock, Deadline
from trunkline.log.interface import (
    Accepted,
    Exists,
    Refused,
    Timers,
    Undecided,
    Unknown,
    Unreadable,
)
from trunkline.log.limits import RETRY_PAUSE_S, TRY_TIMEOUT_S
from trunkline.log.shards import order

TIMER_SHARDS: Final = 4
"""Enough that one whose leader is being replaced is passed over. Unlike that of the log's shards
this number is no part of any argument: it may be raised."""

TIMERS_BYTES_MAX: Final = 128 * 1024 * 1024
"""All timers together. At 0.7 KiB for a message with a short text that is 190,000, for which the
engine takes 0.2 to 0.5 GiB of memory (measured: 1.2 to 2.5 KiB each)."""

TIMERS_MAX: Final = 50_000
"""In one shard of the engine in memory, which looks through them at each fetch."""

NAME_CHARS_MAX: Final = 128

_NAME: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{NAME_CHARS_MAX}}}\Z")


@dataclass(frozen=True, slots=True)
class TimerSet:
    """It stands in `shard`, flushed: it will be delivered, whoever dies."""

    shard: int


@dataclass(frozen=True, slots=True)
class TimersDropped:
    """No timer of the name stands any more. One may have become due before."""

    count: int


@dataclass(frozen=True, slots=True)
class TimerUnsure:
    """Not known in the deadline. What was asked for may have happened, and may be asked again."""

    reason: str


async def set_timer(
    timers: Timers, name: str, due_at: float, payload: bytes, *, clock: Clock, deadline: Deadline
) -> TimerSet | TimerUnsure:
    """Have `payload` delivered at `due_at`. A second time under the same name moves it, or, where
    the first stands in another shard, gives a second delivery. Raises `ValueError` for the name."""
    require_name(name)
    reason = "the deadline had passed"
    while not deadline.has_passed():
        for shard in order(name, timers.shards):
            bound_s = min(TRY_TIMEOUT_S, deadline.remaining_s())
            answer = await timers.write(shard, name, due_at, payload, timeout_s=bound_s)
            match answer:
                case Accepted():
                    return TimerSet(shard)
                case Refused(reason=reason) | Unknown(reason=reason):
                    pass
                case Exists() | Undecided():
                    reason = f"shard {shard} answered {answer}"
                case other:
                    assert_never(other)
        await clock.sleep(min(RETRY_PAUSE_S, deadline.remaining_s()))
    return TimerUnsure(reason)


async def cancel_timer(
    timers: Timers, name: str, *, clock: Clock, deadline: Deadline
) -> TimersDropped | TimerUnsure:
    """Drop every timer of this name. This only spares work: what must not happen any more is
    forbidden by a record of its chain. Raises `ValueError` for the name."""
    require_name(name)
    left = list(order(name, timers.shards))
    count, reason = 0, "the deadline had passed"
    while left and not deadline.has_passed():
        bound_s = min(TRY_TIMEOUT_S, deadline.remaining_s())
        dropped = await timers.drop(left[0], name, timeout_s=bound_s)
        if isinstance(dropped, Unreadable):
            reason = dropped.reason
            left.append(left.pop(0))
            await clock.sleep(min(RETRY_PAUSE_S, deadline.remaining_s()))
        else:
            count += dropped
            left.pop(0)
    return TimerUnsure(reason) if left else TimersDropped(count)


def require_name(name: str) -> None:
    """Raises `ValueError` for what cannot be one word of a subject."""
    if not _NAME.match(name):
        raise ValueError(f"{name!r} cannot be a timer's name")


def waiting_subject(shard: int, name: str) -> str:
    """Where a timer stands until it is due."""
    return f"timer.{shard}.waiting.{name}"


def due_subject(shard: int, name: str) -> str:
    """Where it stands from then until it is acknowledged; `>` for the name means all."""
    return f"timer.{shard}.due.{name}"
