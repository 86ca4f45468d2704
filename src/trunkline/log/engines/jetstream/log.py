"""The engine: twelve streams behind one connection, and a task that keeps deliveries in hand."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from trunkline.kernel import Clock, Pool
from trunkline.log.clock_check import apart_s, can_be_trusted
from trunkline.log.engines.jetstream import api, retain
from trunkline.log.engines.jetstream.connection import Connection
from trunkline.log.engines.jetstream.consume import (
    ADMIN_TIMEOUT_S,
    KEEP_IN_HAND_EVERY_S,
    JetStreamConsumer,
    JetStreamFollower,
)
from trunkline.log.engines.jetstream.requests import NotReceived, Requests, Unanswered
from trunkline.log.engines.jetstream.timers import JetStreamTimers, ensure_timers
from trunkline.log.interface import (
    Extent,
    LogUnavailable,
    PublishAnswer,
    ReadAnswer,
    Refused,
    Unknown,
    Unreadable,
)
from trunkline.log.limits import CREATES_SHARE
from trunkline.log.shards import SHARDS
from trunkline.protocols import nats

log: Final = structlog.get_logger(__name__)

ROOM_EVERY_S: Final = 2.0
"""How often the fill of the shards is looked at; at full speed one gains a megabyte meanwhile."""

BYTES_MAX: Final = 8 * 1024 * 1024 * 1024
"""All shards together; a full one refuses."""

_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_EMPTY_REGISTER: Final = nats.headers(_EXPECTED, "0")


@contextlib.asynccontextmanager
async def open_jetstream(
    url: str,
    token: str,
    *,
    clock: Clock,
    rng: random.Random,
    replicas: int = 1,
    bytes_max: int = BYTES_MAX,
    is_born: bool = False,
    has_room: Callable[[], bool] = lambda: True,
) -> AsyncIterator["JetStreamLog"]:
    """The log on the server at `url`. Raises `LogUnavailable`.

    Its streams are made when missing; but of a log that `is_born`, a missing stream is a loss, and
    is refused. `has_room` says whether the disk has room for new resources.
    """
    connection = Connection(url, token, clock=clock)
    await connection.open()
    try:
        async with asyncio.TaskGroup() as tasks:
            keeping_up = tasks.create_task(connection.run())
            requests = Requests(
                connection, prefix=f"{rng.getrandbits(64):016x}", clock=clock, rng=rng
            )
            bounds = await _ensure_streams(
                requests, replicas=replicas, bytes_max=bytes_max, is_born=is_born
            )
            await ensure_timers(requests, replicas=replicas, is_born=is_born)
            engine = JetStreamLog(
                requests, clock, is_alone=replicas == 1, bounds=bounds, has_room=has_room
            )
            keeping = tasks.create_task(engine.keep_in_hand())
            watching = tasks.create_task(engine.watch_room())
            try:
                yield engine
            finally:
                keeping.cancel()
                watching.cancel()
                keeping_up.cancel()
    finally:
        connection.close()


async def _ensure_streams(
    requests: Requests, *, replicas: int, bytes_max: int, is_born: bool
) -> list[int]:
    """The bound of each shard, in bytes."""
    bounds = [0] * SHARDS

    async def ensure(shard: int) -> None:
        config = api.stream_config(shard, replicas=replicas, bytes_max=bytes_max // SHARDS)
        bounds[shard] = await _ensure_stream(requests, shard, config, is_born=is_born)

    async with asyncio.TaskGroup() as tasks:
        for shard in range(SHARDS):
            tasks.create_task(ensure(shard))
    return bounds


async def _ensure_stream(
    requests: Requests, shard: int, config: api.StreamConfig, *, is_born: bool
) -> int:
    """Make the shard where it is missing; raise its bound, but never lower it: a stream that is
    larger than its bound may lose its oldest messages."""
    info = await _ask_about_stream(requests, "INFO", shard, b"")
    if info.error is not None and info.error.err_code == api.STREAM_NOT_FOUND:
        if is_born:
            raise LogUnavailable(
                f"shard {shard} is missing from the log, and with it what was accepted into it"
            )
        info = await _ask_about_stream(requests, "CREATE", shard, api.encode(config))
    api.raise_for(info.error, f"cannot make shard {shard}")
    standing = config.max_bytes if info.config is None else info.config.max_bytes
    if standing >= config.max_bytes:
        return standing
    info = await _ask_about_stream(requests, "UPDATE", shard, api.encode(config))
    if info.error is not None:
        log.warning("log.bound_kept", shard=shard, bytes=standing, reason=info.error.description)
        return standing
    return config.max_bytes


async def _ask_about_stream(
    requests: Requests, what: str, shard: int, question: bytes
) -> api.StreamAnswer:
    subject = f"$JS.API.STREAM.{what}.{api.stream_name(shard)}"
    reply = await requests.request(subject, question, timeout_s=ADMIN_TIMEOUT_S)
    if isinstance(reply, NotReceived | Unanswered):
        raise LogUnavailable(f"shard {shard} cannot be asked: {reply.reason}")
    return msgspec.json.decode(reply, type=api.StreamAnswer)


class JetStreamLog:
    """See `log/interface.py` for what each method promises."""

    def __init__(
        self,
        requests: Requests,
        clock: Clock,
        *,
        is_alone: bool,
        bounds: Sequence[int],
        has_room: Callable[[], bool],
    ) -> None:
        self._is_alone = is_alone
        self._bounds = bounds
        self._has_room = has_room
        self._is_nearly_full = [False] * SHARDS
        self._clock_off_s = [0.0] * SHARDS
        self._requests = requests
        self._clock = clock
        self._consumers: list[JetStreamConsumer] = []
        self.timers = JetStreamTimers(requests, clock, has_room=has_room, is_shared=not is_alone)

    @property
    def shards(self) -> int:
        return SHARDS

    @property
    def is_connected(self) -> bool:
        return self._requests.connection.is_connected

    async def wait_until_connected(self, wait_s: float) -> bool:
        return await self._requests.connection.wait_until_connected(wait_s)

    async def publish(
        self, shard: int, subject: str, payload: bytes, *, expected: int | None, timeout_s: float
    ) -> PublishAnswer:
        del shard  # it is a word of the subject, by which the server finds the stream
        block = b""
        if expected is not None:
            block = nats.headers(_EXPECTED, str(expected)) if expected else _EMPTY_REGISTER
        reply = await self._requests.request(
            subject, payload, header_block=block, timeout_s=timeout_s
        )
        if isinstance(reply, bytes):
            return api.publish_answer(reply, is_alone=self._is_alone)
        if isinstance(reply, NotReceived):
            return Refused(reply.reason)
        return Unknown(reply.reason)

    async def read_first(self, shard: int, subject: str, *, timeout_s: float) -> ReadAnswer:
        return await self.read_next(shard, subject, after=0, timeout_s=timeout_s)

    async def read_next(
        self, shard: int, subjects: str, *, after: int, timeout_s: float
    ) -> ReadAnswer:
        question = msgspec.json.encode({"seq": after + 1, "next_by_subj": subjects})
        return await self._read(shard, question, timeout_s)

    async def read_last(self, shard: int, subject: str, *, timeout_s: float) -> ReadAnswer:
        question = msgspec.json.encode({"last_by_subj": subject})
        return await self._read(shard, question, timeout_s)

    async def last_sequence(self, shard: int, *, timeout_s: float) -> int | Unreadable:
        reply = await self._requests.request(
            f"$JS.API.STREAM.INFO.{api.stream_name(shard)}", timeout_s=timeout_s
        )
        if not isinstance(reply, bytes):
            return Unreadable(reply.reason)
        answer = msgspec.json.decode(reply, type=api.StreamAnswer)
        if answer.state is None:
            return Unreadable("no state" if answer.error is None else answer.error.description)
        return answer.state.last_seq

    async def consumer(self, shard: int, service: str, filters: Sequence[str]) -> JetStreamConsumer:
        consumer = JetStreamConsumer(
            self._requests, shard, service, filters, self._clock, is_shared=not self._is_alone
        )
        await consumer.start()
        self._consumers.append(consumer)
        return consumer

    async def follower(self, shard: int, *, after: int) -> JetStreamFollower:
        follower = JetStreamFollower(self._requests, shard, after, self._clock)
        await follower.start()
        return follower

    async def extent(self, shard: int, *, timeout_s: float) -> Extent | Unreadable:
        return await retain.extent(self._requests, shard, timeout_s)

    async def ack_floors(self, shard: int, *, timeout_s: float) -> Mapping[str, int] | Unreadable:
        return await retain.ack_floors(self._requests, shard, timeout_s)

    async def purge(self, shard: int, *, before: int, timeout_s: float) -> int | Unreadable:
        return await retain.purge(self._requests, shard, before, timeout_s)

    async def keep_in_hand(self) -> None:
        """Until cancelled: keep what is being worked on from being delivered to somebody else."""
        while True:
            await self._clock.sleep(KEEP_IN_HAND_EVERY_S)
            self._consumers = [each for each in self._consumers if not each.is_closed]
            for consumer in self._consumers:
                consumer.keep_in_hand()
            self.timers.keep_in_hand()

    async def watch_room(self) -> None:
        """Until cancelled: see how full each shard is, the disk below them, and what their clocks
        say."""
        while True:
            for shard in range(self.shards):
                has_room = self._has_room()
                used = await self._look_at(shard)
                if used is not None or not has_room:
                    is_over = used is not None and used >= self._bounds[shard] * CREATES_SHARE
                    self._is_nearly_full[shard] = is_over or not has_room
            await self.timers.look_at_room()
            await self._clock.sleep(ROOM_EVERY_S)

    def is_nearly_full(self, shard: int) -> bool:
        return self._is_nearly_full[shard]

    def clock_off_s(self, shard: int) -> float:
        return self._clock_off_s[shard]

    async def _look_at(self, shard: int) -> int | None:
        """How many bytes the shard holds; its clock is noted."""
        asked_at = self._clock.wall()
        reply = await self._requests.request(
            f"$JS.API.STREAM.INFO.{api.stream_name(shard)}", timeout_s=ADMIN_TIMEOUT_S
        )
        if not isinstance(reply, bytes):
            return None
        answer = msgspec.json.decode(reply, type=api.StreamAnswer)
        if answer.at is not None:
            self._note_clock(
                shard, apart_s(asked_at=asked_at, said=answer.at, answered_at=self._clock.wall())
            )
        return None if answer.state is None else answer.state.bytes

    def _note_clock(self, shard: int, off_s: float) -> None:
        was_trusted = can_be_trusted(self._clock_off_s[shard])
        self._clock_off_s[shard] = off_s
        if was_trusted and not can_be_trusted(off_s):
            log.error("log.clock_off", shard=shard, ahead_s=round(off_s, 1))
        elif not was_trusted and can_be_trusted(off_s):
            log.info("log.clock_right", shard=shard)

    def pools(self) -> tuple[Pool[Connection], ...]:
        """For who counts."""
        return self._requests.pools()

    async def close(self) -> None:
        self._requests.connection.close()

    async def _read(self, shard: int, question: bytes, timeout_s: float) -> ReadAnswer:
        reply = await self._requests.request(
            f"$JS.API.STREAM.MSG.GET.{api.stream_name(shard)}", question, timeout_s=timeout_s
        )
        if isinstance(reply, bytes):
            return api.read_answer(shard, reply)
        return Unreadable(reply.reason)
