"""What a process of a host has for media, each part made when it is asked for."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from trunkline.blobs.shared import SharedBlobs
from trunkline.blobs.store import BlobStore
from trunkline.host import outward
from trunkline.host.context import Context
from trunkline.messaging.media_shelf import MediaShelf
from trunkline.messaging.record import EventRecorder
from trunkline.replica.queries import Replica

if TYPE_CHECKING:
    from trunkline.host.peers import HttpPeers
    from trunkline.messaging.carrier import TakesMedia
    from trunkline.messaging.inbound_media import InboundMedia
    from trunkline.messaging.media import Media
    from trunkline.messaging.media_fetch import MediaFetcher
    from trunkline.messaging.outbound_media import OutboundMedia
    from trunkline.webhooks.session import SessionFactory


def shared_blobs(context: Context, peers: "HttpPeers | None") -> SharedBlobs:
    """The host's blobs, and where it has peers, theirs."""
    return SharedBlobs(BlobStore(context.layout.blobs), peers, context.entropy)


class MediaParts:
    """What was opened is closed with `stack`. Media that customers name are fetched with sessions of
    `session_factory`; a handset's come from where its carrier keeps them."""

    def __init__(
        self,
        context: Context,
        replica: Replica,
        recorder: EventRecorder,
        blobs: SharedBlobs,
        stack: contextlib.AsyncExitStack,
        session_factory: "Callable[[], SessionFactory]",
    ) -> None:
        self._context = context
        self._replica = replica
        self._stack = stack
        self._session_factory = session_factory
        self.fetchers: list[MediaFetcher] = []
        self.shelf = MediaShelf(blobs, recorder, replica.message, context.clock)

    def outbound(self, carrier: "TakesMedia") -> "OutboundMedia":
        from trunkline.messaging.outbound_media import OutboundMedia  # noqa: PLC0415 - as below

        return OutboundMedia(
            self._media(self._session_factory()), carrier, clock=self._context.clock
        )

    def inbound(self) -> "InboundMedia":
        from trunkline.messaging.inbound_media import InboundMedia  # noqa: PLC0415 - as below

        settings = self._context.settings
        base_url = settings.media.public_url or settings.host.http.url
        carriers = outward.session_factory(self._context, self._replica, is_for_carrier=True)
        return InboundMedia(self._media(carriers), base_url.rstrip("/"), self._context.clock)

    def _media(self, session_factory: "SessionFactory") -> "Media":
        from trunkline.messaging.media import Media  # noqa: PLC0415 - paid for where it is used
        from trunkline.messaging.media_fetch import MediaFetcher  # noqa: PLC0415 - as above

        fetcher = MediaFetcher(
            session_factory=session_factory, clock=self._context.clock, rng=self._context.rng
        )
        self.fetchers.append(fetcher)
        self._stack.push_async_callback(fetcher.close)
        return Media(fetcher, self.shelf)
