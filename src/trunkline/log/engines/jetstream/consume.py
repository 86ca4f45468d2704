"""Pulling from a shard: a pull request is always open where somebody waits, and survives restarts.

What has been delivered and not answered is kept in hand by telling the server so, until the bound
on work; after that, or when this process dies, the server delivers it again.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec
import structlog

from trunkline.kernel import Clock
from trunkline.log.engines.jetstream import api
from trunkline.log.engines.jetstream.requests import NotReceived, Requests, Unanswered
from trunkline.log.interface import LogUnavailable, Stored
from trunkline.log.limits import ACK_WAIT_S, WORK_MAX_S
from trunkline.protocols import nats

log: Final = structlog.get_logger(__name__)

PULL_EXPIRES_S: Final = 20.0
"""How long a pull request stays open at the server; then the next one is sent."""

SHARED_PULL_EXPIRES_S: Final = 0.5
"""The same where other hosts would take over: a host that freezes is given one more message for
each request that it has open, and nobody else has that one before the request is over."""

PACE_S: Final = 0.02
"""Between two requests while there is something to take: a burst costs the engine and this process
one turn instead of one for each message. It is paid only by what comes right behind something."""

LOST_AFTER_S: Final = 1.0
"""A request for what is there is answered at once; after so long it is taken for lost."""

ADMIN_TIMEOUT_S: Final = 5.0
KEEP_IN_HAND_EVERY_S: Final = ACK_WAIT_S / 3

IDLE_HEARTBEAT: Final = 100
GONE: Final = frozenset({409, 503})
"""Statuses that end a request because there is nobody to serve it."""

REFUSED: Final = "Exceeded"
"""How the description of a 409 begins that only says no to this one request."""

REPAIR_AGAIN_S: Final = 0.2
"""Between two tries to make a consumer anew; an engine takes longer than this to start."""

RESET_TIMEOUT_S: Final = 0.25
"""Measured: 1 to 6 ms. A consumer whose leader is being replaced does not answer."""

_ACK: Final = b"+ACK"
_GIVE_BACK: Final = b"-NAK"
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
        wrap: Callable[[nats.Message], Item],
        stream: str | None = None,
        expires_s: float = PULL_EXPIRES_S,
        turn_away: Callable[[nats.Message], None] | None = None,
    ) -> None:
        self._requests = requests
        self._stream = stream or api.stream_name(shard)
        self._expires_s = expires_s
        self._turn_away = turn_away
        self._clock = clock
        self._repair = repair
        self._wrap = wrap
        self._name = ""
        self._inbox = requests.new_inbox()
        self._sid: int | None = None
        self._arrived: deque[Item] = deque()
        self._arrival = asyncio.Event()
        self._open_until = 0.0
        self._wanted = 0
        self._asked_at = 0.0
        self._is_busy = False
        """Something came since the last request, so there may be more."""
        self._is_gone = False
        self._is_resting = False

    async def start(self) -> None:
        self._name = await self._repair()
        self._listen()
        self._requests.connection.when_back(self.interrupt)

    async def take(self, items_max: int, wait_s: float) -> list[Item]:
        """At most `items_max` messages, as soon as there is one. Raises `LogUnavailable` when the
        consumer is gone from the server and cannot be made again."""
        self._is_resting = False
        if self._is_gone:
            await self.reset()
        if not self._arrived:
            try:
                async with asyncio.timeout(wait_s):
                    await self._until_arrival(items_max)
            except TimeoutError:
                return []
        return [self._arrived.popleft() for _ in range(min(items_max, len(self._arrived)))]

    async def _until_arrival(self, items_max: int) -> None:
        """Until something came, or the request is over.

        While there is nothing, a single message is asked for, which comes at once. Behind it others
        gather, and are fetched together a pace later, again and again until none is there.
        """
        if self._wanted <= 0 or self._clock.monotonic() >= self._open_until:
            if self._is_busy:
                await self._clock.sleep(self._asked_at + PACE_S - self._clock.monotonic())
            if self._arrived:
                return
            self._ask(items_max)
        self._arrival.clear()
        await self._arrival.wait()

    def interrupt(self) -> None:
        """The open request is lost: ask again at the next take."""
        self._wanted = 0
        self._is_busy = False
        self._arrival.set()

    async def reset(self) -> None:
        """Make the consumer anew, with an inbox of its own: what the old one still sends must not
        be taken for the new one's. What has arrived stays: it is in hand, or passed over as seen."""
        self._stop_listening()
        self._name = await self._repair()
        self._inbox = self._requests.new_inbox()
        self._listen()
        self._wanted = 0
        self._is_busy = False
        self._is_gone = False

    def rest(self) -> list[Item]:
        """What has arrived and was not taken. Until the next take, what still comes for an open
        request is turned away; no further one is made."""
        self._is_resting = True
        untaken = list(self._arrived)
        self._arrived.clear()
        return untaken

    def close(self) -> None:
        self._requests.connection.forget(self.interrupt)
        self._stop_listening()

    def _listen(self) -> None:
        self._sid = self._requests.connection.subscribe(self._inbox, self._on_message)

    def _stop_listening(self) -> None:
        if self._sid is not None:
            self._requests.connection.unsubscribe(self._sid)
            self._sid = None

    def _ask(self, items_max: int) -> None:
        if self._is_busy:
            self._wanted, payload, open_s = items_max, api.pull_present(items_max), LOST_AFTER_S
        else:
            payload, open_s = api.pull_next(self._expires_s), self._expires_s
            self._wanted = 1
        self._is_busy = False
        self._asked_at = self._clock.monotonic()
        self._open_until = self._asked_at + open_s
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        self._requests.send(subject, payload, reply=self._inbox)

    def _on_message(self, message: nats.Message) -> None:
        if message.status == 0:
            self._wanted -= 1
            if self._is_resting and self._turn_away is not None:
                self._turn_away(message)
                return
            self._is_busy = True
            self._arrived.append(self._wrap(message))
        elif message.status != IDLE_HEARTBEAT:
            # The request is over: it expired, was too much, or its consumer or server is gone.
            self._wanted = 0
            self._is_gone = message.status in GONE and not message.description.startswith(REFUSED)
        self._arrival.set()


