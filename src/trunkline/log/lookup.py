"""Finding an original in the log itself, for a SID that the local copy does not show yet.

Only leader reads: a read of another replica may miss what was just acknowledged. "Not there" needs
every shard's leader to say so.
"""

from collections.abc import Iterator

from trunkline.domain.events import Kind, Type
from trunkline.domain.sid import digits_of
from trunkline.kernel import Deadline
from trunkline.log.append import is_late
from trunkline.log.event import Event, UnreadableEvent, created_subject, decode_all
from trunkline.log.interface import Log, Stored, Unreadable
from trunkline.log.limits import TRY_TIMEOUT_S
from trunkline.log.names import SHARED_DIGITS
from trunkline.log.shards import order


async def find_original(
    log: Log, kind: Kind, account: str, sid: str, *, deadline: Deadline
) -> Event | Unreadable | None:
    """The first original of the order; `None` when no shard has one, surely."""
    unasked: Unreadable | None = None
    digits = digits_of(sid)
    for shard, name in _places(digits, log.shards):
        subject = created_subject(shard, kind, account, name)
        bound_s = min(TRY_TIMEOUT_S, deadline.remaining_s())
        standing = await log.read_first(shard, subject, timeout_s=bound_s)
        match standing:
            case Stored():
                found = _original_in(standing, digits)
                if isinstance(found, Event):
                    return found
                unasked = found or unasked
            case Unreadable():
                unasked = standing
            case None:
                pass
    return unasked


def _places(digits: str, shards: int) -> Iterator[tuple[int, str]]:
    """Where it may stand, the likeliest first: nobody can see of a SID whether it was keyed."""
    shared = digits[:SHARED_DIGITS]
    for together, alone in zip(order(shared, shards), order(digits, shards), strict=True):
        yield together, shared
        yield alone, digits


def _original_in(standing: Stored, digits: str) -> Event | Unreadable | None:
    try:
        events = decode_all(standing.payload)
    except UnreadableEvent as error:
        return Unreadable(str(error))
    for event in events:
        if event.type is Type.ORIGINAL and digits_of(event.sid) == digits:
            return None if is_late(event, standing.at) else event
    return None
