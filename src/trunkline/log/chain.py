"""A resource's chain: records behind its true original, each written on what the writer last saw.

`advance` sends the same bytes until it knows: they stand there, or something else does. It never
concludes from a timeout.
"""

from dataclasses import dataclass
from typing import assert_never

from trunkline.kernel import Clock, Deadline
from trunkline.log.event import Event, encode
from trunkline.log.interface import (
    Accepted,
    Exists,
    Log,
    Refused,
    Stored,
    Undecided,
    Unknown,
    Unreadable,
)
from trunkline.log.limits import RETRY_PAUSE_S, TRY_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Advanced:
    """The record stands at `sequence`, the end of the chain when it was written."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Overtaken:
    """The chain's newest record is another one."""

    newest: Stored


@dataclass(frozen=True, slots=True)
class Stalled:
    """Not known in the deadline; the record may yet land."""

    reason: str


AdvanceAnswer = Advanced | Overtaken | Stalled


async def advance(
    log: Log,
    shard: int,
    subject: str,
    record: Event,
    *,
    expected: int,
    clock: Clock,
    deadline: Deadline,
) -> AdvanceAnswer:
    """Write `record` behind sequence `expected` of the chain."""
    payload = encode(record)
    reason = "the deadline had passed"
    while not deadline.has_passed():
        answer = await log.publish(
            shard, subject, payload, expected=expected, timeout_s=TRY_TIMEOUT_S
        )
        match answer:
            case Accepted(sequence=sequence):
                return Advanced(sequence)
            case Exists():
                newest = await log.read_last(shard, subject, timeout_s=TRY_TIMEOUT_S)
                if isinstance(newest, Stored):
                    if newest.payload == payload:
                        return Advanced(newest.sequence)
                    if newest.sequence != expected:
                        return Overtaken(newest)
                reason = newest.reason if isinstance(newest, Unreadable) else "an empty read"
            case Undecided():
                reason = "another record is under way"
            case Refused(reason=reason) | Unknown(reason=reason):
                pass
            case other:
                assert_never(other)
        await clock.sleep(min(RETRY_PAUSE_S, deadline.remaining_s()))
    return Stalled(reason)