class JetStreamDelivery:
    """One message in hand. `since` is when it came, by the clock that counts suspension."""

    __slots__ = ("_consumer", "_reply", "since", "stored")

    def __init__(self, consumer: "JetStreamConsumer", message: nats.Message, since: float) -> None:
        self.stored = stored_from(consumer.shard, message)
        self.since = since
        self._reply = message.reply
        self._consumer = consumer

    async def ack(self) -> None:
        self._answer(_ACK)

    async def nak(self, delay_s: float) -> None:
        self._answer(b'-NAK {"delay": %d}' % int(delay_s * 1e9))

    def keep(self) -> None:
        self._consumer.requests.send(self._reply, _IN_PROGRESS)

    def _answer(self, answer: bytes) -> None:
        self._consumer.in_hand.pop(self, None)
        self._consumer.requests.send(self._reply, answer)


class JetStreamConsumer:
    """A durable consumer's handle in this process."""

    def __init__(
        self,
        requests: Requests,
        shard: int,
        service: str,
        filters: Sequence[str],
        clock: Clock,
        *,
        stream: str | None = None,
        is_shared: bool = False,
    ) -> None:
        self.requests = requests
        self.shard = shard
        self.in_hand: dict[JetStreamDelivery, None] = {}
        self.is_closed = False
        self._service = service
        self._filters = list(filters)
        self._clock = clock
        self._stream = stream or api.stream_name(shard)
        self._puller = Puller(
            requests,
            shard,
            clock,
            repair=self._create,
            wrap=self._receive,
            stream=stream,
            expires_s=SHARED_PULL_EXPIRES_S if is_shared else PULL_EXPIRES_S,
            turn_away=self._give_back,
        )

    async def start(self) -> None:
        await self._puller.start()

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[JetStreamDelivery]:
        try:
            return await self._puller.take(items_max, wait_s)
        except LogUnavailable as error:
            # The engine is being replaced, and the consumer went with it: the next fetch makes it
            # anew. A service must not end for that, and with it its host.
            log.info("log.waiting", service=self._service, shard=self.shard, reason=str(error))
            await self._clock.sleep(min(wait_s, REPAIR_AGAIN_S))
            return []

    async def rest(self) -> None:
        for delivery in self._puller.rest():
            await delivery.nak(0.0)

    async def redeliver(self) -> bool:
        # The server begins again behind its floor (NATS ADR-60). An answer to a delivery from
        # before that still counts, as it goes by the sequence.
        subject = f"$JS.API.CONSUMER.RESET.{self._stream}.{self._service}"
        reply = await self.requests.request(subject, timeout_s=RESET_TIMEOUT_S)
        if not isinstance(reply, bytes):
            return False
        return msgspec.json.decode(reply, type=api.ConsumerAnswer).error is None

    def keep_in_hand(self) -> None:
        """Tell the server that what is still worked on is; let go what is past the bound on work."""
        now = self._clock.monotonic()
        for delivery in tuple(self.in_hand):
            age_s = now - delivery.since
            if age_s >= WORK_MAX_S:
                self.in_hand.pop(delivery, None)
            elif age_s >= KEEP_IN_HAND_EVERY_S:
                delivery.keep()

    async def close(self) -> None:
        self.is_closed = True
        self._puller.close()
        for delivery in tuple(self.in_hand):
            await delivery.nak(0.0)

    def _give_back(self, message: nats.Message) -> None:
        self.requests.send(message.reply, _GIVE_BACK)

    def _receive(self, message: nats.Message) -> JetStreamDelivery:
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


