"""Carrying forward what never ends: the registers of the directory, before a prefix goes.

A message ends, and with it the need for its register. Who owns a number does not: its register is
what makes it unique, and what an inbound message is matched with. So before a prefix is purged, the
newest record of each such register in it is written once more, behind itself, by compare-and-set.
At no moment is the register empty, and of two hosts that do this, or one that dies half way, nothing
is left but a record too many.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from trunkline.domain.events import Kind, Type
from trunkline.kernel import Clock
from trunkline.log.append import is_late
from trunkline.log.event import created_filter, decode, encode
from trunkline.log.interface import Accepted, RetainedLog, Stored

CARRY_TIMEOUT_S: Final = 2.0
"""For one read or write of it: nobody waits for it, and a slow disk must not stop the trimming."""

ENDS: Final[Mapping[Kind, bool]] = {
    Kind.MESSAGE: True,
    Kind.INBOUND: True,
    Kind.NUMBER: False,
    Kind.ACCOUNT: False,
    Kind.APPLICATION: False,
    Kind.KEY: False,
}
"""Whether a resource of the kind is finished some day, so that its register may be trimmed. A test
fails for a kind without a row."""


async def carry(log: RetainedLog, shard: int, *, before: int, clock: Clock) -> bool:
    """Whether every register that never ends now has its newest record at `before` or behind it;
    if not, nothing may be purged, and repeating this is harmless."""
    return all(
        [await _carry_kind(log, shard, kind, before, clock) for kind in Kind if not ENDS[kind]]
    )


async def _carry_kind(log: RetainedLog, shard: int, kind: Kind, before: int, clock: Clock) -> bool:
    subjects, after = created_filter(shard, kind), 0
    while True:
        found = await log.read_next(shard, subjects, after=after, timeout_s=CARRY_TIMEOUT_S)
        # An empty read is proof here: all that could stand before the marker has committed.
        if found is None or (isinstance(found, Stored) and found.sequence >= before):
            return True
        if not isinstance(found, Stored) or not await _carry_one(log, found, before, clock):
            return False
        after = found.sequence


async def _carry_one(log: RetainedLog, found: Stored, before: int, clock: Clock) -> bool:
    newest = await log.read_last(found.shard, found.subject, timeout_s=CARRY_TIMEOUT_S)
    if not isinstance(newest, Stored):
        return False
    if newest.sequence >= before or decode(newest.payload).type is Type.DELETED:
        return True  # what was deleted has ended: an empty register says the same
    answer = await log.publish(
        newest.shard,
        newest.subject,
        _renewed(newest, clock),
        expected=newest.sequence,
        timeout_s=CARRY_TIMEOUT_S,
    )
    # Anything else, also a record of somebody else's: the next pass looks again.
    return isinstance(answer, Accepted)


def _renewed(record: Stored, clock: Clock) -> bytes:
    """The same record, of now: with its own time it would count as late, and so as closed. One that
    is late already stays so. When it was created and changed it goes on to say."""
    event = decode(record.payload)
    if is_late(event, record.at):
        return record.payload
    return encode(
        msgspec.structs.replace(
            event,
            at=clock.wall(),
            created_at=event.record_created_at,
            changed_at=event.record_changed_at,
        )
    )
