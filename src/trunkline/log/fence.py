"""Fence: settle every shard before a copy's own, before anything is done outside because of it.

A tombstone only ever lands on an empty register, so the first original of the order is never
killed; and every shard before it is closed before it acts, so none can come before it later.
Once given, an answer never changes.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import assert_never

from trunkline.domain.events import Tombstone, Type
from trunkline.domain.sid import digits_of
from trunkline.kernel import Clock, Deadline
from trunkline.log.append import is_late
from trunkline.log.event import (
    Event,
    created_subject,
    decode_all,
    encode,
    encode_body,
    register_name,
)
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
from trunkline.log.shards import order


class Verdict(Enum):
    """What a fence found out about a copy."""

    TRUE = auto()
    DUPLICATE = auto()
    UNSETTLED = auto()
    """An earlier shard could not be asked in time; nothing may be done yet."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict; and with `DUPLICATE`, the earlier original, which counts in the copy's place."""

    verdict: Verdict
    original: Event | None = None


_TRUE = Ruling(Verdict.TRUE)
_UNSETTLED = Ruling(Verdict.UNSETTLED)


async def is_true_copy(
    log: Log, event: Event, stored: Stored, *, clock: Clock, deadline: Deadline
) -> Verdict:
    """Whether the original `event`, which stands in `stored`, is the one that counts; so are then
    those that stand in the same register."""
    return (await rule(log, event, stored, clock=clock, deadline=deadline)).verdict


async def rule(
    log: Log, event: Event, stored: Stored, *, clock: Clock, deadline: Deadline
) -> Ruling:
    """The same, for who must know which original counts instead."""
    for earlier in earlier_shards(event, log.shards):
        ruling = await _settle(log, event, stored, earlier, clock=clock, deadline=deadline)
        if ruling.verdict is not Verdict.TRUE:
            return ruling
    return _TRUE


def earlier_shards(event: Event, shards: int) -> tuple[int, ...]:
    """The shards in which another copy may stand before this one."""
    if event.prior is not None:
        return event.prior
    if not event.position:
        return ()
    return order(digits_of(event.sid), shards)[: event.position]


async def _settle(
    log: Log, event: Event, stored: Stored, earlier: int, *, clock: Clock, deadline: Deadline
) -> Ruling:
    """Close `earlier` for this resource, or find the true original there."""
    subject = created_subject(earlier, event.kind, event.account, register_name(stored.subject))
    tombstone = encode(_tombstone(event, stored.shard))
    while not deadline.has_passed():
        match await log.publish(earlier, subject, tombstone, expected=0, timeout_s=TRY_TIMEOUT_S):
            case Accepted():
                return _TRUE
            case Exists():
                ruling = _ruling(await log.read_first(earlier, subject, timeout_s=TRY_TIMEOUT_S))
                if ruling.verdict is not Verdict.UNSETTLED:
                    return ruling
            case Undecided() | Refused() | Unknown():
                pass
            case other:
                assert_never(other)
        await clock.sleep(min(RETRY_PAUSE_S, deadline.remaining_s()))
    return _UNSETTLED


def _ruling(standing: Stored | Unreadable | None) -> Ruling:
    """What the first record of an earlier register says about a later copy."""
    if not isinstance(standing, Stored):
        return _UNSETTLED  # an empty read proves nothing
    first = decode_all(standing.payload)[0]
    if first.type is Type.TOMBSTONE or is_late(first, standing.at):
        return _TRUE
    return Ruling(Verdict.DUPLICATE, first)


def _tombstone(event: Event, shard: int) -> Event:
    return Event(
        id=f"{event.id}:tombstone",
        kind=event.kind,
        type=Type.TOMBSTONE,
        sid=event.sid,
        account=event.account,
        at=event.at,
        by_host=event.by_host,
        data=encode_body(Tombstone(for_shard=shard)),
    )
