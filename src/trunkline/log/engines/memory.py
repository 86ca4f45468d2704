"""The log in memory: for tests and for hosts that are told to forget. One process, no flush.

It keeps every promise of `log/interface.py` but durability: registers under compare-and-set,
deliveries that stay in hand until answered, and are offered again after `WORK_MAX_S`.
"""

import asyncio
import bisect
import itertools
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from trunkline.kernel import Clock
from trunkline.log.interface import (
    Accepted,
    Exists,
    Extent,
    PublishAnswer,
    ReadAnswer,
    Refused,
    Stored,
    Unreadable,
)
from trunkline.log.limits import CREATES_SHARE, TRY_TIMEOUT_S, WORK_MAX_S
from trunkline.log.local_bus import LocalBus
from trunkline.log.shards import SHARDS
from trunkline.log.timers import TIMER_SHARDS, TIMERS_MAX, due_subject

SHARD_BYTES_MAX = 256 * 1024 * 1024
"""A shard in memory refuses more than this, as a full stream would."""


class MemoryLog:
    """Shards as lists. `close` wakes everything that waits."""

    def __init__(
        self, *, clock: Clock, shards: int = SHARDS, bytes_max: int = SHARD_BYTES_MAX
    ) -> None:
        self._clock = clock
        self._shards = [_Shard(number, bytes_max) for number in range(shards)]
        self.timers = MemoryTimers(clock)
        self.bus = LocalBus()

    @property
    def shards(self) -> int:
        return len(self._shards)

    @property
    def is_connected(self) -> bool:
        return True

    async def wait_until_connected(self, wait_s: float) -> bool:
        del wait_s
        return True

    @property
    def try_timeout_s(self) -> float:
        return TRY_TIMEOUT_S

    def is_nearly_full(self, shard: int) -> bool:
        return self._shards[shard].is_nearly_full

    def clock_off_s(self, shard: int) -> float:
        del shard  # there is one clock
        return 0.0

    async def publish(
        self, shard: int, subject: str, payload: bytes, *, expected: int | None, timeout_s: float
    ) -> PublishAnswer:
        del timeout_s
        return self._shards[shard].store(subject, payload, expected, at=self._clock.wall())

    async def read_first(self, shard: int, subject: str, *, timeout_s: float) -> ReadAnswer:
        del timeout_s
        chain = self._shards[shard].chains.get(subject)
        return chain[0] if chain else None

    async def read_last(self, shard: int, subject: str, *, timeout_s: float) -> ReadAnswer:
        del timeout_s
        chain = self._shards[shard].chains.get(subject)
        return chain[-1] if chain else None

    async def last_sequence(self, shard: int, *, timeout_s: float) -> int | Unreadable:
        del timeout_s
        return self._shards[shard].last

    async def consumer(self, shard: int, service: str, filters: Sequence[str]) -> "MemoryConsumer":
        state = self._shards[shard].services.setdefault(service, _Service())
        return MemoryConsumer(self._shards[shard], state, filters, self._clock)

    async def extent(self, shard: int, *, timeout_s: float) -> Extent | Unreadable:
        del timeout_s
        return self._shards[shard].extent()

    async def read_next(
        self, shard: int, subjects: str, *, after: int, timeout_s: float
    ) -> ReadAnswer:
        del timeout_s
        return self._shards[shard].next_on(subjects, after)

    async def ack_floors(self, shard: int, *, timeout_s: float) -> Mapping[str, int] | Unreadable:
        del timeout_s
        held = self._shards[shard]
        return {name: service.floor(held) for name, service in held.services.items()}

    async def purge(self, shard: int, *, before: int, timeout_s: float) -> int | Unreadable:
        del timeout_s
        return self._shards[shard].purge(before)

    async def follower(self, shard: int, *, after: int) -> "MemoryFollower":
        return MemoryFollower(self._shards[shard], after)

    async def leaders(self, *, timeout_s: float) -> Mapping[str, str | None]:
        del timeout_s
        return {}

    async def consumer_leaders(
        self, consumers: Sequence[str], *, timeout_s: float
    ) -> Mapping[str, str | None]:
        del timeout_s
        return dict.fromkeys(consumers)

    async def step_down(self, stream: str, *, prefer: str, timeout_s: float) -> bool:
        del stream, prefer, timeout_s
        return False

    async def close(self) -> None:
        for shard in self._shards:
            shard.grown()
        self.timers.wake()


