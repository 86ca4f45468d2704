"""Timers as message schedules (NATS ADR-51): a stream a shard, apart from the events.

What the server does was tried on 2.15.1, and the stream is made to fit. It refuses schedules in a
stream that discards new messages; one that discards old ones would drop timers when it is full, so
there is no bound in the server, and `write` keeps one here. A due message replaces its schedule and
stays until it is deleted: deleting it is what an acknowledgement is here. Retention by interest or
by work queue would do that itself, and is known to have dropped schedules under replication.
"""

import datetime as dt
from collections.abc import Callable
from typing import Final

import msgspec

from trunkline.kernel import Clock
from trunkline.log.engines.jetstream import api
from trunkline.log.engines.jetstream.consume import (
    ADMIN_TIMEOUT_S,
    JetStreamConsumer,
    JetStreamDelivery,
)
from trunkline.log.engines.jetstream.elections import Elections
from trunkline.log.engines.jetstream.ensure import StreamKeeper, is_missing, note_replicas
from trunkline.log.engines.jetstream.requests import NotReceived, Requests
from trunkline.log.interface import (
    PublishAnswer,
    Refused,
    ShardMissing,
    Unknown,
    Unreadable,
)
from trunkline.log.limits import CREATES_SHARE
from trunkline.log.timers import TIMER_SHARDS, TIMERS_BYTES_MAX, due_subject, waiting_subject
from trunkline.protocols import nats

MESSAGE_GONE: Final = 10043
"""The server's word for a sequence that is not there any more."""

LOOK_TIMEOUT_S: Final = 1.0
"""A shard without a leader is silent; the others must not wait for it."""

_SCHEDULE: Final = "Nats-Schedule"
_TARGET: Final = "Nats-Schedule-Target"


class _State(msgspec.Struct, frozen=True):
    messages: int = 0
    bytes: int = 0
    last_seq: int = 0


class _Answer(msgspec.Struct, frozen=True):
    """What the server answers to anything about a stream, as far as it is read here."""

    state: _State | None = None
    success: bool = False
    purged: int = 0
    error: api.ApiError | None = None


_ANSWER: Final = msgspec.json.Decoder(_Answer)


def stream_name(shard: int) -> str:
    return f"TIMER_{shard}"


async def ensure_timers(keeper: StreamKeeper, *, replicas: int, is_born: bool) -> None:
    """Make the shards that are missing. Raises `LogUnavailable`; also where one is missing although
    another one was in use: of a log that `is_born` that is a loss. One born before there were
    timers has none at all."""
    found = [await keeper.look(stream_name(shard), _name(shard)) for shard in range(TIMER_SHARDS)]
    was_used = any(answer.state is not None and answer.state.last_seq > 0 for answer in found)
    for shard, answer in enumerate(found):
        stands = answer
        if is_missing(answer):
            if (
                is_born
                and was_used
                and await keeper.is_surely_missing(stream_name(shard), _name(shard))
            ):
                raise ShardMissing(f"{_name(shard)} is missing from the log, with its timers")
            config = stream_config(shard, replicas)
            stands = await keeper.make(stream_name(shard), config, _name(shard))
        api.raise_for(stands.error, f"cannot ask about {_name(shard)}")
        if stands.config is not None:
            note_replicas(stream_name(shard), stands.config.num_replicas, replicas)


