"""The consumers and followers of a shard: what they are at the server, and what is in hand here.

What has been delivered and not answered is kept in hand by telling the server so, until the bound
on work; after that, or when this process dies, the server delivers it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from trunkline.kernel import Clock, Deadline
from trunkline.log.engines.jetstream import api
from trunkline.log.engines.jetstream.connection import Connection
from trunkline.log.engines.jetstream.elections import Elections
from trunkline.log.engines.jetstream.pull import Place, Puller
from trunkline.log.engines.jetstream.requests import NotReceived, Requests, Unanswered
from trunkline.log.interface import LogUnavailable, Stored
from trunkline.log.limits import ACK_WAIT_S, WORK_MAX_S
from trunkline.protocols import nats

log: Final = structlog.get_logger(__name__)

ADMIN_TIMEOUT_S: Final = 5.0
KEEP_IN_HAND_EVERY_S: Final = ACK_WAIT_S / 3

REPAIR_AGAIN_S: Final = 0.2
"""Between two tries to make a consumer anew; an engine takes longer than this to start."""

PLACE_TIMEOUT_S: Final = 0.5
"""The servers may put a follower's place on one of them that is frozen or has just died. It is not
known which they chose, so another place is asked for after so long."""

PLACES_MAX: Final = 24
"""The servers choose a place by lot; of so many, one in ten thousand lacks one on the own server. Each
takes 3 ms, and three are the rule."""

MOVE_AGAIN_S: Final = 1.0
READ_AGAIN_S: Final = 0.05

END_EVERY_S: Final = 1.0
"""How often a shard's leader is asked where the shard ends. A follower's place is on any server that
has the shard, and one that is cut off or frozen does not know of what came since."""
END_TIMEOUT_S: Final = 0.25

LATE_LEAST_S: Final = 10.0
"""For so long no place is taken where the copy was behind, whatever its leader says: a copy that has
just been given all of it still has to write it down."""

RESET_TIMEOUT_S: Final = 0.25
"""Measured: 1 to 6 ms. A consumer whose leader is being replaced does not answer."""

_ACK: Final = b"+ACK"
_GIVE_BACK: Final = b"-NAK"
_IN_PROGRESS: Final = b"+WPI"


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
    """A durable consumer's handle in this process.

    One that `is_in_memory` costs its servers no flushes, and forgets where it was when all of them
    have stopped.
    """

    def __init__(
        self,
        requests: Requests,
        elections: Elections,
        shard: int,
        service: str,
        filters: Sequence[str],
        clock: Clock,
        *,
        stream: str | None = None,
        is_in_memory: bool = False,
    ) -> None:
        self.requests = requests
        self.shard = shard
        self.in_hand: dict[JetStreamDelivery, None] = {}
        self.is_closed = False
        self._service = service
        self._filters = list(filters)
        self._clock = clock
        self._stream = stream or api.stream_name(shard)
        self._is_in_memory = is_in_memory
        self._puller = Puller(
            requests,
            elections,
            self._stream,
            clock,
            repair=self._create,
            wrap=self._receive,
            is_lasting=requests.has_others,
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

    async def _create(self) -> Place:
        try:
            return await self._create_in(is_in_memory=self._is_in_memory)
        except ConsumerRefused:
            # One of an earlier version stands, and where it is kept cannot be changed.
            return await self._create_in(is_in_memory=not self._is_in_memory)

    async def _create_in(self, *, is_in_memory: bool) -> Place:
        return await create_consumer(
            self.requests,
            f"$JS.API.CONSUMER.DURABLE.CREATE.{self._stream}.{self._service}",
            api.durable_config(
                self.shard,
                self._service,
                self._filters,
                stream=self._stream,
                is_in_memory=is_in_memory,
            ),
            timeout_s=ADMIN_TIMEOUT_S,
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

    Where there are several servers the place is on one of them, and gone with it: on this host's own
    one if that is there, so that no other host's death is felt here. It is left for
    another one when that server is lost, or the own one is back; and when the shard's leader knows of messages
    that have not come a while later. That server's copy is behind then, maybe for minutes: no place
    is taken there until the leader says that it is not. There may be none for some seconds, because
    it is a leader of all servers that gives places. Until then the shard's own leader is asked for
    one message after another.
    """

    def __init__(
        self, requests: Requests, elections: Elections, shard: int, after: int, clock: Clock
    ) -> None:
        self.is_at_end = False
        self._requests = requests
        self._shard = shard
        self._clock = clock
        self._last = after
        self._stale = False
        self._end: int | None = None
        self._end_asked_at = float("-inf")
        self._last_then = after
        self._move_not_before = float("-inf")
        self._late = ""
        """The server whose copy lacked what the shard's leader has."""
        self._late_until = float("-inf")
        self._unwatch = requests.when_shaken(self._on_shaken)
        self._puller = Puller(
            requests,
            elections,
            api.stream_name(shard),
            clock,
            repair=self._create,
            wrap=lambda came: _followed(shard, came),
            is_lasting=False,
        )

    async def start(self) -> None:
        deadline = Deadline.after(ADMIN_TIMEOUT_S, self._clock)
        while True:
            try:
                return await self._puller.start()
            except NoAnswer:
                if deadline.has_passed() or not self._requests.has_others:
                    raise
                # Where no server is connected, the word comes at once.
                await self._clock.sleep(READ_AGAIN_S)

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[Stored]:
        if not self._requests.has_others:
            if self._stale:
                await self._puller.reset()
                self._stale = False
            return await self._take(items_max, wait_s)
        await self._look_for_end()
        if self._stale and not await self._move():
            return await self._read(items_max, wait_s)
        try:
            return await self._take(items_max, wait_s)
        except NoAnswer:
            self._stale = True
            return []

    async def _take(self, items_max: int, wait_s: float) -> Sequence[Stored]:
        taken: list[Stored] = []
        behind = 0
        for followed in await self._puller.take(items_max, wait_s):
            stored = followed.stored
            if stored.sequence <= self._last:
                continue  # the old place and the new one overlap
            if stored.sequence != self._last + 1 and not await self._is_purged_up_to(stored):
                self._stale = True
                break
            self._last = stored.sequence
            taken.append(stored)
            behind = followed.behind
        if not taken and not self._requests.is_connected:
            raise LogUnavailable("not connected to the log server")
        if self._requests.has_others:
            self._judge_end()
        else:
            self.is_at_end = behind == 0 and (bool(taken) or not self._stale)
        return taken

    async def close(self) -> None:
        unwatch, self._unwatch = self._unwatch, _nothing
        unwatch()
        self._puller.close()

    def _on_shaken(self, connection: Connection) -> None:
        """A server that restarted has forgotten this follower, one that is away serves none, and
        what is sent through it is lost."""
        at, own = self._puller.place.server, self._requests.own_server
        is_strange = bool(own) and at != own and connection.server == own
        if not at or is_strange or connection.server in (at, self._puller.through):
            self._stale = True
            self._puller.give_up()

    async def _look_for_end(self) -> None:
        """Ask where the shard ends, if that was not asked for a while; and find out whether what was
        its end then has not come until now."""
        now = self._clock.monotonic()
        if now - self._end_asked_at < END_EVERY_S:
            return
        if self._end is not None and self._last < self._end and self._last == self._last_then:
            self._stale = True
            self._note_late(self._puller.place.server, now)
        self._end_asked_at, self._last_then = now, self._last
        answer = await self._ask_leader(END_TIMEOUT_S)
        state = None if answer is None else answer.state
        if answer is None or state is None:
            self._end = None
            return
        # Of a shard that was purged whole nothing is to come.
        self._end = state.last_seq if state.first_seq <= state.last_seq else 0
        if self._late and now >= self._late_until and _is_current(answer.cluster, self._late):
            log.info("log.copy_current", shard=self._shard, server=self._late)
            self._stale |= self._late == self._requests.own_server
            self._late = ""

    def _note_late(self, server: str, now: float) -> None:
        if not server:
            return
        if server != self._late:
            log.warning("log.copy_late", shard=self._shard, server=server, after=self._last)
        self._late, self._late_until = server, now + LATE_LEAST_S

    def _judge_end(self) -> None:
        self.is_at_end = self._end is not None and self._last >= self._end

    async def _move(self) -> bool:
        """Whether there is a place again."""
        if self._clock.monotonic() < self._move_not_before:
            return False
        try:
            await self._puller.reset()
        except NoAnswer:
            self._move_not_before = self._clock.monotonic() + MOVE_AGAIN_S
            return False
        self._stale = False
        return True

    async def _read(self, items_max: int, wait_s: float) -> Sequence[Stored]:
        """As a fetch, without a place."""
        deadline = Deadline.after(wait_s, self._clock)
        taken: list[Stored] = []
        while len(taken) < items_max:
            question = msgspec.json.encode({"seq": self._last + 1, "next_by_subj": ">"})
            reply = await self._requests.ask(
                f"$JS.API.STREAM.MSG.GET.{api.stream_name(self._shard)}",
                question,
                timeout_s=END_TIMEOUT_S,
            )
            found = api.read_answer(self._shard, reply) if isinstance(reply, bytes) else None
            if isinstance(found, Stored):
                self._last = found.sequence
                taken.append(found)
            elif taken or deadline.has_passed():
                break
            else:
                await self._clock.sleep(READ_AGAIN_S)
        self._judge_end()
        return taken

    async def _is_purged_up_to(self, stored: Stored) -> bool:
        """Whether the sequences between are gone from the shard, and not just from our sight."""
        answer = await self._ask_leader(ADMIN_TIMEOUT_S)
        if answer is None or answer.state is None:
            raise LogUnavailable(f"shard {self._shard} cannot be asked")
        return answer.state.first_seq >= stored.sequence

    async def _ask_leader(self, timeout_s: float) -> api.StreamAnswer | None:
        reply = await self._requests.ask(
            f"$JS.API.STREAM.INFO.{api.stream_name(self._shard)}", timeout_s=timeout_s
        )
        if not isinstance(reply, bytes):
            return None
        return msgspec.json.decode(reply, type=api.StreamAnswer)

    async def _create(self) -> Place:
        """On the own server if there is one with a copy that is not late, and else on any other."""
        stream = api.stream_name(self._shard)
        place = await self._create_somewhere(stream)
        for _ in range(PLACES_MAX - 1):
            if not self._requests.has_others or self._suits(place):
                break
            self._requests.send(f"$JS.API.CONSUMER.DELETE.{stream}.{place.name}", b"")
            place = await self._create_somewhere(stream)
        return place

    def _suits(self, place: Place) -> bool:
        if self._late and place.server == self._late:
            return False
        return self._requests.own_server in ("", self._late, place.server)

    async def _create_somewhere(self, stream: str) -> Place:
        name = self._requests.new_name()
        return await create_consumer(
            self._requests,
            f"$JS.API.CONSUMER.CREATE.{stream}.{name}",
            api.follower_config(self._shard, name, after=self._last),
            timeout_s=PLACE_TIMEOUT_S if self._requests.has_others else ADMIN_TIMEOUT_S,
        )


