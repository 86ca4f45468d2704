"""A key that was used for two different messages, while neither create could see the other.

The second use of a key is answered 422 as soon as the first one is visible. Behind different shards
both may be answered 201; one is sent, and the fence finds the other. It must not vanish in silence.
"""

from typing import Final

import structlog

from trunkline.domain.events import KeyConflict, MessageCreated, Type
from trunkline.log.event import Event
from trunkline.messaging.record import EventRecorder

log: Final = structlog.get_logger(__name__)


def conflict_between(dropped: Event, kept: Event, *, shard: int) -> KeyConflict | None:
    """What a dropped copy in `shard` says that the original which counts does not; `None` for two
    copies of one create."""
    copy, original = dropped.body(), kept.body()
    if not isinstance(copy, MessageCreated) or not isinstance(original, MessageCreated):
        return None
    if dropped.sid != kept.sid or copy.fingerprint == original.fingerprint:
        return None
    return KeyConflict(kept=original.fingerprint, dropped=copy.fingerprint, dropped_in_shard=shard)


async def note_conflict(
    recorder: EventRecorder, dropped: Event, kept: Event | None, *, shard: int
) -> bool:
    """Whether the copy may be dropped: there is no conflict, or the message's record shows it.

    Noted twice, by two workers or after a crash, it folds into one.
    """
    conflict = None if kept is None else conflict_between(dropped, kept, shard=shard)
    if conflict is None:
        return True
    log.error("fence.key_conflict", sid=dropped.sid, shard=shard)
    return await recorder.record(
        dropped.kind, Type.KEY_CONFLICT, dropped.account, dropped.sid, conflict
    )
