"""The composition root: the only place where concrete engines, carriers and services meet.

`assemble` builds the services that one process runs, over a log that is already open. Which
services share a process is a setting; nothing here knows or cares how many processes there are.
"""

import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol, cast

from starlette.types import ASGIApp

from trunkline.api.magic_numbers import ALWAYS_OURS
from trunkline.api.services import ApiServices
from trunkline.blobs.shared import SharedBlobs
from trunkline.directory.accounts import all_accounts
from trunkline.directory.applications import all_applications
from trunkline.directory.keys import all_keys
from trunkline.directory.news import News
from trunkline.directory.numbers import Numbers
from trunkline.domain.events import Kind
from trunkline.domain.price import Prices, micros_of
from trunkline.host import ablations, cluster, gauges, metrics, outward, queues, status
from trunkline.host.cluster import ClusterPart
from trunkline.host.context import Context
from trunkline.host.copies import Copies
from trunkline.host.leased_dispatch import LeasedDispatch
from trunkline.host.leases import FileLeases
from trunkline.host.media_parts import MediaParts, shared_blobs
from trunkline.host.retain import retention_of
from trunkline.kernel.crash import CrashHere, arm
from trunkline.log.append import ShardHealth
from trunkline.log.interface import ClusteredLog
from trunkline.log.share import WHOLE, Share
from trunkline.messaging import receipts, schedule, work
from trunkline.messaging.accept import Acceptor
from trunkline.messaging.cancel import Canceller
from trunkline.messaging.carriers import CARRIERS
from trunkline.messaging.carriers.simulated import SimulatedCarrier
from trunkline.messaging.dispatch import Dispatcher
from trunkline.messaging.erase import Eraser
from trunkline.messaging.lease import Leases
from trunkline.messaging.lookup import MessageLookup
from trunkline.messaging.receipts import Receipts
from trunkline.messaging.record import EventRecorder
from trunkline.messaging.schedule import DueMessages, Schedule, one_after_another
from trunkline.messaging.senders import Senders
from trunkline.messaging.work import OnAmbiguous
from trunkline.replica.media_upkeep import MediaUpkeep
from trunkline.replica.progress import Progress
from trunkline.replica.projector import Projector
from trunkline.replica.queries import Replica

if TYPE_CHECKING:
    from trunkline.messaging.callbacks import StatusCallbacks
    from trunkline.messaging.outbound_media import OutboundMedia
    from trunkline.webhooks.client import WebhookClient

_WORKERS: Final = ("dispatch", "receipts", "webhooks", "inbound")

CARRIER_NAME: Final = "simulated"


class Service(Protocol):
    """Something that runs until it is drained or cancelled."""

    @property
    def name(self) -> str: ...

    async def run(self) -> None: ...

    def drain(self) -> None:
        """Take nothing new; `run` returns when what is in hand is settled."""