class JetStreamTimers:
    """Implements `Timers`."""

    def __init__(
        self,
        requests: Requests,
        elections: Elections,
        clock: Clock,
        *,
        has_room: Callable[[], bool],
        is_alone: bool = True,
    ) -> None:
        self._is_alone = is_alone
        self._requests = requests
        self._elections = elections
        self._clock = clock
        self._has_room = has_room
        self._bytes = [0] * TIMER_SHARDS
        self._consumers: list[DueConsumer] = []

    @property
    def shards(self) -> int:
        return TIMER_SHARDS

    @property
    def is_nearly_full(self) -> bool:
        most = TIMERS_BYTES_MAX // TIMER_SHARDS * CREATES_SHARE
        return all(used >= most for used in self._bytes)

    async def write(
        self, shard: int, name: str, due_at: float, payload: bytes, *, timeout_s: float
    ) -> PublishAnswer:
        if self._bytes[shard] + len(payload) > TIMERS_BYTES_MAX // TIMER_SHARDS:
            return Refused(f"timer shard {shard} is full", is_full=True)
        if not self._has_room():
            return Refused("the disk has no room for timers", is_full=True)
        block = nats.header_block(
            (_SCHEDULE, f"@at {_rfc3339(due_at)}"), (_TARGET, due_subject(shard, name))
        )
        reply = await self._requests.request(
            waiting_subject(shard, name), payload, header_block=block, timeout_s=timeout_s
        )
        if isinstance(reply, bytes):
            self._bytes[shard] += len(payload)
            return api.publish_answer(reply, is_alone=False)
        return Refused(reply.reason) if isinstance(reply, NotReceived) else Unknown(reply.reason)

    async def drop(self, shard: int, name: str, *, timeout_s: float) -> int | Unreadable:
        question = msgspec.json.encode({"filter": waiting_subject(shard, name)})
        subject = f"$JS.API.STREAM.PURGE.{stream_name(shard)}"
        reply = await self._requests.request(subject, question, timeout_s=timeout_s)
        if not isinstance(reply, bytes):
            return Unreadable(reply.reason)
        answer = _ANSWER.decode(reply)
        return answer.purged if answer.error is None else Unreadable(answer.error.description)

    async def count(self, shard: int, *, timeout_s: float) -> int | Unreadable:
        state = await self._state(shard, timeout_s)
        return state if isinstance(state, Unreadable) else state.messages

    async def due(self, shard: int, service: str) -> "DueConsumer":
        consumer = DueConsumer(
            self._requests,
            self._elections,
            shard,
            service,
            self._clock,
            is_in_memory=not self._is_alone,
        )
        await consumer.start()
        self._consumers.append(consumer)
        return consumer

    def keep_in_hand(self) -> None:
        """Keep what is being worked on from being delivered to somebody else."""
        self._consumers = [each for each in self._consumers if not each.is_closed]
        for consumer in self._consumers:
            consumer.keep_in_hand()

    async def look_at_room(self) -> None:
        """See how full the shards are; what cannot be asked counts as before."""
        for shard in range(TIMER_SHARDS):
            state = await self._state(shard, LOOK_TIMEOUT_S)
            if isinstance(state, _State):
                self._bytes[shard] = state.bytes

    async def _state(self, shard: int, timeout_s: float) -> _State | Unreadable:
        reply = await self._requests.ask(
            f"$JS.API.STREAM.INFO.{stream_name(shard)}", timeout_s=timeout_s
        )
        if not isinstance(reply, bytes):
            return Unreadable(reply.reason)
        return _ANSWER.decode(reply).state or Unreadable("no state")


class DueDelivery(JetStreamDelivery):
    """A due message in hand; `ack` deletes it first, and answers only if it is gone."""

    __slots__ = ("_due",)

    def __init__(self, consumer: "DueConsumer", message: nats.Message, since: float) -> None:
        super().__init__(consumer, message, since)
        self._due = consumer

    async def ack(self) -> None:
        if await self._due.remove(self.stored.sequence):
            await super().ack()
        else:
            # Delivered again soon, and found to be done already.
            self._due.in_hand.pop(self, None)


class DueConsumer(JetStreamConsumer):
    """A durable consumer's handle on what is due in one shard. What was acknowledged is gone from
    the shard, so a consumer that begins again needs no floor."""

    def __init__(
        self,
        requests: Requests,
        elections: Elections,
        shard: int,
        service: str,
        clock: Clock,
        *,
        is_in_memory: bool,
    ) -> None:
        filters = [due_subject(shard, ">")]
        super().__init__(
            requests,
            elections,
            shard,
            service,
            filters,
            clock,
            stream=stream_name(shard),
            is_in_memory=is_in_memory,
        )

    async def remove(self, sequence: int) -> bool:
        """Whether the message is surely gone."""
        question = msgspec.json.encode({"seq": sequence, "no_erase": True})
        subject = f"$JS.API.STREAM.MSG.DELETE.{stream_name(self.shard)}"
        reply = await self.requests.ask(subject, question, timeout_s=ADMIN_TIMEOUT_S)
        if not isinstance(reply, bytes):
            return False
        answer = _ANSWER.decode(reply)
        return answer.success or (
            answer.error is not None and answer.error.err_code == MESSAGE_GONE
        )

    def _receive(self, message: nats.Message) -> DueDelivery:
        delivery = DueDelivery(self, message, self._clock.monotonic())
        self.in_hand[delivery] = None
        return delivery


def stream_config(shard: int, replicas: int) -> bytes:
    return msgspec.json.encode(
        {
            "name": stream_name(shard),
            "subjects": [f"timer.{shard}.>"],
            "num_replicas": replicas,
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "max_bytes": -1,
            "max_age": 0,
            "max_msgs": -1,
            "max_msgs_per_subject": -1,
            "allow_direct": True,
            "allow_msg_schedules": True,
        }
    )


def _name(shard: int) -> str:
    return f"timer shard {shard}"


def _rfc3339(moment: float) -> str:
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
