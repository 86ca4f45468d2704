"""A service's reader of one shard, where several hosts share the shards among them.

No server knows of it: it follows the shard from where the service is known to be, keeps account of
what is in hand, and tells `positions` what is done. Which host reads is decided elsewhere; one that
does not read rests, and forgets what it had in hand. Two that read at once both get everything, and
are told apart by what they then write.
"""

import asyncio
import functools
import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from trunkline.kernel import Clock, Deadline
from trunkline.log.engines.jetstream.positions import Key, Position, Positions
from trunkline.log.engines.jetstream.tail import Tail, TailFollower
from trunkline.log.interface import LogUnavailable, ReadAnswer, Stored, Unreadable
from trunkline.log.limits import WORK_MAX_S

log: Final = structlog.get_logger(__name__)

OPEN_MAX: Final = 20_000
"""What may be in hand or put back at once; a thousand messages a second, for twenty seconds."""

AGAIN_S: Final = 0.2
"""Between two tries where the shard cannot be asked."""


class ShardLook(Protocol):
    """What a reader asks of its shard, apart from following it."""

    @property
    def shard(self) -> int: ...

    async def read_at(self, sequence: int) -> ReadAnswer:
        """What the shard holds at a sequence."""

    async def done_up_to(self) -> int | Unreadable:
        """See `log/trimmed`."""


class SharedDelivery:
    """One message in hand. `since` is when it was given out, by the clock that counts suspension."""

    __slots__ = ("_reader", "since", "stored")

    def __init__(self, reader: "SharedReader", stored: Stored, since: float) -> None:
        self.stored = stored
        self.since = since
        self._reader = reader

    async def ack(self) -> None:
        self._reader.done(self)

    async def nak(self, delay_s: float) -> None:
        self._reader.put_back(self, delay_s)


class SharedReader:
    """Implements `Consumer`."""

    def __init__(
        self, key: Key, tail: Tail, positions: Positions, look: ShardLook, clock: Clock
    ) -> None:
        self.is_closed = False
        self._key = key
        self._wants = wants(key.filters)
        self._tail = tail
        self._positions = positions
        self._look = look
        self._clock = clock
        self._follower: TailFollower | None = None
        self._stop_telling: Callable[[], None] = _nothing
        self._in_hand: dict[int, SharedDelivery] = {}
        """By sequence, the oldest first."""
        self._back: list[tuple[float, int, Stored]] = []
        """What was put back: when it is due, and in which order."""
        self._order = itertools.count()
        self._answered = asyncio.Event()

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[SharedDelivery]:
        try:
            return await self._fetch(items_max, Deadline.after(wait_s, self._clock))
        except LogUnavailable as error:
            # A service must not end because a shard is away.
            log.info(
                "log.waiting",
                service=self._key.service,
                shard=self._look.shard,
                reason=str(error),
            )
            await self._clock.sleep(min(wait_s, AGAIN_S))
            return []

    async def rest(self) -> None:
        """What is in hand is whoever reads next's."""
        if self._follower is None:
            return
        self._stop_telling()  # while it is still known what is open
        follower, self._follower = self._follower, None
        self._in_hand.clear()
        self._back.clear()
        await follower.close()

    async def redeliver(self) -> bool:
        # Whoever begins to read is given all that is not known to be done.
        return True

    async def close(self) -> None:
        self.is_closed = True
        await self.rest()

    def done(self, delivery: SharedDelivery) -> None:
        self._in_hand.pop(delivery.stored.sequence, None)
        self._answered.set()

    def put_back(self, delivery: SharedDelivery, delay_s: float) -> None:
        if self._in_hand.pop(delivery.stored.sequence, None) is not None:
            self._offer(delivery.stored, self._clock.monotonic() + delay_s)
        self._answered.set()

    def _position(self, follower: TailFollower) -> Position:
        still_open = [*self._in_hand, *(each.sequence for _, _, each in self._back)]
        return Position.of(follower.sequence, still_open)

    async def _fetch(self, items_max: int, deadline: Deadline) -> Sequence[SharedDelivery]:
        follower = self._follower or await self._begin()
        while True:
            given = self._again(items_max)
            room = min(items_max, OPEN_MAX - len(self._in_hand) - len(self._back))
            if given or deadline.has_passed():
                return given
            wait_s = min(deadline.remaining_s(), self._due_in_s())
            if room <= 0:
                await self._until_answered(wait_s)
                continue
            since = self._clock.monotonic()
            for stored in await follower.fetch(room, wait_s):
                if self._wants(stored.subject):
                    given.append(self._give(stored, since))
            if given:
                return given

    async def _begin(self) -> TailFollower:
        """From where the service is known to be; what is open up to there comes first."""
        position = await self._positions.best(self._key)
        if not self._positions.is_fresh(self._key):
            position = await self._after_what_is_trimmed(position)
        opened: list[Stored] = []
        for sequence in position.open:
            found = await self._look.read_at(sequence)
            if isinstance(found, Unreadable):
                raise LogUnavailable(found.reason)
            if found is not None:
                opened.append(found)
        for stored in opened:
            self._offer(stored, self._clock.monotonic())
        follower = self._follower = TailFollower(self._tail, position.upto)
        self._stop_telling = self._positions.reading(
            self._key, functools.partial(self._position, follower)
        )
        return follower

    async def _after_what_is_trimmed(self, position: Position) -> Position:
        """Not behind it, however little is known."""
        done = await self._look.done_up_to()
        if isinstance(done, Unreadable):
            raise LogUnavailable(done.reason)
        return Position(
            max(done, position.upto), tuple(each for each in position.open if each > done)
        )

    def _give(self, stored: Stored, now: float) -> SharedDelivery:
        delivery = SharedDelivery(self, stored, now)
        self._in_hand[stored.sequence] = delivery
        return delivery

    def _offer(self, stored: Stored, due_at: float) -> None:
        heapq.heappush(self._back, (due_at, next(self._order), stored))

    def _again(self, items_max: int) -> list[SharedDelivery]:
        """What is due again, and what was in hand for longer than work may take."""
        now = self._clock.monotonic()
        while self._in_hand:
            oldest = next(iter(self._in_hand.values()))
            if now - oldest.since < WORK_MAX_S:
                break
            del self._in_hand[oldest.stored.sequence]
            self._offer(oldest.stored, now)
        given: list[SharedDelivery] = []
        while self._back and self._back[0][0] <= now and len(given) < items_max:
            given.append(self._give(heapq.heappop(self._back)[2], now))
        return given

    def _due_in_s(self) -> float:
        if not self._back:
            return WORK_MAX_S
        return max(0.0, self._back[0][0] - self._clock.monotonic())

    async def _until_answered(self, wait_s: float) -> None:
        self._answered.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._answered.wait()
        except TimeoutError:
            return


def wants(filters: Sequence[str]) -> Callable[[str], bool]:
    """Whether a subject is one of those that `filters` name: whole, or all that begin with what
    stands before a final `>`. Raises `ValueError` for other wildcards."""
    if any("*" in each or ">" in each[:-1] for each in filters):
        raise ValueError(f"filters end in >, or name one subject: {', '.join(filters)}")
    beginnings = tuple(each[:-1] for each in filters if each.endswith(">"))
    names = frozenset(each for each in filters if not each.endswith(">"))
    return lambda subject: subject.startswith(beginnings) or subject in names


def _nothing() -> None:
    """Nobody was told."""
