"""What is not to be sent yet: put off durably, answered to the log, and handed back once it is due.

A timer carries the whole original and where it stood, as the log may have trimmed it when it is
due. A timer decides nothing: the claim that follows does, which knows the message's chain, from the
log or from the host's copy. So where the log is trimmed, the copy must show the message.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import msgspec
import structlog
from msgspec.structs import replace

from trunkline.domain.events import Kind
from trunkline.domain.message import Message
from trunkline.domain.ports import Counter
from trunkline.kernel import Clock, Deadline
from trunkline.kernel.crash import CrashHere, CrashPoint, never_crash
from trunkline.log.event import Event, encode
from trunkline.log.interface import Consumer, Delivery, Log, LogUnavailable, Stored, Unreadable
from trunkline.log.limits import TRY_TIMEOUT_S
from trunkline.log.reading import FETCH_WAIT_S, OPEN_AGAIN_S, fetch_shared
from trunkline.log.share import WHOLE, Share
from trunkline.log.timers import TimerSet, set_timer
from trunkline.messaging.parcel import Parcel
from trunkline.messaging.work import Work

log: Final = structlog.get_logger(__name__)

SERVICE: Final = "schedule"

NEAR_S: Final = 10.0
"""What is due within this time is put back to the engine for so long, and no timer is written."""

SET_MAX_S: Final = 5.0
"""How long a timer may take to be known as set, with a delivery in hand."""

UNSURE_RETRY_S: Final = 2.0
COPY_RETRY_S: Final = 2.0
POISON_RETRY_S: Final = 30.0

DUE_FETCH_MAX: Final = 16
"""Due messages of one timer shard that may be in hand here at once."""


class PutOff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a timer carries: an original, alone even where it shares a register, and where and when
    it was stored. Fields are only ever appended, with defaults."""

    shard: int
    subject: str
    sequence: int
    stored_at: float
    original: msgspec.Raw


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(PutOff)


@dataclass(frozen=True, slots=True)
class Counters:
    """What an operator watches."""

    put_off: Counter
    due: Counter


class DueOriginal:
    """A due timer as a delivery of its original; the answer is the timer's. Implements `Delivery`."""

    __slots__ = ("_timer", "stored")

    def __init__(self, timer: Delivery, stored: Stored) -> None:
        self.stored = stored
        self._timer = timer

    async def ack(self) -> None:
        await self._timer.ack()

    async def nak(self, delay_s: float) -> None:
        await self._timer.nak(delay_s)


class Schedule:
    """Puts messages off. Only true copies may be: a timer must not bring back a duplicate."""

    def __init__(
        self,
        log: Log,
        *,
        clock: Clock,
        counters: Counters,
        crash_here: CrashHere = never_crash,
    ) -> None:
        self._log = log
        self._clock = clock
        self._counters = counters
        self._crash_here = crash_here

    async def hold_back(self, works: Sequence[Work]) -> Sequence[Work]:
        """Those of one register that may leave now; the others are put off."""
        now = self._clock.wall()
        early = [work for work in works if _send_at(work) > now]
        if not early:
            return works
        ready = [work for work in works if _send_at(work) <= now]
        parcel = Parcel(works[0].delivery, len(early) + bool(ready))
        async with asyncio.TaskGroup() as tasks:
            for work in early:
                tasks.create_task(self.put_off(parcel.share(), work.event, until=_send_at(work)))
        rest = parcel.share()
        return [replace(work, delivery=rest) for work in ready]

    async def put_off(self, delivery: Delivery, event: Event, *, until: float) -> None:
        """Have the message handed back at `until`, and answer its delivery: with success when the
        timer surely stands, else with a wish to have it again."""
        wait_s = until - self._clock.wall()
        if wait_s <= NEAR_S:
            await delivery.nak(max(0.0, wait_s))
            return
        stored = delivery.stored
        payload = PutOff(
            shard=stored.shard,
            subject=stored.subject,
            sequence=stored.sequence,
            stored_at=stored.at,
            original=msgspec.Raw(encode(event)),
        )
        answer = await set_timer(
            self._log.timers,
            timer_name(event.kind, event.sid),
            until,
            _ENCODER.encode(payload),
            clock=self._clock,
            deadline=Deadline.after(SET_MAX_S, self._clock),
        )
        if isinstance(answer, TimerSet):
            self._counters.put_off.inc()
            log.debug("schedule.put_off", sid=event.sid, until=until)
            self._crash_here(CrashPoint.TIMER_BEFORE_ACK)
            await delivery.ack()
        else:
            log.warning("schedule.unsure", sid=event.sid, reason=answer.reason)
            await delivery.nak(UNSURE_RETRY_S)


