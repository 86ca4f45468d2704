"""The engine: twelve streams behind a connection to each server, and what is done in between."""

import asyncio
import contextlib
import functools
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from trunkline.kernel import Clock, Pool
from trunkline.log.clock_check import apart_s, can_be_trusted
from trunkline.log.engines.jetstream import api, leaders, retain
from trunkline.log.engines.jetstream import timers as timer_streams
from trunkline.log.engines.jetstream.bus import SENDER_BYTES, JetStreamBus
from trunkline.log.engines.jetstream.connection import ALONE, ONE_OF_SEVERAL, Connection
from trunkline.log.engines.jetstream.consume import (
    KEEP_IN_HAND_EVERY_S,
    JetStreamConsumer,
    JetStreamFollower,
)
from trunkline.log.engines.jetstream.elections import Elections
from trunkline.log.engines.jetstream.ensure import StreamKeeper, ensure_shard
from trunkline.log.engines.jetstream.pace import TryTimes
from trunkline.log.engines.jetstream.positions import Key, Positions
from trunkline.log.engines.jetstream.requests import NotReceived, Requests, Routes
from trunkline.log.engines.jetstream.shared import SharedReader
from trunkline.log.engines.jetstream.tail import Tail, TailFollower
from trunkline.log.engines.jetstream.timers import JetStreamTimers, ensure_timers
from trunkline.log.interface import (
    Consumer,
    Extent,
    Follower,
    LogUnavailable,
    PublishAnswer,
    ReadAnswer,
    Refused,
    Unknown,
    Unreadable,
)
from trunkline.log.limits import CREATES_SHARE, TRY_TIMEOUT_S
from trunkline.log.shards import SHARDS
from trunkline.log.trimmed import done_up_to
from trunkline.protocols import nats

log: Final = structlog.get_logger(__name__)

ROOM_EVERY_S: Final = 2.0
"""How often the fill of the shards is looked at; at full speed one gains a megabyte meanwhile."""

LOOK_TIMEOUT_S: Final = 1.0
"""A shard without a leader is silent; what is known of the others must not wait for it."""

BYTES_MAX: Final = 8 * 1024 * 1024 * 1024
"""All shards together; a full one refuses."""

_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_EMPTY_REGISTER: Final = nats.headers(_EXPECTED, "0")


@contextlib.asynccontextmanager
async def open_jetstream(  # noqa: PLR0913 - what a host is told, and a test need not know
    urls: Sequence[str],
    token: str,
    *,
    former: Sequence[str] = (),
    clock: Clock,
    rng: random.Random,
    replicas: int = 1,
    bytes_max: int = BYTES_MAX,
    is_born: bool = False,
    has_room: Callable[[], bool] = lambda: True,
    tls: ssl.SSLContext | None = None,
    positions: Path | None = None,
) -> AsyncIterator["JetStreamLog"]:
    """The log on the servers at `urls`, the own one first. Raises `LogUnavailable` if none of them
    is there, or if they do not agree on leaders in half a minute.

    Its streams are made when missing; but of a log that `is_born`, a missing stream is a loss, and
    is refused. `has_room` says whether the disk has room for new resources. `tls` is what is spoken
    to servers, and whom it trusts; `former` are tokens for servers that refuse the first. With
    `replicas`, several hosts share what the services read, and the file `positions` says where to go
    on when all of them have stopped.
    """
    patience = ALONE if len(urls) == 1 else ONE_OF_SEVERAL
    connections = [
        Connection(url, token, former=former, clock=clock, patience=patience, tls=tls)
        for url in urls
    ]
    try:
        await _open_one(connections)
        async with asyncio.TaskGroup() as tasks:
            under_way = [tasks.create_task(each.run()) for each in connections]
            try:
                requests = Requests(
                    connections, prefix=f"{rng.getrandbits(64):016x}", clock=clock, rng=rng
                )
                keeper = StreamKeeper(requests, clock)
                bounds = await _ensure_shards(
                    keeper, replicas=replicas, bytes_max=bytes_max, is_born=is_born
                )
                await ensure_timers(keeper, replicas=replicas, is_born=is_born)
                engine = JetStreamLog(
                    requests,
                    clock,
                    is_alone=replicas == 1,
                    bounds=bounds,
                    has_room=has_room,
                    sender=rng.randbytes(SENDER_BYTES),
                    positions=positions,
                )
                under_way.append(tasks.create_task(engine.keep_in_hand()))
                under_way.append(tasks.create_task(engine.watch_room()))
                if engine.positions is not None:
                    under_way.append(tasks.create_task(engine.positions.run()))
                yield engine
                if engine.positions is not None and engine.is_connected:
                    await engine.positions.note_at_last()
            finally:
                for task in under_way:
                    task.cancel()
    finally:
        for connection in connections:
            connection.close()


