"""A message's media once they are in: their bytes, what is written down of them, and their end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from trunkline.blobs.shared import SharedBlobs
from trunkline.domain.events import Kind, MediaKept, MediaRemoved, Type
from trunkline.domain.media import Piece
from trunkline.domain.message import Message
from trunkline.kernel import Clock, Deadline
from trunkline.log.event import Event
from trunkline.messaging.record import EventRecorder

SHOWN_EVERY_S: Final = 0.02
"""How often the copy is looked at until it shows a deletion."""


@dataclass(frozen=True, slots=True)
class MediaShelf:
    """A process's hand on media. It implements the `MediaPort` of the API; `find` gives a message as
    the host's copy shows it."""

    blobs: SharedBlobs
    recorder: EventRecorder
    find: Callable[[str], Message | None]
    clock: Clock

    async def content(self, name: str, *, deadline: Deadline) -> bytes | None:
        return await self.blobs.content(name, deadline=deadline)

    async def remove(self, message: Message, media: str, *, deadline: Deadline) -> bool:
        """The bytes go later, when no other message has them (`replica/media_upkeep`)."""
        kind = Kind.MESSAGE if message.received is None else Kind.INBOUND
        removed = MediaRemoved(media=(media,))
        account, sid = message.account, message.sid
        is_kept = await self.recorder.record(
            kind, Type.MEDIA_REMOVED, account, sid, removed, deadline=deadline
        )
        if not is_kept:
            return False
        while not deadline.has_passed():
            shown = self.find(sid)
            if shown is None or media in shown.media_removed:
                return True
            await self.clock.sleep(SHOWN_EVERY_S)
        return False

    async def write_down(self, event: Event, pieces: tuple[Piece, ...]) -> bool:
        """Whether it is recorded that these are the media of the original `event`."""
        kept = MediaKept(pieces=pieces)
        return await self.recorder.record(
            event.kind, Type.MEDIA_KEPT, event.account, event.sid, kept
        )
