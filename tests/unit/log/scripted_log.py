"""A log whose shards fail as told: the memory engine behind a network that tests decide about.

Each publish to a shard meets the next fate that was set for it with `will`, or else the one set
with `always`. What is under way is stored by `land` or lost by `lose`, when the test says so.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, TypeVar
from zlib import crc32

from trunkline.domain.events import Body, Kind, MessageCreated, Type
from trunkline.kernel import FakeClock
from trunkline.log.append import Draft
from trunkline.log.author import Author
from trunkline.log.engines.memory import SHARD_BYTES_MAX, MemoryLog
from trunkline.log.event import (
    Event,
    UnreadableEvent,
    chain_subject,
    created_subject,
    decode_all,
    encode,
    is_changed,
)
from trunkline.log.interface import (
    Accepted,
    Consumer,
    Delivery,
    Extent,
    Follower,
    LogUnavailable,
    PublishAnswer,
    ReadAnswer,
    Refused,
    Stored,
    Timers,
    Undecided,
    Unknown,
    Unreadable,
)
from trunkline.log.limits import TRY_TIMEOUT_S
from trunkline.log.marker import marker_subject
from trunkline.log.shards import SHARDS, order

ACCOUNT: Final = "AC" + "a" * 32

VIRTUAL_STEP_S: Final = 0.5
VIRTUAL_STEPS_MAX: Final = 400

Answer = TypeVar("Answer")


class Fate(Enum):
    """What becomes of one publish."""

    WELL = auto()
    REFUSED = auto()
    """Surely not stored."""
    LOST = auto()
    """Not stored, and its host does not know."""
    ANSWER_LOST = auto()
    """Stored, and its host does not know."""
    UNDECIDED = auto()
    """Told that another publish is under way."""
    DELAYED = auto()
    """In the network: its host does not know, and the shard has not seen it yet."""
    PROPOSED = auto()
    """With the shard's leader and not committed: what comes meanwhile is undecided."""


@dataclass(frozen=True, slots=True)
class Publish:
    """One publish, as it was asked for."""

    shard: int
    subject: str
    payload: bytes
    expected: int | None

    @property
    def event(self) -> Event:
        """The first event of it."""
        return self.events[0]

    @property
    def events(self) -> tuple[Event, ...]:
        return decode_all(self.payload)


