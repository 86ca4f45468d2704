"""Cancelling a message that is scheduled: a link of its chain, written as a claim is.

Of a cancel and a claim, one stands behind the original and the other finds it there. So a message is
never both cancelled and sent, whichever host has it in hand, and however late its timer comes.
"""

from dataclasses import dataclass
from typing import Final, assert_never

import structlog

from trunkline.domain.events import Canceled, Kind, Type
from trunkline.domain.message import Link, Message, fold
from trunkline.domain.sid import digits_of
from trunkline.domain.status import Status
from trunkline.kernel import Deadline
from trunkline.log.append import is_late
from trunkline.log.author import Author
from trunkline.log.chain import Advanced, Stalled
from trunkline.log.event import Event, UnreadableEvent, created_subject, decode_all
from trunkline.log.fence import Verdict, is_true_copy
from trunkline.log.interface import Log, Stored, Unreadable
from trunkline.log.ledger import Ledger, LedgerAnswer, Overtaken, Wish
from trunkline.log.limits import RETRY_PAUSE_S, TRY_TIMEOUT_S
from trunkline.log.names import SHARED_DIGITS
from trunkline.log.shards import order
from trunkline.log.timers import TimerUnsure, cancel_timer
from trunkline.messaging.schedule import timer_name
from trunkline.replica.queries import Replica

log: Final = structlog.get_logger(__name__)

CANCEL_MAX_S: Final = 5.0
"""How long it may take to know whether the record stands."""

SHOWN_MAX_S: Final = 1.0
"""How long the answer waits for the host's copy, so that a read behind it shows what it says."""

DROP_MAX_S: Final = 1.0
"""How long the answer waits for the timer to be dropped, which only spares work."""


@dataclass(frozen=True, slots=True)
class Done:
    """It is cancelled, by this or by an earlier request, and is never sent."""

    message: Message


@dataclass(frozen=True, slots=True)
class TooLate:
    """It is not scheduled any more; it was not cancelled."""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """It may be cancelled or not. Asking again is safe."""

    reason: str


CancelAnswer = Done | TooLate | Unsettled


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the true original stands; `sequence` is 0 where it was trimmed."""

    shard: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Canceller:
    """Cancels through the log, from any host."""

    log: Log
    replica: Replica
    author: Author

    async def cancel(self, message: Message, *, deadline: Deadline) -> CancelAnswer:
        """Cancel `message`, as the copy or the log shows it. Nothing is known of it in memory."""
        place = await self._place(message, deadline)
        if isinstance(place, Unsettled):
            return place
        event = self.author.event(
            Kind.MESSAGE, Type.CANCEL, message.account, message.sid, Canceled()
        )
        match await self._write(event, place, deadline):
            case Advanced(sequence=sequence):
                log.info("message.canceled", sid=message.sid)
                await self._drop_timer(message.sid)
                link = Link(
                    shard=place.shard, sequence=sequence, event_id=event.id, type=event.type
                )
                return Done(await self._as_shown(message, event, link))
            case Overtaken(newest=newest) if newest.type is Type.CANCEL:
                return Done(await self._as_shown(message, event, newest))
            case Overtaken():
                return TooLate()
            case Stalled(reason=reason):
                return Unsettled(reason)
            case other:
                assert_never(other)

    async def _place(self, message: Message, deadline: Deadline) -> _Place | Unsettled:
        """Where the message's chain is. As before a claim, every earlier shard is settled first."""
        found = await self._standing(message, deadline)
        match found:
            case Unreadable(reason=reason):
                return Unsettled(reason)
            case None:
                return self._trimmed_place(message)
            case (event, stored):
                verdict = await is_true_copy(
                    self.log, event, stored, clock=self.author.clock, deadline=deadline
                )
                if verdict is Verdict.TRUE:
                    return _Place(stored.shard, stored.sequence)
                return Unsettled("which of its copies in the log counts is not settled yet")
            case other:
                assert_never(other)

    async def _standing(
        self, message: Message, deadline: Deadline
    ) -> tuple[Event, Stored] | Unreadable | None:
        """Its original as the log has it; nobody can see of a SID whether it shares a register."""
        digits = digits_of(message.sid)
        unasked: Unreadable | None = None
        for name in (digits, digits[:SHARED_DIGITS]):
            shard = _shard(name, message.position, self.log.shards)
            subject = created_subject(shard, Kind.MESSAGE, message.account, name)
            bound_s = min(TRY_TIMEOUT_S, deadline.remaining_s())
            standing = await self.log.read_first(shard, subject, timeout_s=bound_s)
            if isinstance(standing, Unreadable):
                unasked = standing
            elif standing is not None:
                event = _original_in(standing, message.sid)
                if event is not None:
                    return event, standing
        return unasked

    def _trimmed_place(self, message: Message) -> _Place | Unsettled:
        """Only what everybody had seen, fenced and put off is trimmed: then the copy says where it
        stood, and shows its chain."""
        known = self.replica.message(message.sid)
        if known is None or known.original is None:
            return Unsettled("neither the log nor the copy of this host shows it yet")
        digits = digits_of(message.sid)
        name = digits if known.original.fingerprint else digits[:SHARED_DIGITS]
        return _Place(_shard(name, known.position, self.log.shards), 0)

    async def _write(self, event: Event, place: _Place, deadline: Deadline) -> LedgerAnswer:
        """Through a ledger of its own: opened now, it reads only what the copy does not show, where
        one that was kept since the last cancel would have to read all that was written meanwhile."""
        clock = self.author.clock
        bound = Deadline.after(min(CANCEL_MAX_S, deadline.remaining_s()), clock)
        ledger = Ledger(self.log, place.shard, Kind.MESSAGE, past=self.replica, clock=clock)
        answers: list[LedgerAnswer] = []
        wish = Wish(event, Canceled(), original=place.sequence, behind=0, deadline=bound)
        ledger.add(wish, answers.append)
        while not answers:  # the wish's deadline ends it
            if await ledger.round() is None and not answers:
                await clock.sleep(RETRY_PAUSE_S)
        return answers[0]

    async def _drop_timer(self, sid: str) -> None:
        clock = self.author.clock
        dropped = await cancel_timer(
            self.log.timers,
            timer_name(Kind.MESSAGE, sid),
            clock=clock,
            deadline=Deadline.after(DROP_MAX_S, clock),
        )
        if isinstance(dropped, TimerUnsure):
            log.debug("schedule.drop_unsure", sid=sid, reason=dropped.reason)

    async def _as_shown(self, message: Message, event: Event, link: Link) -> Message:
        """The message as the copy shows it, or as it will: another host's cancel may be newer than
        this copy."""
        shown_by = Deadline.after(SHOWN_MAX_S, self.author.clock)
        await self.replica.wait_until_seen(link.shard, link.sequence, deadline=shown_by)
        known = self.replica.message(message.sid)
        if known is not None and known.status is Status.CANCELED:
            return known
        return fold(message, Canceled(), at=event.at, event_id=event.id, position=0, link=link)


def _shard(name: str, position: int, shards: int) -> int:
    return order(name, shards)[min(position, shards - 1)]


def _original_in(standing: Stored, sid: str) -> Event | None:
    try:
        events = decode_all(standing.payload)
    except UnreadableEvent:
        return None
    for event in events:
        if event.type is Type.ORIGINAL and event.sid == sid and not is_late(event, standing.at):
            return event
    return None