async def _open_one(connections: Sequence[Connection]) -> None:
    """Connect to the first server that is there; the others are connected to meanwhile. Raises
    `LogUnavailable`, with what the own one said."""
    refusal: LogUnavailable | None = None
    for connection in connections:
        try:
            await connection.open()
        except LogUnavailable as error:
            refusal = refusal or error
        else:
            return
    if refusal is not None:
        raise refusal


async def _ensure_shards(
    keeper: StreamKeeper, *, replicas: int, bytes_max: int, is_born: bool
) -> list[int]:
    """The bound of each shard, in bytes."""
    bounds = [0] * SHARDS

    async def ensure(shard: int) -> None:
        config = api.stream_config(shard, replicas=replicas, bytes_max=bytes_max // SHARDS)
        bounds[shard] = await ensure_shard(keeper, shard, config, is_born=is_born)

    async with asyncio.TaskGroup() as tasks:
        for shard in range(SHARDS):
            tasks.create_task(ensure(shard))
    return bounds


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
        sender: bytes,
        positions: Path | None = None,
    ) -> None:
        self._is_alone = is_alone
        self._bounds = bounds
        self._has_room = has_room
        self._is_nearly_full = [False] * SHARDS
        self._clock_off_s = [0.0] * SHARDS
        self._requests = requests
        self._clock = clock
        self._consumers: list[JetStreamConsumer] = []
        self._elections = Elections(requests)
        self._try_times = TryTimes(SHARDS)
        self.bus = JetStreamBus(requests, sender)
        self.positions = None if is_alone else Positions(requests, self.bus, positions, clock)
        """How far the services of all hosts are, where several hosts share them."""
        self._tails = [Tail(self._opener(shard), clock) for shard in range(SHARDS)]
        self.timers = JetStreamTimers(
            requests, self._elections, clock, has_room=has_room, is_alone=is_alone
        )

    @property
    def shards(self) -> int:
        return SHARDS

    @property
    def is_connected(self) -> bool:
        return self._requests.is_connected

    async def wait_until_connected(self, wait_s: float) -> bool:
        return await self._requests.wait_until_connected(wait_s)

    @property
    def try_timeout_s(self) -> float:
        # One server that is slow has a slow disk, and another shard is on the same one.
        return TRY_TIMEOUT_S if self._is_alone else self._try_times.timeout_s

    async def publish(
        self, shard: int, subject: str, payload: bytes, *, expected: int | None, timeout_s: float
    ) -> PublishAnswer:
        block = b""
        if expected is not None:
            block = nats.headers(_EXPECTED, str(expected)) if expected else _EMPTY_REGISTER
        if self._is_alone:
            reply = await self._requests.request(
                subject, payload, header_block=block, timeout_s=timeout_s
            )
        else:
            began = self._clock.monotonic()
            reply = await self._requests.request(
                subject, payload, header_block=block, timeout_s=timeout_s
            )
            if not isinstance(reply, NotReceived):
                took_s = self._clock.monotonic() - began
                self._try_times.record(shard, took_s, is_answered=isinstance(reply, bytes))
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
        reply = await self._requests.ask(
            f"$JS.API.STREAM.INFO.{api.stream_name(shard)}", timeout_s=timeout_s
        )
        if not isinstance(reply, bytes):
            return Unreadable(reply.reason)
        answer = msgspec.json.decode(reply, type=api.StreamAnswer)
        if answer.state is None:
            return Unreadable("no state" if answer.error is None else answer.error.description)
        return answer.state.last_seq

    async def consumer(self, shard: int, service: str, filters: Sequence[str]) -> Consumer:
        if self.positions is not None:
            key = Key(api.stream_name(shard), service, tuple(filters))
            self.positions.expect(key)
            look = _ShardLook(self, shard)
            return SharedReader(key, self._tails[shard], self.positions, look, self._clock)
        consumer = JetStreamConsumer(
            self._requests, self._elections, shard, service, filters, self._clock
        )
        await consumer.start()
        self._consumers.append(consumer)
        return consumer

    async def follower(self, shard: int, *, after: int) -> Follower:
        if self._is_alone:
            return await self._open_follower(shard, after)
        return TailFollower(self._tails[shard], after)

    def _opener(self, shard: int) -> Callable[[int], Awaitable[Follower]]:
        return functools.partial(self._open_follower, shard)

    async def _open_follower(self, shard: int, after: int) -> Follower:
        follower = JetStreamFollower(self._requests, self._elections, shard, after, self._clock)
        await follower.start()
        return follower

    async def read_at(self, shard: int, sequence: int, *, timeout_s: float) -> ReadAnswer:
        """What stands at a sequence, from the shard's leader."""
        return await self._read(shard, msgspec.json.encode({"seq": sequence}), timeout_s)

    async def extent(self, shard: int, *, timeout_s: float) -> Extent | Unreadable:
        return await retain.extent(self._requests, shard, timeout_s)

    async def ack_floors(self, shard: int, *, timeout_s: float) -> Mapping[str, int] | Unreadable:
        if self.positions is not None:
            return self.positions.floors(api.stream_name(shard))
        return await retain.ack_floors(self._requests, shard, timeout_s)

    async def purge(self, shard: int, *, before: int, timeout_s: float) -> int | Unreadable:
        return await retain.purge(self._requests, shard, before, timeout_s)

    async def leaders(self, *, timeout_s: float) -> Mapping[str, str | None]:
        streams = [api.stream_name(shard) for shard in range(SHARDS)]
        streams += [timer_streams.stream_name(shard) for shard in range(self.timers.shards)]
        return await leaders.leaders(self._requests, streams, timeout_s)

    async def consumer_leaders(
        self, consumers: Sequence[str], *, timeout_s: float
    ) -> Mapping[str, str | None]:
        return await leaders.leaders(self._requests, consumers, timeout_s)

    async def step_down(self, stream: str, *, prefer: str, timeout_s: float) -> bool:
        return await leaders.step_down(self._requests, stream, prefer, timeout_s)

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
            async with asyncio.TaskGroup() as tasks:
                for shard in range(self.shards):
                    tasks.create_task(self._look_at_room(shard))
            await self.timers.look_at_room()
            await self._clock.sleep(ROOM_EVERY_S)

    async def _look_at_room(self, shard: int) -> None:
        has_room = self._has_room()
        used = await self._look_at(shard)
        if used is not None or not has_room:
            is_over = used is not None and used >= self._bounds[shard] * CREATES_SHARE
            self._is_nearly_full[shard] = is_over or not has_room

    def is_nearly_full(self, shard: int) -> bool:
        return self._is_nearly_full[shard]

    def clock_off_s(self, shard: int) -> float:
        return self._clock_off_s[shard]

    async def _look_at(self, shard: int) -> int | None:
        """How many bytes the shard holds; its clock is noted."""
        asked_at = self._clock.wall()
        reply = await self._requests.ask(
            f"$JS.API.STREAM.INFO.{api.stream_name(shard)}", timeout_s=LOOK_TIMEOUT_S
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

    def pools(self) -> tuple[Pool[Routes], ...]:
        """For who counts."""
        return self._requests.pools()

    async def close(self) -> None:
        for route in self._requests.routes:
            route.connection.close()

    async def _read(self, shard: int, question: bytes, timeout_s: float) -> ReadAnswer:
        reply = await self._requests.ask(
            f"$JS.API.STREAM.MSG.GET.{api.stream_name(shard)}", question, timeout_s=timeout_s
        )
        if isinstance(reply, bytes):
            return api.read_answer(shard, reply)
        return Unreadable(reply.reason)


@dataclass(frozen=True, slots=True)
class _ShardLook:
    """Implements `ShardLook`."""

    log: JetStreamLog
    shard: int

    async def read_at(self, sequence: int) -> ReadAnswer:
        return await self.log.read_at(self.shard, sequence, timeout_s=LOOK_TIMEOUT_S)

    async def done_up_to(self) -> int | Unreadable:
        return await done_up_to(self.log, self.shard, timeout_s=LOOK_TIMEOUT_S)