class ScriptedLog:
    """Implements `Log`; remembers what was published, acknowledged, put back and followed."""

    def __init__(
        self, clock: FakeClock, *, shards: int = SHARDS, bytes_max: int = SHARD_BYTES_MAX
    ) -> None:
        self.published: list[Publish] = []
        self.acked: list[Event] = []
        self.put_back: list[tuple[Event, float]] = []
        self.followed_after: dict[int, int] = {}
        self.unreadable: set[int] = set()
        self.empty_looking: set[int] = set()
        self.clocks_off_s: dict[int, float] = {}
        self.is_connected = True
        self.on_publish: Callable[[Publish], Awaitable[None]] | None = None
        self._inner = MemoryLog(clock=clock, shards=shards, bytes_max=bytes_max)
        self._next: dict[int, deque[Fate]] = {}
        self._always: dict[int, Fate] = {}
        self._under_way: list[tuple[Publish, Fate]] = []
        self._consumers: list[Consumer] = []

    @property
    def try_timeout_s(self) -> float:
        return TRY_TIMEOUT_S

    def clock_off_s(self, shard: int) -> float:
        return self.clocks_off_s.get(shard, 0.0)

    def is_nearly_full(self, shard: int) -> bool:
        return self._inner.is_nearly_full(shard)

    def will(self, shard: int, *fates: Fate) -> None:
        """The next publishes to `shard` meet these."""
        self._next.setdefault(shard, deque()).extend(fates)

    def always(self, fate: Fate, *shards: int) -> None:
        """Every publish to these shards (to all, without any) meets this, until told otherwise."""
        self._always.update(dict.fromkeys(shards or range(self.shards), fate))

    async def land(self) -> list[PublishAnswer]:
        """Store what is under way, as far as its registers still allow."""
        landing, self._under_way = self._under_way, []
        return [await self._store(publish) for publish, _ in landing]

    def lose(self) -> None:
        """What is under way never arrives."""
        self._under_way.clear()

    @property
    def timers(self) -> Timers:
        return self._inner.timers

    def trim(self, *, chains: bool = False) -> None:
        """Empty every register, and with `chains` every ledger, as a trimmer does behind what all
        have passed. Timers stay."""
        for shard in self._inner._shards:
            for subject in [each for each in shard.chains if chains or ".created." in each]:
                del shard.chains[subject]

    async def wake(self) -> None:
        """Everything that waits for messages looks again."""
        await self._inner.close()

    async def deliver_again(self) -> None:
        """Offer what is in anybody's hands to others, as when its holder died or froze."""
        for consumer in self._consumers:
            await consumer.close()

    async def everything(self) -> list[Stored]:
        """All that is stored, shard by shard."""
        stored: list[Stored] = []
        for shard in range(self.shards):
            if await self._inner.last_sequence(shard, timeout_s=0.0):
                follower = await self._inner.follower(shard, after=0)
                stored += await follower.fetch(1_000_000, 0.0)
        return stored

    async def chain(self, shard: int, digits: str) -> list[Event]:
        """What stands in a message's register, and the records of its chain."""
        return [
            event
            for each in await self.everything()
            if each.shard == shard
            if not is_changed(each.subject) and each.subject != marker_subject(shard)
            for event in decode_all(each.payload)
            if event.sid[2:] == digits
        ]

    @property
    def shards(self) -> int:
        return self._inner.shards

    async def wait_until_connected(self, wait_s: float) -> bool:
        del wait_s
        return self.is_connected

    async def publish(
        self, shard: int, subject: str, payload: bytes, *, expected: int | None, timeout_s: float
    ) -> PublishAnswer:
        del timeout_s
        publish = Publish(shard, subject, payload, expected)
        self.published.append(publish)
        if self.on_publish is not None:
            await self.on_publish(publish)
        match self._fate(publish):
            case Fate.WELL:
                return await self._store(publish)
            case Fate.REFUSED:
                return Refused("no leader")
            case Fate.UNDECIDED:
                return Undecided()
            case Fate.ANSWER_LOST:
                await self._store(publish)
            case Fate.DELAYED | Fate.PROPOSED as fate:
                self._under_way.append((publish, fate))
            case Fate.LOST:
                pass
        return Unknown("no answer in 0.25 s")

    async def read_first(self, shard: int, subject: str, *, timeout_s: float) -> ReadAnswer:
        if shard in self.unreadable:
            return Unreadable("no leader")
        if shard in self.empty_looking:
            return None
        return await self._inner.read_first(shard, subject, timeout_s=timeout_s)

    async def read_last(self, shard: int, subject: str, *, timeout_s: float) -> ReadAnswer:
        if shard in self.unreadable:
            return Unreadable("no leader")
        if shard in self.empty_looking:
            return None
        return await self._inner.read_last(shard, subject, timeout_s=timeout_s)

    async def last_sequence(self, shard: int, *, timeout_s: float) -> int | Unreadable:
        if not self.is_connected:
            return Unreadable("cut off")
        return await self._inner.last_sequence(shard, timeout_s=timeout_s)

    async def consumer(self, shard: int, service: str, filters: Sequence[str]) -> Consumer:
        if not self.is_connected:
            raise LogUnavailable("cut off")
        inner = await self._inner.consumer(shard, service, filters)
        self._consumers.append(inner)
        return _Consumer(self, inner)

    async def follower(self, shard: int, *, after: int) -> Follower:
        if not self.is_connected:
            raise LogUnavailable("cut off")
        self.followed_after[shard] = after
        return _Follower(self, await self._inner.follower(shard, after=after))

    async def extent(self, shard: int, *, timeout_s: float) -> Extent | Unreadable:
        if not self.is_connected or shard in self.unreadable:
            return Unreadable("cut off")
        return await self._inner.extent(shard, timeout_s=timeout_s)

    async def read_next(
        self, shard: int, subjects: str, *, after: int, timeout_s: float
    ) -> ReadAnswer:
        if not self.is_connected or shard in self.unreadable:
            return Unreadable("cut off")
        if shard in self.empty_looking:
            return None
        return await self._inner.read_next(shard, subjects, after=after, timeout_s=timeout_s)

    async def ack_floors(self, shard: int, *, timeout_s: float) -> Mapping[str, int] | Unreadable:
        if not self.is_connected or shard in self.unreadable:
            return Unreadable("cut off")
        return await self._inner.ack_floors(shard, timeout_s=timeout_s)

    async def purge(self, shard: int, *, before: int, timeout_s: float) -> int | Unreadable:
        if not self.is_connected or shard in self.unreadable:
            return Unreadable("cut off")
        return await self._inner.purge(shard, before=before, timeout_s=timeout_s)

    async def close(self) -> None:
        await self._inner.close()

    def _fate(self, publish: Publish) -> Fate:
        is_taken = any(
            fate is Fate.PROPOSED and other.subject == publish.subject
            for other, fate in self._under_way
        )
        if is_taken and publish.expected is not None:
            return Fate.UNDECIDED
        coming = self._next.get(publish.shard)
        return coming.popleft() if coming else self._always.get(publish.shard, Fate.WELL)

    async def _store(self, publish: Publish) -> PublishAnswer:
        return await self._inner.publish(
            publish.shard,
            publish.subject,
            publish.payload,
            expected=publish.expected,
            timeout_s=0.0,
        )


