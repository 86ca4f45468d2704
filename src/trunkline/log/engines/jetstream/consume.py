"""Pulling from a shard: a pull request is always open where somebody waits, and survives restarts.

What has been delivered and not answered is kept in hand by telling the server so, until the bound
on work; after that, or when this process dies, the server delivers it again.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import msgspec
from nats.aio.msg import Msg

from trunkline.kernel import Clock
from trunkline.log.engines.jetstream import api
from trunkline.log.engines.jetstream.requests import NotReceived, Requests, Subscription, Unanswered
from trunkline.log.interface import LogUnavailable, Stored
from trunkline.log.limits import ACK_WAIT_S, WORK_MAX_S

PULL_EXPIRES_S: Final = 20.0
"""How long a pull request stays open at the server; then the next one is sent."""

ADMIN_TIMEOUT_S: Final = 5.0
KEEP_IN_HAND_EVERY_S: Final = ACK_WAIT_S / 3

_ACK: Final = b"+ACK"
_IN_PROGRESS: Final = b"+WPI"


Item = TypeVar("Item")


class Puller(Generic[Item]):
    """One consumer's inbox and its open pull request; `wrap` makes of each arrival what is taken."""

    def __init__(
        self,
        requests: Requests,
        shard: int,
        clock: Clock,
        *,
        repair: Callable[[], Awaitable[str]],
        wrap: Callable[[Msg], Item],
    ) -> None:
        self._requests = requests
        self._shard = shard
        self._clock = clock
        self._repair = repair
        self._wrap = wrap
        self._name = ""
        self._inbox = requests.new_inbox()
        self._subscription: Subscription | None = None
        self._arrived: deque[Item] = deque()
        self._arrival = asyncio.Event()
        self._open_until = 0.0
        self._wanted = 0

    async def start(self) -> None:
        self._name = await self._repair()
        self._subscription = await self._requests.subscribe(self._inbox, self._on_message)
        self._requests.when_reconnected(self.interrupt)

    async def take(self, items_max: int, wait_s: float) -> list[Item]:
        """At most `items_max` messages, as soon as there is one."""
        if not self._arrived:
            await self._ask(items_max)
        if not self._arrived:
            self._arrival.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._arrival.wait()
            except TimeoutError:
                return []
        return [self._arrived.popleft() for _ in range(min(items_max, len(self._arrived)))]

    def interrupt(self) -> None:
        """The open request is lost: ask again at the next take."""
        self._wanted = 0
        self._arrival.set()

    async def reset(self) -> None:
        """Drop what has arrived and make the consumer anew."""
        self._arrived.clear()
        self._wanted = 0
        self._name = await self._repair()

    async def close(self) -> None:
        self._requests.forget(self.interrupt)
        if self._subscription is not None:
            await self._subscription.close()

    async def _ask(self, items_max: int) -> None:
        now = self._clock.monotonic()
        if self._wanted > 0 and now < self._open_until:
            return
        self._wanted = items_max
        self._open_until = now + PULL_EXPIRES_S
        await self._requests.send(
            f"$JS.API.CONSUMER.MSG.NEXT.{api.stream_name(self._shard)}.{self._name}",
            api.pull_request(items_max, PULL_EXPIRES_S),
            reply=self._inbox,
        )

    async def _on_message(self, message: Msg) -> None:
        status = message.headers.get("Status") if message.headers else None
        if status is None:
            self._wanted -= 1
            self._arrived.append(self._wrap(message))
            self._arrival.set()
        elif status in ("404", "408", "409", "503"):
            self._wanted = 0
            if status in ("409", "503") and "Exceeded" not in message.headers.get(
                "Description", ""
            ):
                await self._try_repair()

    async def _try_repair(self) -> None:
        """The consumer is gone, or its server is: make it again; a later take asks again."""
        try:
            self._name = await self._repair()
        except LogUnavailable:
            await self._clock.sleep(KEEP_IN_HAND_EVERY_S)
        self._arrival.set()


class JetStreamDelivery:
    """One message in hand. `since` is when it came, by the clock that counts suspension."""

    __slots__ = ("_consumer", "_reply", "since", "stored")

    def __init__(self, consumer: "JetStreamConsumer", message: Msg, since: float) -> None:
        self.stored = stored_from(consumer.shard, message)
        self.since = since
        self._reply = message.reply
        self._consumer = consumer

    async def ack(self) -> None:
        await self._answer(_ACK)

    async def nak(self, delay_s: float) -> None:
        await self._answer(b'-NAK {"delay": %d}' % int(delay_s * 1e9))

    async def keep(self) -> None:
        await self._consumer.requests.send(self._reply, _IN_PROGRESS)

    async def _answer(self, answer: bytes) -> None:
        self._consumer.in_hand.pop(self, None)
        await self._consumer.requests.send(self._reply, answer)