def _is_current(cluster: api.Cluster | None, server: str) -> bool:
    """Whether the shard's leader says that the copy there has all; its own has."""
    copies = () if cluster is None else cluster.replicas
    return any(each.name == server and each.current and not each.offline for each in copies) or (
        cluster is not None and cluster.leader == server
    )


class NoAnswer(LogUnavailable):
    """A consumer was asked for, and nothing came; or the word that nobody can say at the moment."""


class ConsumerRefused(LogUnavailable):
    """It cannot be made as asked for, or what stands cannot be changed to it."""


async def create_consumer(
    requests: Requests, subject: str, config: bytes, *, timeout_s: float
) -> Place:
    """Raises `LogUnavailable`, and `NoAnswer` or `ConsumerRefused` if that is why."""
    reply = await requests.ask(subject, config, timeout_s=timeout_s)
    if isinstance(reply, NotReceived | Unanswered):
        raise NoAnswer(f"cannot make a consumer: {reply.reason}")
    answer = msgspec.json.decode(reply, type=api.ConsumerAnswer)
    if answer.error is not None and answer.error.err_code == api.NO_LEADER:
        raise NoAnswer(f"cannot make a consumer: {answer.error.description}")
    if answer.error is not None and answer.error.err_code == api.CONSUMER_REFUSED:
        raise ConsumerRefused(f"cannot make a consumer: {answer.error.description}")
    api.raise_for(answer.error, "cannot make a consumer")
    return Place(answer.name, "" if answer.cluster is None else answer.cluster.leader)


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


def _nothing() -> None:
    """There is nothing left to end."""