HoldsBack: TypeAlias = Callable[[Sequence[Work]], Awaitable[Sequence[Work]]]
"""What a dispatcher asks before it claims, such as `Schedule.hold_back`."""


def one_after_another(first: HoldsBack, second: HoldsBack) -> HoldsBack:
    """Those that both let go on; the second is asked about what the first lets go on."""

    async def both(works: Sequence[Work]) -> Sequence[Work]:
        due = await first(works)
        return await second(due) if due else due

    return both


async def hold_nothing_back(works: Sequence[Work]) -> Sequence[Work]:
    """For a dispatcher without a schedule."""
    return works


class Takes(Protocol):
    """Whoever takes deliveries of originals, and answers each."""

    def __call__(self, delivery: Delivery, /) -> Awaitable[None]: ...


class DueMessages:
    """Hands back what is due. Any number may run, in any process that has a dispatcher. `share` is
    of the timers' shards."""

    name = SERVICE

    def __init__(
        self,
        log: Log,
        *,
        take: Takes,
        find: Callable[[str], Message | None],
        clock: Clock,
        counters: Counters,
        crash_here: CrashHere = never_crash,
        share: Share = WHOLE,
    ) -> None:
        self._log = log
        self._share = share
        self._crash_here = crash_here
        self._take = take
        self._find = find
        self._clock = clock
        self._counters = counters
        self._draining = False

    async def run(self) -> None:
        """Until drained. When cancelled, what is in hand is handed to whoever asks next."""
        consumers: list[Consumer] = []
        async with asyncio.TaskGroup() as tasks:
            for shard in range(self._log.timers.shards):
                tasks.create_task(self._serve(shard, tasks, consumers))
        for consumer in consumers:
            await consumer.close()

    def drain(self) -> None:
        """Take nothing new; `run` returns when what is in hand is answered."""
        self._draining = True

    async def _serve(self, shard: int, tasks: asyncio.TaskGroup, consumers: list[Consumer]) -> None:
        consumer = await self._open(shard)
        if consumer is None:
            return
        consumers.append(consumer)
        room = asyncio.Semaphore(DUE_FETCH_MAX)
        while not self._draining:
            try:
                taken = await fetch_shared(
                    consumer, self._share, shard, DUE_FETCH_MAX, FETCH_WAIT_S
                )
            except LogUnavailable as error:
                log.info("log.waiting", service=self.name, shard=shard, reason=str(error))
                await self._clock.sleep(OPEN_AGAIN_S)
                continue
            for timer in taken:
                await room.acquire()
                tasks.create_task(self._hand_back(timer, room))

    async def _open(self, shard: int) -> Consumer | None:
        while not self._draining:
            try:
                return await self._log.timers.due(shard, self.name)
            except LogUnavailable as error:
                log.info("log.waiting", service=self.name, shard=shard, reason=str(error))
                await self._clock.sleep(OPEN_AGAIN_S)
        return None

    async def _hand_back(self, timer: Delivery, room: asyncio.Semaphore) -> None:
        try:
            put_off = _DECODER.decode(timer.stored.payload)
            original = await self._original(timer, put_off)
            if original is not None:
                self._counters.due.inc()
                self._crash_here(CrashPoint.DUE_BEFORE_HANDING_BACK)
                await self._take(original)
        except Exception:
            # One poisonous timer must not stop the others; it stays, and stays visible.
            log.exception("schedule.failed", subject=timer.stored.subject)
            await timer.nak(POISON_RETRY_S)
        finally:
            room.release()

    async def _original(self, timer: Delivery, put_off: PutOff) -> DueOriginal | None:
        """The original as it may be acted upon now; None when the timer is answered already."""
        stored = Stored(
            put_off.shard,
            put_off.subject,
            put_off.sequence,
            put_off.stored_at,
            bytes(put_off.original),
        )
        standing = await self._log.read_first(
            put_off.shard, put_off.subject, timeout_s=TRY_TIMEOUT_S
        )
        if isinstance(standing, Unreadable):
            await timer.nak(UNSURE_RETRY_S)
            return None
        if standing is None and not self._is_known(put_off):
            # Trimmed, perhaps with records of its chain, and this copy is not the one that had to
            # show them before: it is being made, and does not know what this one has been through.
            log.info("schedule.waits_for_copy", subject=put_off.subject)
            await timer.nak(COPY_RETRY_S)
            return None
        return DueOriginal(timer, stored)

    def _is_known(self, put_off: PutOff) -> bool:
        message = self._find(msgspec.json.decode(put_off.original, type=_Named).sid)
        return message is not None and message.is_known


class _Named(msgspec.Struct):
    sid: str


def _send_at(work: Work) -> float:
    return work.message.send_at or 0.0


def timer_name(kind: Kind, sid: str) -> str:
    """One timer a message: what is put off again moves it."""
    return f"{kind}-{sid}"
