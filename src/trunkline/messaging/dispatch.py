"""Dispatch: takes originals from the log, fences them, and has attempts made at the true ones.

One message at a time, many at once: each in a task of its own, within the carrier's window.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, assert_never

import structlog
from msgspec.structs import replace

from trunkline.domain.events import MessageCreated, Type
from trunkline.domain.message import Message
from trunkline.kernel import Deadline
from trunkline.kernel.crash import CrashHere, CrashPoint, never_crash
from trunkline.log.append import is_late
from trunkline.log.author import Author
from trunkline.log.event import Event, decode_all
from trunkline.log.fence import Verdict, earlier_shards, rule
from trunkline.log.gather import GATHERED_MAX
from trunkline.log.interface import Consumer, Delivery, Log
from trunkline.log.ledgers import Chains
from trunkline.log.limits import WORK_MAX_S
from trunkline.log.reading import FETCH_WAIT_S, fetch_shared, open_consumer
from trunkline.log.share import WHOLE, Share
from trunkline.messaging.attempt import POISON_RETRY_S, Attempts
from trunkline.messaging.batch import Batch
from trunkline.messaging.carrier import Carrier
from trunkline.messaging.key_conflict import note_conflict
from trunkline.messaging.lease import Leases
from trunkline.messaging.parcel import Parcel
from trunkline.messaging.record import EventRecorder
from trunkline.messaging.schedule import HoldsBack, hold_nothing_back
from trunkline.messaging.second_look import SecondLooks
from trunkline.messaging.unwanted import IsActive
from trunkline.messaging.wanted import by_dispatch
from trunkline.messaging.window import Window
from trunkline.messaging.work import (
    Counters,
    HasOptedOut,
    OnAmbiguous,
    OwnsSender,
    Work,
    everybody_does,
    nobody_has,
)

log: Final = structlog.get_logger(__name__)

FETCH_MAX: Final = 64

IN_HAND_MAX: Final = 8 * GATHERED_MAX
"""Messages of one shard that are in hand here at once; beyond them they wait at the engine. Those
that were accepted in the same moment stand in the same shard, so this is most of what is in hand."""

TOGETHER_MIN: Final = 2
"""From so many messages on, those of a register are sent as a batch."""

UNSETTLED_RETRY_S: Final = 2.0

FENCE_MAX_S: Final = 1.0
"""How long one message may wait for an earlier shard that does not answer, with room in hand."""


class LeaseLost(Exception):
    """This process may not act any more; a new one, with a lease of its own, may."""


class Dispatcher:
    """The service `dispatch`. Any number may run, in any process of any host."""

    name = "dispatch"

    def __init__(  # noqa: PLR0913 - each is a part that the composition root names
        self,
        *,
        log: Log,
        chains: Chains,
        carrier: Carrier,
        on_ambiguous: OnAmbiguous,
        leases: Leases,
        recorder: EventRecorder,
        find: Callable[[str], Message | None],
        counters: Counters,
        author: Author,
        crash_here: CrashHere = never_crash,
        together_min: int = TOGETHER_MIN,
        hold_back: HoldsBack = hold_nothing_back,
        share: Share = WHOLE,
        is_active: IsActive = lambda _: True,
        has_opted_out: HasOptedOut = nobody_has,
        owns_sender: OwnsSender = everybody_does,
    ) -> None:
        self._log = log
        self._share = share
        self._chains = chains
        self._carrier = carrier
        self._leases = leases
        self._recorder = recorder
        self._counters = counters
        self._crash_here = crash_here
        self._clock = author.clock
        self._window = Window(carrier.window)
        self._together_min = together_min
        self._hold_back = hold_back
        self._attempts = Attempts(
            chains=chains,
            carrier=carrier,
            on_ambiguous=on_ambiguous,
            leases=leases,
            recorder=recorder,
            find=find,
            counters=counters,
            author=author,
            crash_here=crash_here,
            look_again=self._want_second_look,
            is_active=is_active,
            has_opted_out=has_opted_out,
            owns_sender=owns_sender,
        )
        self._second_looks = SecondLooks(
            self._look_again, lambda: self._attempts.is_lease_lost, author.clock
        )
        self._draining = False

    async def run(self) -> None:
        """Until drained. When cancelled, what is under way is settled by whoever gets it next."""
        consumers: list[Consumer] = []
        async with asyncio.TaskGroup() as supports:
            writing = supports.create_task(self._chains.run())
            async with asyncio.TaskGroup() as tasks:
                self._second_looks.tasks = tasks
                for shard in range(self._log.shards):
                    tasks.create_task(self._serve(shard, tasks, consumers))
            writing.cancel()
        for consumer in consumers:
            await consumer.close()
        if self._attempts.is_lease_lost:
            raise LeaseLost(f"the lease {self._leases.own} is not ours any more")

    def drain(self) -> None:
        """Take nothing new; `run` returns when what is under way is settled, and it is known of each
        claim that may have been written whether it stands."""
        self._draining = True
        self._second_looks.hurry()

    @property
    def _is_ending(self) -> bool:
        return self._draining or self._attempts.is_lease_lost

    def _want_second_look(self, work: Work, after_s: float) -> None:
        self._second_looks.want(work, after_s)

    async def _serve(self, shard: int, tasks: asyncio.TaskGroup, consumers: list[Consumer]) -> None:
        filters = by_dispatch(shard)
        consumer = await open_consumer(self._log, shard, self.name, filters, clock=self._clock)
        consumers.append(consumer)
        room = asyncio.Semaphore(IN_HAND_MAX)
        while not self._is_ending:
            down_for_s = self._carrier.ready_in_s()
            if down_for_s > 0.0:
                await self._clock.sleep(min(down_for_s, FETCH_WAIT_S))
                continue
            taken = await fetch_shared(consumer, self._share, shard, FETCH_MAX, FETCH_WAIT_S)
            await self._start(taken, tasks, room)

    async def _start(
        self, deliveries: Sequence[Delivery], tasks: asyncio.TaskGroup, room: asyncio.Semaphore
    ) -> None:
        """Begin with what came, as the room allows: together with what needs no fence, and each in
        a task of its own where an earlier shard has to be asked, which may be silent."""
        together: list[Sequence[Work]] = []
        for delivery in deliveries:
            works = await self._open(delivery)
            for _ in works:
                if room.locked() and together:
                    tasks.create_task(self._handle(together, room))
                    together = []
                await room.acquire()
            if not works:
                continue
            if earlier_shards(works[0].event, self._log.shards):
                tasks.create_task(self._handle([works], room))
            else:
                together.append(works)
        if together:
            tasks.create_task(self._handle(together, room))

    async def _open(self, delivery: Delivery) -> list[Work]:
        """The messages of a delivery; one that is about none is answered."""
        try:
            events = decode_all(delivery.stored.payload)
            if events[0].type is not Type.ORIGINAL:
                await delivery.ack()
                return []
            return _works(delivery, events, Deadline.after(WORK_MAX_S, self._clock))
        except Exception:
            # One poisonous message must not stop the others; it stays un-acked and visible.
            log.exception("dispatch.failed", subject=delivery.stored.subject)
            await delivery.nak(POISON_RETRY_S)
            return []

    async def take(self, delivery: Delivery) -> None:
        """Handle a delivery of an original that came by another road, and answer it."""
        works = await self._open(delivery)
        if works:
            await self._handle([works], asyncio.Semaphore(0))

    async def _handle(self, registers: Sequence[Sequence[Work]], room: asyncio.Semaphore) -> None:
        """Fence what stands in each register, and send its messages; the room of each is given back
        when it is done."""
        ready: list[Work] = []
        for works in registers:
            mine = await self._true_and_due(works)
            ready.extend(mine)
            for _ in range(len(works) - len(mine)):
                room.release()
        left = len(ready)

        def done() -> None:
            nonlocal left
            left -= 1
            room.release()

        try:
            await self._send_all(ready, done)
        except Exception:
            # As below.
            log.exception("dispatch.failed", subject=ready[0].delivery.stored.subject)
            for work in ready:
                await work.delivery.nak(POISON_RETRY_S)
        finally:
            for _ in range(left):
                room.release()

    async def _true_and_due(self, works: Sequence[Work]) -> Sequence[Work]:
        """Those of one register that may be sent now; the others are answered."""
        try:
            if not await self._may_send(works[0]):
                return []
            due = await self._hold_back(works)
            if len(due) < self._together_min:
                return due
            parcel = Parcel(due[0].delivery, len(due))
            return [replace(work, delivery=parcel.share()) for work in due]
        except Exception:
            # One poisonous message must not stop the others; it stays un-acked and visible.
            log.exception("dispatch.failed", subject=works[0].delivery.stored.subject)
            await works[0].delivery.nak(POISON_RETRY_S)
            return []

    async def _may_send(self, work: Work) -> bool:
        """Whether it is the true copy; if not, or if that cannot be said, it is answered. What
        stands in the same register shares its fate."""
        delivery, stored = work.delivery, work.delivery.stored
        if is_late(work.event, stored.at):
            self._counters.held.inc()
            log.error("dispatch.held_late", sid=work.event.sid)
            await delivery.ack()
            return False
        # While a shard elects, what is fenced behind it goes back and waits outside: the room in
        # hand is for messages that can move.
        self._crash_here(CrashPoint.FENCE_BEFORE)
        fenced_by = Deadline.after(FENCE_MAX_S, self._clock)
        ruling = await rule(self._log, work.event, stored, clock=self._clock, deadline=fenced_by)
        match ruling.verdict:
            case Verdict.TRUE:
                return True
            case Verdict.DUPLICATE:
                if await note_conflict(
                    self._recorder, work.event, ruling.original, shard=stored.shard
                ):
                    log.info("dispatch.duplicate_dropped", sid=work.event.sid, shard=stored.shard)
                    await delivery.ack()
                else:
                    await delivery.nak(UNSETTLED_RETRY_S)
            case Verdict.UNSETTLED:
                await delivery.nak(UNSETTLED_RETRY_S)
            case other:
                assert_never(other)
        return False

    async def _send_all(self, works: Sequence[Work], done: Callable[[], None]) -> None:
        """`done` is called once for each that is sent, answered or let go of."""
        if len(works) < self._together_min:
            for work in works:
                await self._send(work)
                done()
            return

        def end() -> None:
            self._window.give_back()
            done()

        rest = works
        async with asyncio.TaskGroup() as tasks:
            while rest:
                count = await self._window.take(len(rest))
                now, rest = rest[:count], rest[count:]
                again_after_s = self._pause_s()
                if again_after_s is None:
                    batch = Batch(self._attempts, now, tasks=tasks, on_done=end)
                    tasks.create_task(batch.run())
                    continue
                for work in now:
                    end()
                    await work.delivery.nak(again_after_s)

    async def _send(self, work: Work) -> None:
        await self._window.take()
        try:
            again_after_s = self._pause_s()
            if again_after_s is None:
                await self._attempts.make(work)
            else:
                await work.delivery.nak(again_after_s)
        finally:
            self._window.give_back()

    async def _look_again(self, work: Work) -> None:
        """As `_send`, and while draining too: what may stand under a claim of this process is known
        to this process alone, and is ambiguous once it has ended."""
        await self._window.take()
        try:
            if self._attempts.may_act() and self._carrier.ready_in_s() <= 0.0:
                await self._attempts.make(work)
        finally:
            self._window.give_back()

    def _pause_s(self) -> float | None:
        """In how many seconds to come again, if nothing can be sent now."""
        if self._is_ending or not self._attempts.may_act():
            return 0.0
        down_for_s = self._carrier.ready_in_s()
        return down_for_s if down_for_s > 0.0 else None


def _works(delivery: Delivery, events: Sequence[Event], deadline: Deadline) -> list[Work]:
    works = []
    for event in events:
        body = event.body()
        if not isinstance(body, MessageCreated):
            raise TypeError(f"{event.sid} is not an outbound message")
        works.append(Work(delivery, event, body, deadline))
    return works
