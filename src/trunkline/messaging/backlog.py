"""What could not be told at once: tried again, receiver by receiver, from the host's copy.

The copy of every host shows what is still to be told of each message (`replica/callback_tables`), so
nothing is held in the log or in memory while a receiver is away, and whoever takes a shard over finds
what waits. Each message is its home shard's, and so one host's.

A receiver that fails is asked for one message at a time, after longer and longer pauses, however many
wait for it; each time it is another one's turn. Once it answers, the others follow at its pace. One
message that is refused, while others are taken, rests for longer and longer on its own
(`webhooks/deliver`).
"""

import asyncio
import random
import sqlite3
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from trunkline.domain.sid import digits_of
from trunkline.kernel import Clock
from trunkline.log.shards import home
from trunkline.log.share import Share
from trunkline.replica.callback_tables import FIRST, Waiting
from trunkline.replica.queries import Replica
from trunkline.webhooks.deliver import CallbackDeliverer, Later, Notified
from trunkline.webhooks.fair import FairRoom
from trunkline.webhooks.receiver_state import ReceiverState
from trunkline.webhooks.receivers import Receiver

TICK_S: Final = 0.1
IDLE_TICK_S: Final = 0.5
"""While nobody's turn comes sooner: also how late the first try again may be."""

LOOK_EVERY_S: Final = 5.0
"""How soon somebody is found for whom something waits since before this process, or since another's."""

PAUSE_BASE_S: Final = 0.5
PAUSE_MOST_S: Final = 30.0
"""Between two tries at a receiver that is down."""

QUEUES_MAX: Final = 4096
"""Receivers that are served in turn; the others come as soon as these are done with, or after a look."""

PAGE_ROWS: Final = 64
TOGETHER_MAX: Final = 128
"""Messages in hand here at once, so that what is new finds hands, too."""

WELL_TOGETHER_MAX: Final = 32
SLOW_TOGETHER_MAX: Final = 4
ROW_REST_S: Final = 0.0005
"""A walk through all that waits for a receiver, without anything to do, is followed by so much rest for
each row: some five hundred times what the row costs."""

STALE_COPY_MS: Final = 30_000.0
"""A copy further behind may show as untold what was told long ago."""

FAILED_REST_S: Final = 30.0
SHOWN_AFTER_S: Final = 2.0
"""What is done is not looked at again for so long: by then the copy shows it."""

RESTING_MAX: Final = 4096
LINES_MAX: Final = 50
"""Receivers of whom a process tells in its status."""

log: Final = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Queue:
    """What waits for one receiver: served on behind `place`, not before `next_at`."""

    name: str
    next_at: float
    place: Waiting = FIRST
    oldest_at: float = float("inf")
    under_way: int = 0
    walked: int = 0
    """Rows since the walk began, and whether one of them was taken; else, when the first is due."""
    has_taken: bool = False
    due_in_s: float = LOOK_EVERY_S

    @property
    def account(self) -> str:
        return self.name.partition(" ")[0]


