"""Media of inbound messages: kept before the application is asked about the message.

The carrier's word for a message is its URLs, which are the carrier's and do not last. The message
itself is safe before; it waits for its media for a while, and then goes on without what cannot be
had, so that a text is never lost for a picture.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import structlog

from trunkline.domain.events import MessageReceived
from trunkline.domain.media import Piece
from trunkline.kernel import Clock, Deadline
from trunkline.log.event import Event
from trunkline.log.interface import Stored
from trunkline.messaging.media import Got, Media, any_bytes

KEEP_MAX_S: Final = 45.0
WAIT_MAX_S: Final = 300.0
"""How long a message waits, from when it was stored, for media that may yet be had."""
RETRY_S: Final = 5.0
FETCHES_MAX: Final = 8
"""Messages whose media are being fetched at once: the others, and those without media, go on."""
BUSY_RETRY_S: Final = 2.0
COPY_RETRY_S: Final = 0.1
REMEMBERED_MAX: Final = 10_000

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Later:
    """The message is to be looked at again in `after_s`."""

    after_s: float


@dataclass(frozen=True, slots=True)
class InboundMedia:
    """A process's hand on the media of inbound messages. `base_url` is where applications reach the
    API."""

    media: Media
    base_url: str
    clock: Clock
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(FETCHES_MAX))
    _written: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Messages whose media are written down, and perhaps not shown by the copy yet."""

    async def pieces(
        self, event: Event, received: MessageReceived, stored: Stored
    ) -> tuple[Piece, ...] | Later:
        """The message's media once this host's copy shows them: from then on their URLs answer. One
        that was deleted meanwhile has none any more."""
        if not received.media_urls:
            return ()
        message = self.media.shelf.find(event.sid)
        if message is not None and (message.is_deleted or message.media is not None):
            self._written.pop(event.sid, None)
            return message.pieces
        if event.sid in self._written:
            return Later(COPY_RETRY_S)
        if self._room.locked():
            return Later(BUSY_RETRY_S)
        async with self._room:
            return Later(await self._keep(event, received, stored))

    async def _keep(self, event: Event, received: MessageReceived, stored: Stored) -> float:
        """Fetch, keep and write down; in how many seconds to look again."""
        deadline = Deadline.after(KEEP_MAX_S, self.clock)
        got = await self.media.get(
            event, received.media_urls, bytes_max=any_bytes, deadline=deadline
        )
        if not isinstance(got, Got) or not self._is_all_there_will_be(got, stored):
            return RETRY_S
        for each in got.lost:
            log.warning(
                "inbound.media_lost", sid=event.sid, index=each.index, reason=each.why.reason
            )
        if not await self.media.shelf.write_down(event, got.pieces):
            return RETRY_S
        self._written[event.sid] = None
        if len(self._written) > REMEMBERED_MAX:
            self._written.popitem(last=False)
        return COPY_RETRY_S

    def told(self, event: Event, pieces: tuple[Piece, ...]) -> tuple[tuple[str, str], ...]:
        """The URL and the type of each piece, as an application is told them."""
        place = f"{self.base_url}/2010-04-01/Accounts/{event.account}/Messages/{event.sid}/Media"
        return tuple((f"{place}/{piece.sid}", piece.content_type) for piece in pieces)

    def _is_all_there_will_be(self, got: Got, stored: Stored) -> bool:
        is_patient = self.clock.wall() - stored.at < WAIT_MAX_S
        return not is_patient or all(each.why.is_final for each in got.lost)