@dataclass(frozen=True, slots=True)
class _Followed:
    """A message, and how many the shard held behind it when the server handed it out."""

    stored: Stored
    behind: int


class JetStreamFollower:
    """Everything of one shard behind a sequence; a lost place is taken up where it was.

    The server keeps nothing for a follower and asks for no acknowledgement, so what is lost with a
    connection is lost: a gap in the sequence is the only sign, and is answered by starting again.
    """

    def __init__(self, requests: Requests, shard: int, after: int, clock: Clock) -> None:
        self.is_at_end = False
        self._requests = requests
        self._shard = shard
        self._last = after
        self._stale = False
        self._puller = Puller(
            requests, shard, clock, repair=self._create, wrap=lambda came: _followed(shard, came)
        )

    async def start(self) -> None:
        await self._puller.start()
        self._requests.connection.when_back(self._mark_stale)

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[Stored]:
        if self._stale:
            await self._puller.reset()
            self._stale = False
        taken: list[Stored] = []
        for followed in await self._puller.take(items_max, wait_s):
            stored = followed.stored
            if stored.sequence <= self._last:
                continue  # the old place and the new one overlap
            if stored.sequence != self._last + 1 and not await self._is_purged_up_to(stored):
                self._stale = True
                break
            self._last = stored.sequence
            taken.append(stored)
            self.is_at_end = followed.behind == 0
        if not taken:
            if not self._requests.connection.is_connected:
                raise LogUnavailable("not connected to the log server")
            self.is_at_end = not self._stale
        return taken

    async def close(self) -> None:
        self._requests.connection.forget(self._mark_stale)
        self._puller.close()

    def _mark_stale(self) -> None:
        """A server that restarted has forgotten this follower."""
        self._stale = True

    async def _is_purged_up_to(self, stored: Stored) -> bool:
        """Whether the sequences between are gone from the shard, and not just from our sight."""
        reply = await self._requests.request(
            f"$JS.API.STREAM.INFO.{api.stream_name(self._shard)}", timeout_s=ADMIN_TIMEOUT_S
        )
        if not isinstance(reply, bytes):
            raise LogUnavailable(f"shard {self._shard} cannot be asked: {reply.reason}")
        state = msgspec.json.decode(reply, type=api.StreamAnswer).state
        return state is not None and state.first_seq >= stored.sequence

    async def _create(self) -> str:
        name = self._requests.new_name()
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


def stored_from(shard: int, message: nats.Message) -> Stored:
    """Sequence and time stand in the reply subject (NATS ADR-15: nine words, or twelve with the
    domain and account in front)."""
    words = message.reply.split(".")
    first = 4 if len(words) == 9 else 6
    sequence, at_ns = int(words[first + 1]), int(words[first + 3])
    return Stored(shard, message.subject, sequence, at_ns / 1e9, message.payload)


def _followed(shard: int, message: nats.Message) -> _Followed:
    words = message.reply.split(".")
    behind = int(words[8] if len(words) == 9 else words[10])
    return _Followed(stored_from(shard, message), behind)