@dataclass(slots=True)
class Backlog:
    """Runs beside whoever is told of what is new. `tell` tries one message."""

    replica: Replica
    deliverer: CallbackDeliverer
    tell: Callable[[str], Awaitable[Notified]]
    shards: int
    share: Share
    clock: Clock
    rng: random.Random
    _queues: OrderedDict[str, _Queue] = field(default_factory=OrderedDict)
    _sids: set[str] = field(default_factory=set)
    _room: FairRoom = field(default_factory=lambda: FairRoom(TOGETHER_MAX))
    """By account: a thousand receivers of one that hang leave the others their turns."""
    _resting: OrderedDict[str, float] = field(default_factory=OrderedDict)
    """Messages that are left alone, and until when."""
    _look_at: float = float("-inf")
    _looked_up_to: str = ""
    _draining: bool = False

    def drain(self) -> None:
        """Take nothing more up; `run` returns when what is in hand is done."""
        self._draining = True

    def is_down(self, receiver: str) -> bool:
        """Whether it is left to this one to find out when `receiver` is back."""
        known = self.deliverer.receivers.named(receiver)
        return known is not None and known.is_down

    def note(self, receiver: str, later: Later) -> None:
        """Something waits for `receiver` from now on, or still."""
        known = self.deliverer.receivers.named(receiver)
        wait_s = later.after_s
        if known is not None and known.failures:
            wait_s = max(wait_s, _pause_most_s(known.failures))
        at = self.clock.monotonic() + wait_s
        queue = self._queues.get(receiver)
        if queue is None:
            self._add(receiver, at)
        else:
            queue.next_at = min(queue.next_at, at)

    async def run(self) -> None:
        """Until drained."""
        async with asyncio.TaskGroup() as tasks:
            while not self._draining:
                try:
                    self._look()
                    self._take_turns(tasks)
                except sqlite3.Error as error:
                    log.warning("callbacks.backlog_unread", error=str(error))
                    await self.clock.sleep(LOOK_EVERY_S)
                await self.clock.sleep(self._tick_s())

    def oldest_s(self) -> float:
        """For how long the oldest step waits that this host's copy shows; 0 where none does."""
        oldest_at = min((queue.oldest_at for queue in self._queues.values()), default=float("inf"))
        return 0.0 if oldest_at == float("inf") else max(0.0, self.clock.wall() - oldest_at)

    def states(self) -> Sequence[ReceiverState]:
        """Those that are down, the longest first."""
        now = self.clock.monotonic()
        found = []
        for queue in self._queues.values():
            known = self.deliverer.receivers.named(queue.name)
            if known is not None and known.down_since is not None:
                state = ReceiverState(
                    queue.name, known.failures, round(now - known.down_since, 1), known.last_error,
                    round(max(0.0, queue.next_at - now), 1),
                )  # fmt: skip
                found.append(state)
        return sorted(found, key=lambda state: -state.down_for_s)[:LINES_MAX]

    def _tick_s(self) -> float:
        now = self.clock.monotonic()
        next_at = min((queue.next_at for queue in self._queues.values()), default=now + IDLE_TICK_S)
        return min(IDLE_TICK_S, max(TICK_S, next_at - now))

    def _look(self) -> None:
        """Find out for whom something waits."""
        now = self.clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        names = self.replica.receivers_waited_for(behind=self._looked_up_to, items_max=QUEUES_MAX)
        self._looked_up_to = names[-1] if len(names) == QUEUES_MAX else ""
        for name in names:
            if name not in self._queues:
                self._add(name, now)

    def _add(self, name: str, next_at: float) -> None:
        if len(self._queues) < QUEUES_MAX:  # else a look finds it once there is room
            self._queues[name] = _Queue(name, next_at)

    def _take_turns(self, tasks: asyncio.TaskGroup) -> None:
        now = self.clock.monotonic()
        due = [queue for queue in self._queues.values() if queue.next_at <= now]
        if not due:
            return
        served = frozenset(
            shard
            for shard in range(self.shards)
            if self.share.has(shard) and self.replica.lag_ms_of(shard) <= STALE_COPY_MS
        )
        for queue in due:
            if not self._room.has_place(queue.account):
                continue
            self._queues.move_to_end(queue.name)
            if not self._give_up_what_is_over(queue, served, tasks):
                self._serve(queue, served, tasks)

    def _give_up_what_is_over(
        self, queue: _Queue, served: frozenset[int], tasks: asyncio.TaskGroup
    ) -> bool:
        """Of a receiver that is down. It costs no try, and is not put off with the tries."""
        known = self.deliverer.receivers.named(queue.name)
        if known is None or not known.failures:
            return False
        has_found = False
        for since, sid in self._rows(queue.name, FIRST):
            if not self.deliverer.is_over(since) or not self._room.has_place(queue.account):
                break
            if self._may_take(sid, served):
                has_found = True
                self._take(queue, sid, tasks)
        return has_found

    def _serve(self, queue: _Queue, served: frozenset[int], tasks: asyncio.TaskGroup) -> None:
        room = _together(self.deliverer.receivers.named(queue.name)) - queue.under_way
        if room <= 0:
            return
        rows = self._rows(queue.name, queue.place)
        if queue.place == FIRST and rows:
            queue.oldest_at = rows[0][0]
        for row in rows:
            if room <= 0 or not self._room.has_place(queue.account):
                return
            queue.place = row
            queue.walked += 1
            if not self._may_take(row[1], served):
                continue
            wait_s = self.deliverer.due_in_s(row[1], queue.name)
            if wait_s > 0.0 and not self.deliverer.is_over(row[0]):
                queue.due_in_s = min(queue.due_in_s, wait_s)
                continue
            room -= 1
            queue.has_taken = True
            self._take(queue, row[1], tasks)
        if len(rows) < PAGE_ROWS:
            self._begin_again(queue)

    def _begin_again(self, queue: _Queue) -> None:
        """All that waits was looked at."""
        if not queue.walked and not queue.under_way:
            del self._queues[queue.name]
            return
        if not queue.has_taken:
            rest_s = max(queue.due_in_s, queue.walked * ROW_REST_S)
            queue.next_at = self.clock.monotonic() + rest_s
        queue.place, queue.walked = FIRST, 0
        queue.has_taken, queue.due_in_s = False, LOOK_EVERY_S

    def _rows(self, receiver: str, behind: Waiting) -> list[Waiting]:
        return self.replica.waiting_for(receiver, behind=behind, items_max=PAGE_ROWS)

    def _may_take(self, sid: str, served: frozenset[int]) -> bool:
        if sid in self._sids or home(digits_of(sid), self.shards) not in served:
            return False
        return self._resting.get(sid, 0.0) <= self.clock.monotonic()

    def _take(self, queue: _Queue, sid: str, tasks: asyncio.TaskGroup) -> None:
        queue.under_way += 1
        self._room.take(queue.account)
        self._sids.add(sid)
        tasks.create_task(self._try(queue, sid))

    async def _try(self, queue: _Queue, sid: str) -> None:
        try:
            came = await self.tell(sid)
            if isinstance(came, Later):
                pause_s = self._pause_s(queue, came)
                queue.next_at = max(queue.next_at, self.clock.monotonic() + pause_s)
            else:
                self._rest(sid, SHOWN_AFTER_S)
        except Exception:
            # The edge that decides: a bug, or a record that cannot be read, stops one message only.
            log.exception("callbacks.backlog_failed", sid=sid)
            self._rest(sid, FAILED_REST_S)
        finally:
            queue.under_way -= 1
            self._room.give_back(queue.account)
            self._sids.discard(sid)

    def _rest(self, sid: str, seconds: float) -> None:
        self._resting[sid] = self.clock.monotonic() + seconds
        self._resting.move_to_end(sid)
        if len(self._resting) > RESTING_MAX:
            self._resting.popitem(last=False)

    def _pause_s(self, queue: _Queue, later: Later) -> float:
        """Until the receiver is asked again."""
        known = self.deliverer.receivers.named(queue.name)
        if not later.was_asked or known is None or not known.failures:
            return min(later.after_s, PAUSE_MOST_S)
        # Not less than half of it: many hosts' tries need no spreading, as there is one a receiver.
        return _pause_most_s(known.failures) * self.rng.uniform(0.5, 1.0)


def _together(receiver: Receiver | None) -> int:
    """How many messages may be in hand for it."""
    if receiver is None or (receiver.is_well and not receiver.failures):
        return WELL_TOGETHER_MAX
    return 1 if receiver.failures else SLOW_TOGETHER_MAX


def _pause_most_s(failures: int) -> float:
    return min(PAUSE_MOST_S, PAUSE_BASE_S * 2.0 ** min(failures - 1, 32))
