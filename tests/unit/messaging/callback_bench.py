"""A bench for status callbacks in virtual time: copies that show what is recorded at once, hosts that
tell from them, and customers' applications that answer as a test says."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, cast

import aiohttp

from trunkline.domain.events import (
    AccountOpened,
    Body,
    Claimed,
    HandedOver,
    Kind,
    MessageCreated,
    Notice,
    Receipt,
    Told,
    Type,
)
from trunkline.kernel import VirtualClock
from trunkline.log.author import Author
from trunkline.log.event import Event, changed_subject
from trunkline.log.interface import Stored
from trunkline.log.shards import SHARDS
from trunkline.log.share import WHOLE, Share
from trunkline.messaging.backlog import Backlog
from trunkline.messaging.callbacks import MessagePlanner
from trunkline.replica import schema
from trunkline.replica.folding import Folding
from trunkline.replica.progress import Progress
from trunkline.replica.queries import Replica
from trunkline.webhooks.client import WebhookClient
from trunkline.webhooks.deliver import CallbackDeliverer, Notified, Settled

ACCOUNT = "AC" + "a" * 32
OTHER_ACCOUNT = "AC" + "b" * 32
DAY_S = 86_400.0

Heard = tuple[str, str, str]
"""The host of the URL, the message's SID, and the status that is told."""

Answer = Callable[[Heard], Awaitable[int]]


class Internet:
    """What stands in for the network: each request is given to `answer`, which says a status or
    raises what a network raises. `heard` has them in order, with the moment of each."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.heard: list[tuple[float, Heard]] = []
        self.headers: list[dict[str, str]] = []

    def request(self, method: str, url: object, **sent: Any) -> "_Exchange":
        del method
        return _Exchange(self, str(url), sent)

    def statuses(self, sid: str) -> list[str]:
        return [status for _, (_, whose, status) in self.heard if whose == sid]

    async def take(self, url: str, sent: dict[str, Any]) -> int:
        form = dict(pair.split("=") for pair in sent["data"].decode().split("&"))
        heard = (url.split("/")[2], form["MessageSid"], form["MessageStatus"])
        self.heard.append((asyncio.get_running_loop().time(), heard))
        self.headers.append(sent["headers"])
        return await self.answer(heard)


class _Exchange:
    def __init__(self, internet: Internet, url: str, sent: dict[str, Any]) -> None:
        self._internet, self._url, self._sent = internet, url, sent
        self.headers: dict[str, str] = {}
        self.content = aiohttp.EMPTY_PAYLOAD
        self.status = 0

    async def __aenter__(self) -> Self:
        async with asyncio.timeout(self._sent["timeout"].total):
            self.status = await self._internet.take(self._url, self._sent)
        return self

    async def __aexit__(self, *_: object) -> None:
        return


def always(status: int) -> Answer:
    async def answer(_: Heard) -> int:
        return status

    return answer


class SteppedClock(VirtualClock):
    """One whose wall clock may be set on."""

    stepped_s = 0.0

    def wall(self) -> float:
        return super().wall() + self.stepped_s


class World:
    """The log, as far as it matters here: whatever is recorded is in the one copy at once."""

    def __init__(self, path: Path, internet: Internet) -> None:
        self.clock = SteppedClock()
        self.internet = internet
        self.events: list[Event] = []
        self.is_recording = True
        self.is_healthy = True
        self._sequences = itertools.count(1)
        self._ids = itertools.count(1)
        self._folding = Folding(schema.open_for_writing(path, cluster="test"))
        self._progress = Progress(path.with_suffix(".progress"), shards=SHARDS, clock=self.clock)
        self.replica = Replica(path, self._progress)
        self.author = Author("one", self.clock, self._entropy)
        for account in (ACCOUNT, OTHER_ACCOUNT):
            opened = AccountOpened(sid=account, friendly_name="x", auth_token="t")
            self.add(Kind.ACCOUNT, Type.ORIGINAL, account, account, opened)

    def add(self, kind: Kind, type_: Type, account: str, sid: str, body: Body) -> None:
        self.put([self.author.event(kind, type_, account, sid, body)])

    def put(self, events: Sequence[Event]) -> None:
        for event in events:
            self.events.append(event)
            stored = Stored(
                0,
                changed_subject(0, event.kind, event.account),
                next(self._sequences),
                event.at,
                b"",
            )
            self._folding.add(event, event.body(), stored)
        self._folding.write()
        self._folding.commit()
        self._folding.forget_written()

    def tell_of_copy(self, lag_s: float = 0.0) -> None:
        for shard in range(SHARDS):
            self._progress.record(shard, sequence=0, complete_at=self.clock.wall() - lag_s)

    async def record_all(self, events: Sequence[Event]) -> bool:
        if self.is_recording:
            self.put(events)
        return self.is_recording

    def create(self, url: str, *, account: str = ACCOUNT) -> str:
        sid = "SM" + f"{next(self._ids):032x}"
        body = MessageCreated(
            sid=sid, sender="+15550001", recipient="+15550002", text="hi", status_callback=url
        )
        self.add(Kind.MESSAGE, Type.ORIGINAL, account, sid, body)
        return sid

    def go(self, sid: str, *bodies: Body, account: str = ACCOUNT) -> None:
        types = {Claimed: Type.CLAIM, HandedOver: Type.OUTCOME, Receipt: Type.RECEIPT}
        for body in bodies:
            self.add(Kind.MESSAGE, types[type(body)], account, sid, body)

    def told(self, sid: str) -> list[Told]:
        return [
            cast("Told", each.body())
            for each in self.events
            if each.type is Type.TOLD and each.sid == sid
        ]

    def notices(self, sid: str) -> list[Notice]:
        return [
            cast("Notice", each.body())
            for each in self.events
            if each.type is Type.NOTICE and each.sid == sid
        ]

    def _entropy(self, size: int) -> bytes:
        return next(self._ids).to_bytes(size, "big")


CLAIM = Claimed(attempt=1, nonce="n", lease="l", carrier="acme")
TAKEN = HandedOver(attempt=1, carrier="acme", carrier_message_id="1")
DELIVERED = Receipt(status="delivered", carrier="acme", carrier_message_id="1")


class TellingHost:
    """One host's callbacks over the copy."""

    def __init__(self, world: World, *, share: Share = WHOLE) -> None:
        self._world = world
        rng = random.Random(1)
        session = cast("aiohttp.ClientSession", world.internet)
        client = WebhookClient(session_factory=lambda: session, clock=world.clock, rng=rng)
        self.planner = MessagePlanner(world.replica, world, world.author)
        self.deliverer = CallbackDeliverer(self.planner, client=client, clock=world.clock, rng=rng)
        self.backlog = Backlog(
            world.replica, self.deliverer, self._tell, SHARDS, share, world.clock, rng
        )

    async def _tell(self, sid: str) -> Notified:
        came = await self.deliverer.notify(sid)
        if isinstance(came, Settled):
            await self.planner.record_again(sid)
        return came

    async def follow(self) -> None:
        while True:
            if self._world.is_healthy:
                self._world.tell_of_copy()
            await self._world.clock.sleep(1.0)


@asynccontextmanager
async def telling(world: World, *, share: Share = WHOLE) -> AsyncIterator[TellingHost]:
    """A host for the block, at the end of which it dies."""
    host = TellingHost(world, share=share)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(host.backlog.run()), tasks.create_task(host.follow())]
        try:
            yield host
        finally:
            for task in running:
                task.cancel()