class Support(Protocol):
    """Something that runs until it is cancelled."""

    async def run(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts of one process. `supports` are what the services lean on: they run for longer, and
    are cancelled when the services have ended. `app` is there where the process has the API, and
    `part` where its host has others."""

    services: tuple[Service, ...]
    supports: tuple[Support, ...]
    progress: Progress
    app: ASGIApp | None
    part: ClusterPart | None = None


@contextlib.asynccontextmanager
async def assemble(
    context: Context,
    names: Sequence[str],
    *,
    readiness: Callable[[], list[str]],
    on_newer: Callable[[str], None],
) -> AsyncIterator[Assembly]:
    """Build the services `names`; on leaving, everything that was opened is closed. `on_newer` is
    told the reason if the projector finds a log that only a newer version can read.

    The projector, where it is one of them, is open and not yet running; where it is not, the parent
    process has made sure that there is a copy to read.
    """
    async with contextlib.AsyncExitStack() as stack:
        path = context.layout.replica
        progress = Progress(context.layout.progress, shards=context.log.shards, clock=context.clock)
        stack.callback(progress.close)
        crash_here = arm(context.settings.host.crash_at, context.layout.run)
        part = cluster.join(context, names)
        if part is not None:
            # Whoever has lost its copy asks the others for it, so it must have heard them.
            context = replace(context, peer_urls=part.base_urls)
            await stack.enter_async_context(part.listening())
        copies = Copies(context, stack)
        blobs = shared_blobs(context, copies.peers)
        supports: list[Support] = []
        if "projector" in names:
            projector = Projector(
                _parts(context).copied(context.log, path, context.clock.wall()),
                path,
                progress,
                cluster=context.cluster,
                clock=context.clock,
                on_newer=on_newer,
                crash_here=crash_here,
                refill=copies.refill,
            )
            await projector.open()
            supports += [
                projector,
                *retention_of(context, progress, crash_here=crash_here, part=part),
                *copies.comparison(projector, progress),
                MediaUpkeep(path, blobs, progress.lag_ms, clock=context.clock),
            ]
        replica = Replica(path, progress)
        stack.callback(replica.close)
        gauges.watch(context.registry, replica, context.layout.retention, clock=context.clock)
        if part is not None and part.balancer is not None:
            supports.append(part.balancer)
        if part is not None:
            supports += [each for each in (part.cut_off, part.put_down) if each is not None]
        builder = _Builder(context, replica, blobs, stack, crash_here=crash_here, part=part)
        gauges.watch_pools(context.registry, lambda: (*builder.pool_owners(), copies.peers))
        services = tuple(builder.build(name) for name in _WORKERS if name in names)
        app = builder.api(readiness) if "api" in names else None
        if app is not None:
            app, serving_peers = copies.served(app, progress)
            supports += serving_peers
        supports += _told_of_itself(context, names, progress, part, builder, readiness)
        yield Assembly(
            (*services, *builder.companions), (*supports, *builder.links), progress, app, part
        )


def _parts(context: Context) -> ablations.Parts:
    host = context.settings.host
    return ablations.parts_of(host.break_protection, host.data)


def _told_of_itself(
    context: Context,
    names: Sequence[str],
    progress: Progress,
    part: ClusterPart | None,
    builder: "_Builder",
    readiness: Callable[[], list[str]],
) -> tuple[Support, ...]:
    """What the process leaves in the data folder for who asks about the host."""
    taking, telling = builder.receipts, builder.callbacks
    ages = queues.QueueAges(
        context.log,
        names,
        is_ours=lambda shard: part is None or not part.is_connected or part.shards.has(shard),
        unkept_s=None if taking is None else lambda: taking.unkept_s,
        clock=context.clock,
    )

    def waiting() -> list[queues.QueueLine]:
        if telling is None:
            return ages.lines()
        oldest_s = round(telling.oldest_waiting_s(), 1)
        return [*ages.lines(), queues.QueueLine(service="callbacks", oldest_s=oldest_s)]

    gauges.watch_queues(context.registry, waiting)
    return (
        ages,
        metrics.MetricsFile(context.registry, context.own_metrics, clock=context.clock),
        status.StatusFile(
            status.path_of(context.layout.run, os.getpid()),
            host=context.settings.host.name,
            services=names,
            readiness=readiness,
            progress=progress,
            part=part,
            owners=builder.pool_owners,
            queues=waiting,
            receivers_down=tuple if telling is None else telling.receivers_down,
            clock=context.clock,
        ),
    )


class _Builder:
    """Builds services, each part once for the process. What takes memory is imported where it is
    built: a process pays for the services it has, and not for those of its sibling."""

    def __init__(
        self,
        context: Context,
        replica: Replica,
        blobs: SharedBlobs,
        stack: contextlib.AsyncExitStack,
        *,
        crash_here: CrashHere,
        part: ClusterPart | None = None,
    ) -> None:
        self._context = context
        self._part = part
        self._replica = replica
        self._stack = stack
        self._crash_here = crash_here
        self._parts = _parts(context)
        self._health = ShardHealth(context.clock)
        self._recorder = EventRecorder(context.log, author=context.author)
        # Of the processes of one host, too, each has its own ears.
        self._news = News(cast(ClusteredLog, context.log).bus, replica)
        stack.callback(self._news.listen())
        # One guard for both of them, made when the first one is.
        self._session_factory = functools.cache(lambda: outward.session_factory(context, replica))
        self._media = MediaParts(
            context, replica, self._recorder, blobs, stack, self._session_factory
        )
        self._carrier: SimulatedCarrier | None = None
        self.links: list[Support] = []
        self.companions: list[Service] = []
        self.receipts: Receipts | None = None
        self.callbacks: StatusCallbacks | None = None
        self._client: WebhookClient | None = None

    def api(self, readiness: Callable[[], list[str]]) -> ASGIApp:
        from trunkline.api.app import create_app  # noqa: PLC0415 - as above

        context = self._context
        return create_app(
            ApiServices(
                acceptor=self._acceptor(),
                canceller=Canceller(context.log, self._replica, context.author),
                eraser=Eraser(self._recorder, self._replica, context.author),
                send_at_min_s=context.settings.messages.send_at_min_s,
                has_room_for_later=lambda: not context.log.timers.is_nearly_full,
                numbers=Numbers(
                    context.log,
                    self._replica,
                    author=context.author,
                    is_closed=self._news.is_closed,
                ),
                applications=all_applications(context.log, self._replica, author=context.author),
                accounts=all_accounts(
                    context.log, self._replica, self._news, author=context.author
                ),
                keys=all_keys(context.log, self._replica, self._news, author=context.author),
                known=self._news,
                replica=self._replica,
                lookup=MessageLookup(context.log),
                media=self._media.shelf,
                media_needs_credentials=context.settings.media.require_credentials,
                clock=context.clock,
                entropy=context.entropy,
                registry=context.registry,
                metrics=functools.partial(
                    metrics.render, context.registry, context.own_metrics, clock=context.clock
                ),
                readiness=readiness,
                opening_balance=micros_of(context.settings.prices.opening_balance),
                has_magic_numbers=CARRIER_NAME == "simulated",
            )
        )

    def _prices(self) -> Prices:
        """The rate table that quotes are taken from, in this process."""
        written = self._context.settings.prices
        return Prices(
            sms_outbound=micros_of(written.sms_outbound),
            sms_inbound=micros_of(written.sms_inbound),
            mms_outbound=micros_of(written.mms_outbound),
            mms_inbound=micros_of(written.mms_inbound),
        )

    def pool_owners(self) -> tuple[object, ...]:
        """The parts of this process that ask other processes, as far as they are built."""
        return (self._context.log, self._carrier, self._client, *self._media.fetchers)

    def build(self, name: str) -> Service:
        match name:
            case "dispatch":
                return self._dispatch()
            case "receipts":
                return self._receipts()
            case "webhooks":
                return self._webhooks()
            case "inbound":
                return self._inbound()
            case _:
                raise ValueError(f"there is no service {name!r}")

    def _acceptor(self) -> Acceptor:
        context = self._context
        part = self._part
        return self._parts.acceptor(
            self._parts.stored(context.log, context.clock),
            self._replica,
            self._health,
            context.author,
            self._crash_here,
            is_near=(lambda _: True) if part is None else part.shards.is_own,
            is_active=self._news.is_active,
            prices=self._prices(),
        )

    def _share(self) -> Share:
        """Of the log's shards, for one service."""
        return WHOLE if self._part is None else self._part.shards.new_share()

    def _dispatch(self) -> Service:
        """With its lease: for good on a host that is alone, else one after the other."""
        context, part = self._context, self._part
        counter = gauges.counters(context.registry)
        counters = work.Counters(
            handed_over=counter("handed_over", "Messages a carrier took."),
            refused=counter("refused", "Messages a carrier refused for good."),
            returned=counter("returned", "Hand-overs that surely did not leave."),
            ambiguous=counter("ambiguous", "Hand-overs of which nobody knows the outcome."),
            held=counter("held", "Messages held because their original is late."),
        )
        putting_off = schedule.Counters(
            put_off=counter("put_off", "Times a message was put off to a later time."),
            due=counter("due", "Messages handed back because their time had come."),
        )
        share = self._share()
        media = self._media.outbound(self._link())
        self.links.append(media)

        def new_dispatcher(leases: Leases) -> Dispatcher:
            return self._dispatcher(leases, share, counters, putting_off, media)

        dispatch: Dispatcher | LeasedDispatch
        if part is None:
            leases = FileLeases(
                context.layout.leases, host=context.settings.host.name, entropy=context.entropy
            )
            self._stack.callback(leases.close)
            dispatch = new_dispatcher(leases)
        else:
            dispatch = cluster.leased_dispatch(part, context, new_dispatcher)
        due = DueMessages(
            context.log,
            take=dispatch.take,
            find=self._replica.message,
            clock=context.clock,
            counters=putting_off,
            crash_here=self._crash_here,
            share=WHOLE if part is None else part.timers.new_share(),
        )
        self.companions.append(due)
        return dispatch

    def _dispatcher(
        self,
        leases: Leases,
        share: Share,
        counters: work.Counters,
        putting_off: schedule.Counters,
        media: "OutboundMedia",
    ) -> Dispatcher:
        context = self._context
        putting = Schedule(
            context.log, clock=context.clock, counters=putting_off, crash_here=self._crash_here
        )
        return Dispatcher(
            log=self._parts.fenced(context.log),
            chains=self._parts.ledgers(
                context.log, Kind.MESSAGE, past=self._replica, clock=context.clock
            ),
            carrier=self._link(),
            on_ambiguous=OnAmbiguous(context.settings.carrier.on_ambiguous),
            leases=leases,
            recorder=self._recorder,
            find=self._replica.message,
            counters=counters,
            author=context.author,
            crash_here=self._crash_here,
            hold_back=one_after_another(putting.hold_back, media.hold_back),
            share=share,
            is_active=self._news.is_active,
            has_opted_out=self._replica.opt_out,
            owns_sender=Senders(self._replica, context.log.shards, _is_anybodys).owns,
        )

    def _receipts(self) -> Receipts:
        context = self._context
        counter = gauges.counters(context.registry)
        self.receipts = Receipts(
            log=context.log,
            carrier=self._link(),
            replica=self._replica,
            recorder=self._recorder,
            health=self._health,
            counters=receipts.Counters(
                receipts=counter("receipts", "Receipts written down."),
                inbound=counter("inbound", "Inbound messages written down."),
                unmatched=counter("unmatched", "Receipts and inbound messages nobody owns."),
            ),
            author=context.author,
            crash_here=self._crash_here,
            prices=self._prices(),
        )
        return self.receipts

    def _webhooks(self) -> Service:
        from trunkline.host.backward_callbacks import BackwardCallbacks  # noqa: PLC0415 - as above
        from trunkline.messaging.callbacks import StatusCallbacks  # noqa: PLC0415 - as above

        callbacks = StatusCallbacks if self._parts.is_ordered else BackwardCallbacks
        self.callbacks = callbacks(
            log=self._context.log,
            replica=self._replica,
            client=self._webhook_client(),
            recorder=self._recorder,
            author=self._context.author,
            clock=self._context.clock,
            rng=self._context.rng,
            crash_here=self._crash_here,
            share=self._share(),
        )
        return self.callbacks

    def _inbound(self) -> Service:
        from trunkline.messaging.inbound import Inbound  # noqa: PLC0415 - as above

        return Inbound(
            log=self._context.log,
            replica=self._replica,
            client=self._webhook_client(),
            acceptor=self._acceptor(),
            recorder=self._recorder,
            author=self._context.author,
            media=self._media.inbound(),
            clock=self._context.clock,
            rng=self._context.rng,
            crash_here=self._crash_here,
            share=self._share(),
        )

    def _link(self) -> SimulatedCarrier:
        """The process's link to the carrier."""
        if self._carrier is None:
            context, settings = self._context, self._context.settings
            self._carrier = CARRIERS[CARRIER_NAME](
                name=CARRIER_NAME,
                url=settings.carrier.url,
                bind=settings.host.name,
                window=settings.carrier.window,
                clock=context.clock,
                rng=context.rng,
                retry_budget=self._parts.retry_budget,
            )
            self.links.append(self._carrier)
            self._stack.push_async_callback(self._carrier.close)
        return self._carrier

    def _webhook_client(self) -> "WebhookClient":
        from trunkline.webhooks.client import WebhookClient  # noqa: PLC0415 - as above

        if self._client is None:
            self._client = WebhookClient(
                session_factory=self._session_factory(),
                clock=self._context.clock,
                rng=self._context.rng,
            )
            self._stack.push_async_callback(self._client.close)
        return self._client


def _is_anybodys(phone_number: str) -> bool:
    """Whether every account sends from it, though nobody owns it."""
    return CARRIER_NAME == "simulated" and phone_number == ALWAYS_OURS
