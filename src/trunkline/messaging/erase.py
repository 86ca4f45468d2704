"""Erasing: a finished message loses its content, or is not shown any more at all.

Both are events that may arrive in any order, and the fold of a message leaves out what they take
away, whichever it sees first. What the log and older snapshots still hold until they are trimmed and
replaced is said in docs/design/retention.md.
"""

from dataclasses import dataclass
from typing import Final

import structlog

from trunkline.domain.events import Body, Deleted, Kind, Redacted, Type
from trunkline.domain.message import Message, fold
from trunkline.kernel import Deadline
from trunkline.log.author import Author
from trunkline.messaging.record import EventRecorder
from trunkline.replica.queries import Replica

log: Final = structlog.get_logger(__name__)

SHOWN_MAX_S: Final = 1.0
"""How long the answer waits for the host's copy, so that a read behind it shows what it says."""


@dataclass(frozen=True, slots=True)
class Eraser:
    """Writes down what is not to be shown any more. A repeat changes nothing."""

    recorder: EventRecorder
    replica: Replica
    author: Author

    async def redact(self, message: Message, *, deadline: Deadline) -> Message | None:
        """The message without its content; `None`: it may or may not be written down. Asking again
        is safe."""
        return await self._erase(message, Type.REDACTED, Redacted(), deadline)

    async def delete(self, message: Message, *, deadline: Deadline) -> bool:
        """Whether it is surely written down; if not, it may be. Asking again is safe."""
        return await self._erase(message, Type.DELETED, Deleted(), deadline) is not None

    async def _erase(
        self, message: Message, type_: Type, body: Body, deadline: Deadline
    ) -> Message | None:
        kind = Kind.MESSAGE if message.received is None else Kind.INBOUND
        event = self.author.event(kind, type_, message.account, message.sid, body)
        place = await self.recorder.store([event], deadline=deadline)
        if place is None:
            return None
        log.info("message.erased", sid=message.sid, what=type_.value)
        shown_max_s = min(SHOWN_MAX_S, deadline.remaining_s())
        shown_by = Deadline.after(shown_max_s, self.author.clock)
        await self.replica.wait_until_seen(*place, deadline=shown_by)
        return fold(message, body, at=event.at, event_id=event.id, position=0)