@dataclass(slots=True)
class _Service:
    """Where one service stands in one shard: shared by its processes, as the engine's is.
    `position` is the last sequence it was offered."""

    position: int = 0
    prefixes: tuple[str, ...] = ()
    again: deque[tuple[float, Stored]] = field(default_factory=deque)
    handles: list["MemoryConsumer"] = field(default_factory=list)

    def floor(self, shard: "_Shard") -> int:
        """Everything it asked for, up to this sequence, is acknowledged."""
        unanswered = [stored.sequence for _, stored in self.again]
        unanswered += [held.sequence for handle in self.handles for held in handle.in_hand()]
        coming = (each for each in shard.behind(self.position) if self.wants(each))
        unanswered += [stored.sequence for stored in itertools.islice(coming, 1)]
        return min(unanswered, default=shard.last + 1) - 1

    def wants(self, stored: Stored) -> bool:
        return stored.subject.startswith(self.prefixes)


class _Shard:
    """One stream: everything in order, and the chain of each subject."""

    def __init__(self, number: int, bytes_max: int) -> None:
        self.number = number
        self.last = 0
        self.chains: dict[str, list[Stored]] = {}
        self.services: dict[str, _Service] = {}
        self.messages: list[Stored] = []
        self._bytes_max = bytes_max
        self._bytes_left = bytes_max
        self._bytes_kept_back = int(bytes_max * (1.0 - CREATES_SHARE))
        self._growth = asyncio.Event()

    @property
    def is_nearly_full(self) -> bool:
        return self._bytes_left <= self._bytes_kept_back

    @property
    def first(self) -> int:
        return self.last - len(self.messages) + 1

    def extent(self) -> Extent:
        return Extent(
            first=self.first,
            last=self.last,
            bytes=self._bytes_max - self._bytes_left,
            bytes_max=self._bytes_max,
            subjects=len(self.chains),
        )

    def behind(self, sequence: int) -> Iterator[Stored]:
        """Everything that is still here behind `sequence`, in order."""
        start = max(0, sequence + 1 - self.first)
        return (self.messages[index] for index in range(start, len(self.messages)))

    def next_on(self, subjects: str, after: int) -> Stored | None:
        chain = self.chains.get(subjects)
        if chain is not None:
            at = bisect.bisect_right(chain, after, key=lambda stored: stored.sequence)
            return chain[at] if at < len(chain) else None
        prefix = subjects.removesuffix(">")
        is_one = prefix == subjects
        for stored in self.behind(after):
            if stored.subject == subjects or (not is_one and stored.subject.startswith(prefix)):
                return stored
        return None

    def store(
        self, subject: str, payload: bytes, expected: int | None, *, at: float
    ) -> PublishAnswer:
        chain = self.chains.get(subject)
        if expected is not None and expected != (chain[-1].sequence if chain else 0):
            return Exists()
        if len(payload) > self._bytes_left:
            return Refused("the shard is full", is_full=True)
        stored = Stored(self.number, subject, self.last + 1, at, payload)
        self.last += 1
        self._bytes_left -= len(payload)
        self.messages.append(stored)
        if expected is not None:
            self.chains.setdefault(subject, []).append(stored)
        self.grown()
        return Accepted(stored.sequence)

    def purge(self, before: int) -> int:
        count = min(max(0, before - self.first), len(self.messages))
        gone = self.messages[:count]
        del self.messages[:count]
        self._bytes_left += sum(len(stored.payload) for stored in gone)
        for subject, records in Counter(stored.subject for stored in gone).items():
            chain = self.chains.get(subject, [])
            del chain[:records]
            if not chain:
                self.chains.pop(subject, None)
        for service in self.services.values():
            service.again = deque(each for each in service.again if each[1].sequence >= before)
        return count

    def grown(self) -> None:
        self._growth.set()
        self._growth = asyncio.Event()

    async def wait_for_growth(self, wait_s: float) -> None:
        growth = self._growth
        try:
            async with asyncio.timeout(wait_s):
                await growth.wait()
        except TimeoutError:
            return


class MemoryDelivery:
    """One message in the hands of one consumer."""

    __slots__ = ("_consumer", "stored")

    def __init__(self, consumer: "MemoryConsumer", stored: Stored) -> None:
        self.stored = stored
        self._consumer = consumer

    async def ack(self) -> None:
        self._consumer.settle(self)

    async def nak(self, delay_s: float) -> None:
        self._consumer.settle(self, again_after_s=delay_s)