class JetStreamConsumer:
    """A durable consumer's handle in this process."""

    def __init__(
        self, requests: Requests, shard: int, service: str, filters: Sequence[str], clock: Clock
    ) -> None:
        self.requests = requests
        self.shard = shard
        self.in_hand: dict[JetStreamDelivery, None] = {}
        self._service = service
        self._filters = list(filters)
        self._clock = clock
        self._puller = Puller(requests, shard, clock, repair=self._create, wrap=self._receive)

    async def start(self) -> None:
        await self._puller.start()

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[JetStreamDelivery]:
        return await self._puller.take(items_max, wait_s)

    async def keep_in_hand(self) -> None:
        """Tell the server that what is still worked on is; let go what is past the bound on work."""
        now = self._clock.monotonic()
        for delivery in tuple(self.in_hand):
            age_s = now - delivery.since
            if age_s >= WORK_MAX_S:
                self.in_hand.pop(delivery, None)
            elif age_s >= KEEP_IN_HAND_EVERY_S:
                await delivery.keep()

    async def close(self) -> None:
        await self._puller.close()
        for delivery in tuple(self.in_hand):
            await delivery.nak(0.0)

    def _receive(self, message: Msg) -> JetStreamDelivery:
        """In hand from its arrival on, also while it waits to be taken."""
        delivery = JetStreamDelivery(self, message, self._clock.monotonic())
        self.in_hand[delivery] = None
        return delivery

    async def _create(self) -> str:
        return await create_consumer(
            self.requests,
            f"$JS.API.CONSUMER.DURABLE.CREATE.{api.stream_name(self.shard)}.{self._service}",
            api.durable_config(self.shard, self._service, self._filters),
        )


class JetStreamFollower:
    """Everything of one shard behind a sequence; a lost place is taken up where it was."""

    def __init__(self, requests: Requests, shard: int, after: int, clock: Clock) -> None:
        self._requests = requests
        self._shard = shard
        self._last = after
        self._incarnation = 0
        self._stale = False
        self._prefix = requests.new_inbox().rpartition(".")[2]
        self._puller = Puller(
            requests,
            shard,
            clock,
            repair=self._create,
            wrap=lambda arrived: stored_from(shard, arrived),
        )

    async def start(self) -> None:
        await self._puller.start()
        self._requests.when_reconnected(self._mark_stale)

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[Stored]:
        if self._stale:
            await self._puller.reset()
            self._stale = False
        taken: list[Stored] = []
        for stored in await self._puller.take(items_max, wait_s):
            if stored.sequence > self._last:
                self._last = stored.sequence
                taken.append(stored)
        if not taken and not self._requests.is_connected:
            raise LogUnavailable("not connected to the log server")
        return taken

    async def close(self) -> None:
        self._requests.forget(self._mark_stale)
        await self._puller.close()

    def _mark_stale(self) -> None:
        """A server that restarted has forgotten this follower."""
        self._stale = True

    async def _create(self) -> str:
        self._incarnation += 1
        name = f"follow-{self._prefix}-{self._incarnation}"
        return await create_consumer(
            self._requests,
            f"$JS.API.CONSUMER.CREATE.{api.stream_name(self._shard)}.{name}",
            api.follower_config(self._shard, name, after=self._last),
        )


async def create_consumer(requests: Requests, subject: str, config: bytes) -> str:
    """The consumer's name. Raises `LogUnavailable`."""
    reply = await requests.request(subject, config, timeout_s=ADMIN_TIMEOUT_S)
    if isinstance(reply, NotReceived | Unanswered):
        raise LogUnavailable(f"cannot make a consumer: {reply.reason}")
    answer = msgspec.json.decode(reply, type=api.ConsumerAnswer)
    api.raise_for(answer.error, "cannot make a consumer")
    return answer.name


def stored_from(shard: int, message: Msg) -> Stored:
    """Sequence and time stand in the reply subject (NATS ADR-15: nine words, or twelve with the
    domain and account in front)."""
    words = message.reply.split(".")
    first = 4 if len(words) == 9 else 6
    sequence, at_ns = int(words[first + 1]), int(words[first + 3])
    return Stored(shard, message.subject, sequence, at_ns / 1e9, message.data)
