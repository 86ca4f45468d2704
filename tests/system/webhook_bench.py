"""A bench for webhooks over real sockets: a host without its services, an application on loopback.

The application checks signatures with the official library.
"""

import asyncio
import random
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
from aiohttp import web
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from trunkline.blobs.shared import SharedBlobs
from trunkline.blobs.store import BlobStore
from trunkline.directory.accounts import open_account
from trunkline.directory.numbers import Owned, own_number
from trunkline.domain.events import AccountOpened, Kind, MessageReceived, NumberOwned, Receipt, Type
from trunkline.domain.message import Message
from trunkline.kernel import Deadline, SystemClock
from trunkline.kernel.crash import CrashHere, never_crash
from trunkline.log.append import Appended, Draft, ShardHealth, append
from trunkline.log.author import Author
from trunkline.log.engines.memory import MemoryLog
from trunkline.messaging.accept import Acceptor, Created, NewMessage
from trunkline.messaging.callbacks import StatusCallbacks
from trunkline.messaging.inbound import Inbound
from trunkline.messaging.inbound_media import InboundMedia
from trunkline.messaging.media import Media
from trunkline.messaging.media_fetch import MediaFetcher
from trunkline.messaging.media_shelf import MediaShelf
from trunkline.messaging.record import EventRecorder
from trunkline.replica.progress import Progress
from trunkline.replica.projector import Projector
from trunkline.replica.queries import MessageFilter, Replica
from trunkline.webhooks.client import (
    WebhookClient,
)

CLOCK = SystemClock()
TOKEN = "t" * 32
ACCOUNT = "AC" + "a" * 32
OURS = "+15550001"
THEIRS = "+15550002"
WAIT_S = 10.0


def dice() -> random.Random:
    return random.Random(1)


@dataclass(frozen=True)
class Heard:
    """A request as the application saw it."""

    method: str
    path: str
    params: MultiDict[str]
    headers: dict[str, str]
    is_believed: bool

    @property
    def token(self) -> str:
        return self.headers["I-Twilio-Idempotency-Token"]


Answer = Callable[[Heard], Awaitable[web.StreamResponse]]


@dataclass
class Application:
    """A customer's application: keeps what it hears, and answers as a test says."""

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    arrivals: asyncio.Queue[Heard] = field(default_factory=asyncio.Queue)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = MultiDict((key, str(value)) for key, value in (await request.post()).items())
        seen = f"http://{request.host}{request.raw_path}"
        signature = request.headers.get("X-Twilio-Signature", "")
        heard = Heard(
            request.method,
            request.path,
            form if request.method == "POST" else MultiDict(request.query),
            dict(request.headers),
            bool(RequestValidator(TOKEN).validate(seen, form, signature)),
        )
        self.heard.append(heard)
        self.arrivals.put_nowait(heard)
        answer = self.answers.get(request.path)
        return web.Response(status=204) if answer is None else await answer(heard)

    async def hear(self) -> Heard:
        async with asyncio.timeout(WAIT_S):
            return await self.arrivals.get()


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Application]:
    """An application on loopback."""
    made = Application()
    server = web.Application()
    server.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(server, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    made.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def calling() -> AsyncIterator[WebhookClient]:
    made = WebhookClient(clock=CLOCK, rng=dice())
    try:
        yield made
    finally:
        await made.close()


def says(status: int, text: str = "", content_type: str = "text/xml", **headers: str) -> Answer:
    async def answer(_: Heard) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=content_type, headers=headers)

    return answer