class MemoryConsumer:
    """A durable consumer's handle; `close` gives everything in hand back, as a death would."""

    def __init__(
        self, shard: _Shard, service: _Service, filters: Sequence[str], clock: Clock
    ) -> None:
        self._shard = shard
        self._service = service
        self._clock = clock
        self._in_hand: dict[MemoryDelivery, float] = {}
        service.prefixes = tuple(pattern.removesuffix(">") for pattern in filters)
        service.handles.append(self)

    def in_hand(self) -> list[Stored]:
        """What was delivered here and not answered."""
        return [delivery.stored for delivery in self._in_hand]

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[MemoryDelivery]:
        taken = self._take(items_max)
        if not taken:
            await self._shard.wait_for_growth(self._bounded(wait_s))
            taken = self._take(items_max)
        return taken

    def settle(self, delivery: MemoryDelivery, *, again_after_s: float | None = None) -> None:
        if self._in_hand.pop(delivery, None) is None:
            return
        if again_after_s is not None:
            self._service.again.append((self._clock.monotonic() + again_after_s, delivery.stored))
            self._shard.grown()  # whoever waits may have it now

    def let_go(self) -> list[Stored]:
        """All that is in hand, which is not any more."""
        held, self._in_hand = self.in_hand(), {}
        return held

    async def rest(self) -> None:
        """Nothing comes here that is not fetched."""

    async def redeliver(self) -> bool:
        unanswered = [stored for _, stored in self._service.again]
        for handle in self._service.handles:
            unanswered += handle.let_go()
        self._service.again = deque((self._clock.monotonic(), stored) for stored in unanswered)
        self._shard.grown()
        return True

    async def close(self) -> None:
        now = self._clock.monotonic()
        self._service.again.extend((now, stored) for stored in self.let_go())
        if self in self._service.handles:
            self._service.handles.remove(self)
        self._shard.grown()

    def _take(self, items_max: int) -> list[MemoryDelivery]:
        now = self._clock.monotonic()
        if self not in self._service.handles:
            self._service.handles.append(self)  # closed, and used again
        self._give_up_overdue(now)
        taken: list[MemoryDelivery] = []
        for _ in range(len(self._service.again)):
            due, stored = self._service.again.popleft()
            if due <= now and len(taken) < items_max:
                taken.append(MemoryDelivery(self, stored))
            else:
                self._service.again.append((due, stored))
        for stored in self._shard.behind(self._service.position):
            if len(taken) >= items_max:
                break
            self._service.position = stored.sequence
            if self._service.wants(stored):
                taken.append(MemoryDelivery(self, stored))
        self._in_hand.update(dict.fromkeys(taken, now))
        return taken

    def _give_up_overdue(self, now: float) -> None:
        for delivery, since in tuple(self._in_hand.items()):
            if now - since >= WORK_MAX_S:
                self.settle(delivery, again_after_s=0.0)

    def _bounded(self, wait_s: float) -> float:
        """Not past the moment at which something is due again."""
        now = self._clock.monotonic()
        return max(0.0, min([wait_s, *(due - now for due, _ in self._service.again)]))


class MemoryFollower:
    """Everything of one shard behind a sequence."""

    def __init__(self, shard: _Shard, after: int) -> None:
        self._shard = shard
        self._position = after

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[Stored]:
        if self.is_at_end:
            await self._shard.wait_for_growth(wait_s)
        taken = list(itertools.islice(self._shard.behind(self._position), items_max))
        self._position = taken[-1].sequence if taken else max(self._position, self._shard.first - 1)
        return taken

    @property
    def is_at_end(self) -> bool:
        return self._position >= self._shard.last

    async def close(self) -> None:
        return


