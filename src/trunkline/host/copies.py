"""What a host of a cluster has besides, so that its copy and those of its peers can help each other.

A host alone has none of it: no token, no peers, and no paths under `/internal/`.
"""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import prometheus_client
from starlette.types import ASGIApp

from trunkline.blobs.store import BlobStore
from trunkline.host.config import MONTH_S
from trunkline.host.context import Context
from trunkline.replica.compare import Comparison, Counters
from trunkline.replica.offers import OFFER_PAUSE_S, Offers
from trunkline.replica.progress import Progress
from trunkline.replica.projector import Projector
from trunkline.replica.refill import Refill
from trunkline.replica.snapshot import Snapshots

if TYPE_CHECKING:
    from trunkline.host.peers import HttpPeers


class Copies:
    """The parts of one process, each made when it is asked for. What was opened is closed with
    `stack`."""

    def __init__(self, context: Context, stack: contextlib.AsyncExitStack) -> None:
        self._context: Final = context
        self._stack: Final = stack
        self.peers: HttpPeers | None = None
        if context.peer_token is not None:
            self.peers = _peers(context, context.peer_token)
            stack.push_async_callback(self.peers.close)

    @property
    def refill(self) -> Refill | None:
        """Where a copy comes from that is lost, besides this host."""
        return None if self.peers is None else Refill(self.peers, self._context.clock)

    def comparison(self, projector: Projector, progress: Progress) -> tuple[Comparison, ...]:
        """The service that holds the copy against those of peers, for the projector's process."""
        context = self._context
        if self.peers is None:
            return ()
        months = context.settings.records.keep_months
        counters = Counters(
            parts=prometheus_client.Counter(
                "trunkline_replica_parts_compared",
                "Parts of the read copy that were held against a peer's.",
                registry=context.registry,
            ),
            repairs=prometheus_client.Counter(
                "trunkline_replica_repairs",
                "Records of the read copy that a peer's were merged into.",
                registry=context.registry,
            ),
        )
        comparison = Comparison(
            context.layout.replica,
            self.peers,
            projector.mend,
            progress.lag_ms,
            counters=counters,
            keep_s=months * MONTH_S if months else None,
            clock=context.clock,
            rng=context.rng,
        )
        return (comparison,)

    def served(self, app: ASGIApp, progress: Progress) -> tuple[ASGIApp, tuple[Offers, ...]]:
        """The API's application with what peers ask in front of it, and what has to run for that."""
        context = self._context
        if context.peer_token is None:
            return app, ()
        from trunkline.host.internal import InternalApi  # noqa: PLC0415 - only in a cluster
        from trunkline.host.internal_blobs import HostBlobs  # noqa: PLC0415 - as above

        copy: Path = context.layout.replica
        snapshots = Snapshots(copy, context.cluster, pause_s=OFFER_PAUSE_S)
        offers = Offers(context.log, snapshots, clock=context.clock)
        internal = InternalApi(
            app,
            copy,
            offers,
            progress.lag_ms,
            HostBlobs(BlobStore(context.layout.blobs), context.entropy),
            token=context.peer_token,
            cluster=context.cluster,
            clock=context.clock,
        )
        self._stack.callback(internal.close)
        return internal, (offers,)


def _peers(context: Context, token: str) -> "HttpPeers":
    from trunkline.host.peers import HttpPeers  # noqa: PLC0415 - a host alone does not pay for it

    return HttpPeers(
        context.peer_urls,
        token,
        context.cluster,
        former=context.former_peer_tokens,
        clock=context.clock,
        rng=context.rng,
    )