@dataclass
class Host:
    """A log, a copy and the parts that write: one host without its services."""

    log: MemoryLog
    replica: Replica
    author: Author
    client: WebhookClient
    acceptor: Acceptor
    recorder: EventRecorder
    inactive: set[str]
    media: InboundMedia

    def callbacks(self) -> StatusCallbacks:
        return StatusCallbacks(
            log=self.log,
            replica=self.replica,
            client=self.client,
            recorder=self.recorder,
            author=self.author,
            clock=CLOCK,
            rng=dice(),
        )

    def inbound(self, crash_here: CrashHere = never_crash) -> Inbound:
        return Inbound(
            log=self.log,
            replica=self.replica,
            client=self.client,
            acceptor=replace(self.acceptor, crash_here=crash_here),
            recorder=self.recorder,
            author=self.author,
            media=self.media,
            clock=CLOCK,
            rng=dice(),
            crash_here=crash_here,
        )

    async def catch_up(self) -> None:
        for shard in range(self.log.shards):
            last = await self.log.last_sequence(shard, timeout_s=1.0)
            assert isinstance(last, int)
            deadline = Deadline.after(WAIT_S, CLOCK)
            assert await self.replica.wait_until_seen(shard, last, deadline=deadline)

    async def own_number(self, **settings: str) -> None:
        bare = NumberOwned(sid="PN" + "b" * 32, phone_number=OURS, friendly_name="front desk")
        number = msgspec.structs.replace(bare, **settings)
        deadline = Deadline.after(WAIT_S, CLOCK)
        owned = await own_number(self.log, ACCOUNT, number, author=self.author, deadline=deadline)
        assert isinstance(owned, Owned)
        await self.catch_up()

    async def create(self, status_callback: str | None) -> Message:
        new = NewMessage(ACCOUNT, OURS, THEIRS, "hi", status_callback=status_callback)
        created = await self.acceptor.accept(new, key=None, deadline=Deadline.after(WAIT_S, CLOCK))
        assert isinstance(created, Created)
        return created.message

    async def receipt(self, message: Message, status: str, error_code: int | None = None) -> None:
        body = Receipt(status=status, carrier="test", carrier_message_id="1", error_code=error_code)
        assert await self.recorder.record(Kind.MESSAGE, Type.RECEIPT, ACCOUNT, message.sid, body)

    async def receive(self, name: str, text: str) -> str:
        sid = "SM" + (name * 32)[:32]
        body = MessageReceived(sid=sid, sender=THEIRS, recipient=OURS, text=text)
        draft = Draft(kind=Kind.INBOUND, sid=sid, account=ACCOUNT, body=body, is_keyed=True)
        health = ShardHealth(CLOCK)
        appended = await append(self.log, draft, author=self.author, health=health)
        assert isinstance(appended, Appended)
        return sid

    async def replies(self) -> list[Message]:
        """Oldest first."""
        await self.catch_up()
        found = self.replica.messages(ACCOUNT, MessageFilter(), items_max=50)
        outbound = [message for message in found if message.original is not None]
        return sorted(outbound, key=lambda message: message.created_at)


@asynccontextmanager
async def host_in(tmp_path: Path, client: WebhookClient) -> AsyncIterator[Host]:
    log = MemoryLog(clock=CLOCK)
    author = Author(host="host-1", clock=CLOCK, entropy=secrets.token_bytes)
    progress = Progress(tmp_path / "progress", shards=log.shards, clock=CLOCK)
    projector = Projector(log, tmp_path / "copy.db", progress, cluster="test", clock=CLOCK)
    await projector.open()
    replica = Replica(tmp_path / "copy.db", progress)
    async with asyncio.TaskGroup() as tasks:
        projecting = tasks.create_task(projector.run())
        opened = AccountOpened(sid=ACCOUNT, friendly_name="test", auth_token=TOKEN)
        assert await open_account(log, opened, author=author, deadline=Deadline.after(5.0, CLOCK))
        recorder = EventRecorder(log, author=author)
        blobs = SharedBlobs(BlobStore(tmp_path / "blobs"), None, secrets.token_bytes)
        shelf = MediaShelf(blobs, recorder, replica.message, CLOCK)
        fetcher = MediaFetcher(clock=CLOCK, rng=dice())
        inactive: set[str] = set()
        made = Host(
            log,
            replica,
            author,
            client,
            Acceptor(
                log,
                replica,
                ShardHealth(CLOCK),
                author,
                is_active=lambda account: account not in inactive,
            ),
            recorder,
            inactive,
            InboundMedia(Media(fetcher, shelf), "http://127.0.0.1:1", CLOCK),
        )
        await made.catch_up()
        try:
            yield made
        finally:
            projecting.cancel()
            await fetcher.close()
    replica.close()


@asynccontextmanager
async def running(service: StatusCallbacks | Inbound) -> AsyncIterator[None]:
    """The service for the block; then it finishes what it has in hand."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.run())
        yield
        service.drain()


@asynccontextmanager
async def killed(service: StatusCallbacks | Inbound) -> AsyncIterator[None]:
    """The service for the block; then it dies with whatever it has in hand."""
    async with asyncio.TaskGroup() as tasks:
        doomed = tasks.create_task(service.run())
        yield
        doomed.cancel()
