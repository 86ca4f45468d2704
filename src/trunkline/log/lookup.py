"""Finding an original in the log itself, for a SID that the local copy does not show yet.

Only leader reads: a read of another replica may miss what was just acknowledged. "Not there" needs
every shard's leader to say so.
"""

from trunkline.domain.events import Kind, Type
from trunkline.domain.sid import digits_of
from trunkline.kernel import Deadline
from trunkline.log.append import is_late
from trunkline.log.event import Event, UnreadableEvent, created_subject, decode
from trunkline.log.interface import Log, Stored, Unreadable
from trunkline.log.limits import TRY_TIMEOUT_S
from trunkline.log.shards import order


async def find_original(
    log: Log, kind: Kind, account: str, sid: str, *, deadline: Deadline
) -> Event | Unreadable | None:
    """The first original of the order; `None` when no shard has one, surely."""
    unasked: Unreadable | None = None
    for shard in order(digits_of(sid), log.shards):
        subject = created_subject(shard, kind, account, digits_of(sid))
        bound_s = min(TRY_TIMEOUT_S, deadline.remaining_s())
        standing = await log.read_first(shard, subject, timeout_s=bound_s)
        match standing:
            case Stored(payload=payload, at=stored_at):
                try:
                    event = decode(payload)
                except UnreadableEvent as error:
                    unasked = Unreadable(str(error))
                    continue
                if event.type is Type.ORIGINAL and not is_late(event, stored_at):
                    return event
            case Unreadable():
                unasked = standing
            case None:
                pass
    return unasked