class _Delivery:
    """Tells its log how it was answered."""

    def __init__(self, log: ScriptedLog, inner: Delivery) -> None:
        self._log = log
        self._inner = inner

    @property
    def stored(self) -> Stored:
        return self._inner.stored

    async def ack(self) -> None:
        self._log.acked.extend(decode_all(self.stored.payload))
        await self._inner.ack()

    async def nak(self, delay_s: float) -> None:
        with contextlib.suppress(UnreadableEvent):
            events = decode_all(self.stored.payload)
            self._log.put_back += [(event, delay_s) for event in events]
        await self._inner.nak(delay_s)


class _Consumer:
    def __init__(self, log: ScriptedLog, inner: Consumer) -> None:
        self._log = log
        self._inner = inner

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[Delivery]:
        return [_Delivery(self._log, each) for each in await self._inner.fetch(items_max, wait_s)]

    async def rest(self) -> None:
        await self._inner.rest()

    async def redeliver(self) -> bool:
        return await self._inner.redeliver()

    async def close(self) -> None:
        await self._inner.close()


class _Follower:
    def __init__(self, log: ScriptedLog, inner: Follower) -> None:
        self._log = log
        self._inner = inner

    @property
    def is_at_end(self) -> bool:
        return self._inner.is_at_end

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[Stored]:
        if not self._log.is_connected:
            raise LogUnavailable("cut off")
        taken = await self._inner.fetch(items_max, wait_s)
        if not self._log.is_connected:
            raise LogUnavailable("cut off")
        return taken

    async def close(self) -> None:
        await self._inner.close()


def pen(host: str, clock: FakeClock) -> Author:
    """An author whose ids are the same in every run, and differ from those of other hosts."""
    numbers = itertools.count(1)
    written = host.encode()
    # An id has room for four bytes of it, and long names begin alike.
    name = written.rjust(4, b"-") if len(written) <= 4 else crc32(written).to_bytes(4, "big")
    return Author(
        host=host,
        clock=clock,
        entropy=lambda size: name + next(numbers).to_bytes(size - len(name), "big"),
    )


async def in_virtual_time(clock: FakeClock, act: Coroutine[Any, Any, Answer]) -> Answer:
    """What `act` returns, with time moved on for as long as it waits."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(act)
        for _ in range(VIRTUAL_STEPS_MAX):
            await clock.advance(0.0)
            if task.done():
                return task.result()
            await clock.advance(VIRTUAL_STEP_S)
        task.cancel()
        raise AssertionError("it waits for something that time does not bring")


def draft(
    digits: str, *, text: str = "hello", is_keyed: bool = True, send_at: float | None = None
) -> Draft:
    """A message to be created, as the acceptor would draft it."""
    sid = "SM" + digits
    body = MessageCreated(
        sid=sid, sender="+15550001", recipient="+15550002", text=text, send_at=send_at
    )
    return Draft(kind=Kind.MESSAGE, sid=sid, account=ACCOUNT, body=body, is_keyed=is_keyed)


def register(shard: int, digits: str) -> str:
    """The subject of that message in a shard."""
    return created_subject(shard, Kind.MESSAGE, ACCOUNT, digits)


def walk(digits: str) -> tuple[int, ...]:
    """The shards in which that message may stand, most preferred first."""
    return order(digits)


async def put(
    log: ScriptedLog, shard: int, digits: str, author: Author, type_: Type, body: Body
) -> int:
    """Write a record where it belongs, behind whatever stands there and past all fates; its
    sequence."""
    is_of_register = type_ in (Type.ORIGINAL, Type.TOMBSTONE)
    subject = register(shard, digits) if is_of_register else chain_subject(shard, Kind.MESSAGE)
    newest = await log._inner.read_last(shard, subject, timeout_s=0.0)
    event = author.event(Kind.MESSAGE, type_, ACCOUNT, "SM" + digits, body)
    expected = newest.sequence if isinstance(newest, Stored) else 0
    answer = await log._store(Publish(shard, subject, encode(event), expected))
    assert isinstance(answer, Accepted)
    return answer.sequence