class MemoryTimers:
    """Timers as lists, due by the clock's wall time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._shards = [_TimerShard(number) for number in range(TIMER_SHARDS)]

    @property
    def shards(self) -> int:
        return len(self._shards)

    @property
    def is_nearly_full(self) -> bool:
        room = TIMERS_MAX * CREATES_SHARE
        return all(len(each.waiting) + len(each.due) >= room for each in self._shards)

    async def write(
        self, shard: int, name: str, due_at: float, payload: bytes, *, timeout_s: float
    ) -> PublishAnswer:
        del timeout_s
        chosen = self._shards[shard]
        if len(chosen.waiting) + len(chosen.due) >= TIMERS_MAX:
            return Refused(f"timer shard {shard} is full", is_full=True)
        chosen.sequence += 1
        stored = Stored(shard, due_subject(shard, name), chosen.sequence, due_at, payload)
        chosen.waiting[name] = stored
        chosen.grown()
        return Accepted(stored.sequence)

    async def drop(self, shard: int, name: str, *, timeout_s: float) -> int | Unreadable:
        del timeout_s
        return 0 if self._shards[shard].waiting.pop(name, None) is None else 1

    async def count(self, shard: int, *, timeout_s: float) -> int | Unreadable:
        del timeout_s
        return len(self._shards[shard].waiting) + len(self._shards[shard].due)

    async def due(self, shard: int, service: str) -> "MemoryDueConsumer":
        del service
        return MemoryDueConsumer(self._shards[shard], self._clock)

    def wake(self) -> None:
        for shard in self._shards:
            shard.grown()


class _TimerShard(_Shard):
    """`due` says of each sequence what it is and when, by the monotonic clock, it may be offered."""

    def __init__(self, number: int) -> None:
        super().__init__(number, 0)
        self.sequence = 0
        self.waiting: dict[str, Stored] = {}
        self.due: dict[int, tuple[Stored, float]] = {}

    def take(self, items_max: int, clock: Clock) -> list[Stored]:
        """What is due, not to be offered again before the bound on work has passed."""
        now, wall = clock.monotonic(), clock.wall()
        for name, timer in tuple(self.waiting.items()):
            if timer.at <= wall:
                del self.waiting[name]
                self.sequence += 1
                fired = replace(timer, sequence=self.sequence, at=wall)
                self.due[fired.sequence] = (fired, now)
        ready = [stored for stored, offered_at in self.due.values() if offered_at <= now]
        for stored in ready[:items_max]:
            self.due[stored.sequence] = (stored, now + WORK_MAX_S)
        return ready[:items_max]

    def next_in_s(self, clock: Clock) -> float:
        waits = [timer.at - clock.wall() for timer in self.waiting.values()]
        waits += [offered_at - clock.monotonic() for _, offered_at in self.due.values()]
        return max(0.0, min(waits, default=WORK_MAX_S))


class MemoryDueConsumer:
    """A handle on what is due in one shard; `close` gives back what is in hand."""

    def __init__(self, shard: _TimerShard, clock: Clock) -> None:
        self._shard = shard
        self._clock = clock
        self._in_hand: set[int] = set()

    async def fetch(self, items_max: int, wait_s: float) -> Sequence["MemoryDueDelivery"]:
        taken = self._shard.take(items_max, self._clock)
        if not taken:
            await self._shard.wait_for_growth(min(wait_s, self._shard.next_in_s(self._clock)))
            taken = self._shard.take(items_max, self._clock)
        self._in_hand |= {stored.sequence for stored in taken}
        return [MemoryDueDelivery(self, stored) for stored in taken]

    def settle(self, stored: Stored, *, again_after_s: float | None = None) -> None:
        if stored.sequence not in self._in_hand:
            return
        self._in_hand.discard(stored.sequence)
        if again_after_s is None:
            self._shard.due.pop(stored.sequence, None)
        elif stored.sequence in self._shard.due:
            self._shard.due[stored.sequence] = (stored, self._clock.monotonic() + again_after_s)

    async def rest(self) -> None: ...

    async def redeliver(self) -> bool:
        due, now = self._shard.due, self._clock.monotonic()
        due.update({each: (held, now) for each, (held, _) in due.items()})
        self._shard.grown()
        return True

    async def close(self) -> None:
        for sequence in tuple(self._in_hand):
            if sequence in self._shard.due:
                self.settle(self._shard.due[sequence][0], again_after_s=0.0)
        self._shard.grown()


class MemoryDueDelivery:
    """One due message in the hands of one consumer."""

    __slots__ = ("_consumer", "stored")

    def __init__(self, consumer: MemoryDueConsumer, stored: Stored) -> None:
        self.stored = stored
        self._consumer = consumer

    async def ack(self) -> None:
        self._consumer.settle(self.stored)

    async def nak(self, delay_s: float) -> None:
        self._consumer.settle(self.stored, again_after_s=delay_s)
