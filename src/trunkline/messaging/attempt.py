"""Attempts at messages: claim, hand over, write down what came of it.

The chain behind a message's original is the only memory: who claimed which attempt, and how it
ended. A worker that comes back from the dead finds there what to do, and what not to.
"""

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, assert_never

import structlog

from trunkline.domain.events import (
    Ambiguous,
    Body,
    Claimed,
    HandedOver,
    Refused,
    Returned,
    Type,
)
from trunkline.domain.message import Link, Message
from trunkline.kernel import Deadline
from trunkline.kernel.crash import CrashHere, CrashPoint, never_crash
from trunkline.log.author import Author
from trunkline.log.chain import Advanced, Stalled
from trunkline.log.clock_check import Ages
from trunkline.log.interface import Unreadable
from trunkline.log.ledger import Entry, LedgerAnswer, Overtaken, Wish
from trunkline.log.ledgers import Chains
from trunkline.log.limits import WORK_MAX_S
from trunkline.messaging import carrier
from trunkline.messaging.carrier import Carrier, OnOutcome, Submission
from trunkline.messaging.lease import Leases
from trunkline.messaging.record import EventRecorder
from trunkline.messaging.unwanted import IsActive, why_unwanted
from trunkline.messaging.work import (
    FIRST,
    Counters,
    HasOptedOut,
    LooksAgain,
    OnAmbiguous,
    OwnsSender,
    Turn,
    Work,
    everybody_does,
    growing_s,
    nobody_has,
    submission_of,
)

log: Final = structlog.get_logger(__name__)

HAND_OVER_MAX_S: Final = 30.0
"""How long a carrier's answer is waited for; after it the attempt is ambiguous."""

POISON_RETRY_S: Final = 30.0
RETRY_LATER_S: Final = 1.0

CLAIM_MAX_S: Final = 1.0
"""How long one message may wait for a shard that does not answer, with room or a slot in hand."""

RESENT_MAX: Final = 5
"""Ambiguous attempts at one message, after which it is held whatever the route says."""

UNSENT_REMEMBERED_MAX: Final = 10_000

AMBIGUOUS_HAND_OVER: Final = 30008
"""Twilio's code for what a message ends with here."""


class Attempts:
    """One process's attempts. `is_lease_lost` is set when it may not make any more."""

    def __init__(  # noqa: PLR0913 - each is a part that the composition root names
        self,
        *,
        chains: Chains,
        carrier: Carrier,
        on_ambiguous: OnAmbiguous,
        leases: Leases,
        recorder: EventRecorder,
        find: Callable[[str], Message | None],
        counters: Counters,
        author: Author,
        crash_here: CrashHere = never_crash,
        look_again: LooksAgain = lambda _, __: None,
        is_active: IsActive = lambda _: True,
        has_opted_out: HasOptedOut = nobody_has,
        owns_sender: OwnsSender = everybody_does,
    ) -> None:
        """`look_again` is told of each message with which this process may have gone further than it
        is sure of: nobody else goes on with it while this process lives."""
        self.is_lease_lost = False
        self._look_again = look_again
        self._is_active = is_active
        self._has_opted_out = has_opted_out
        self._owns_sender = owns_sender
        self._chains = chains
        self._carrier = carrier
        self._on_ambiguous = on_ambiguous
        self._leases = leases
        self._recorder = recorder
        self._find = find
        self._counters = counters
        self._author = author
        self._crash_here = crash_here
        self._clock = author.clock
        self._ages = Ages(author.clock)
        self._working: set[str] = set()
        self._unsent: OrderedDict[str, None] = OrderedDict()

    async def make(self, work: Work) -> None:
        """Claim and send, with a place of the window in hand, so that open claims never outnumber
        the windows; answers the delivery."""
        nonce = self.new_nonce()
        try:
            await self._go_on(work, FIRST, nonce)
        finally:
            self.forget(nonce)

    async def _go_on(self, work: Work, turn: Turn | None, nonce: str) -> None:
        while turn is not None:
            type_, wish = self._claim(work, turn, nonce)
            shard = work.delivery.stored.shard
            answer = wish if isinstance(wish, Stalled) else await self._chains.advance(shard, wish)
            turn = await self._claimed(work, turn, nonce, type_, answer)

    # ---- the steps, for whoever takes them by callback

    def new_nonce(self) -> str:
        """Names an attempt of a task of ours; until it is forgotten, its claim is being worked on."""
        nonce = self._author.new_id()
        self._working.add(nonce)
        return nonce

    def forget(self, nonce: str) -> None:
        self._working.discard(nonce)

    def want_claim(
        self, work: Work, nonce: str, tell: Callable[[Type, LedgerAnswer], None]
    ) -> Entry | None:
        """Have the first turn's claim written, or a refusal in its place: `tell` which, and how
        that went. None, and told at once, where it cannot be said yet which of them."""
        type_, wish = self._claim(work, FIRST, nonce)
        if isinstance(wish, Stalled):
            tell(type_, wish)
            return None
        shard = work.delivery.stored.shard
        return self._chains.want(shard, wish, functools.partial(tell, type_))

    async def after_claim(self, work: Work, nonce: str, type_: Type, answer: LedgerAnswer) -> None:
        """All that comes behind the answer to the first turn's claim."""
        await self._go_on(work, await self._claimed(work, FIRST, nonce, type_, answer), nonce)

    def claimed_at(self, sequence: int, turn: Turn = FIRST) -> Turn:
        """The same turn, with its claim as the chain's newest record."""
        self._crash_here(CrashPoint.CLAIM_AFTER)
        return Turn(turn.attempt, sequence, turn.is_resend)

    def hand_over_many(self, turns: Sequence[tuple[Work, Turn]], on_outcome: OnOutcome) -> None:
        """Their claims stand, and the lease is ours."""
        submissions = self._submissions(turns)
        self._carrier.submit_many(
            submissions,
            deadline=Deadline.after(HAND_OVER_MAX_S, self._clock),
            on_outcome=on_outcome,
        )

    def want_outcome(
        self,
        work: Work,
        turn: Turn,
        taken: carrier.Accepted,
        tell: Callable[[HandedOver, LedgerAnswer], None],
    ) -> Entry:
        """Have it written that the carrier took it."""
        body = self._handed_over(turn, taken)
        wish = self._wish(work, Type.OUTCOME, body, behind=turn.behind)
        shard = work.delivery.stored.shard
        return self._chains.want(shard, wish, functools.partial(tell, body))

    def withdraw(self, work: Work, entry: Entry) -> None:
        self._chains.withdraw(work.delivery.stored.shard, entry)

    def may_act(self) -> bool:
        """Whether the lease is still ours. Nothing more may be done under one that others see as
        dead."""
        if not self.is_lease_lost and not self._leases.is_own_valid():
            log.error("dispatch.lease_lost", lease=self._leases.own)
            self.is_lease_lost = True
        return not self.is_lease_lost

    def _claim(self, work: Work, turn: Turn, nonce: str) -> tuple[Type, Wish | Stalled]:
        """What to write for a turn, and until when; or why that cannot be said yet."""
        self._crash_here(CrashPoint.CLAIM_BEFORE)
        record = self._next_record(work, turn, nonce)
        if isinstance(record, Unreadable):
            return Type.CLAIM, Stalled(record.reason)
        type_, body = record
        claimed_by = Deadline.after(CLAIM_MAX_S, self._clock)
        deadline = work.deadline if work.deadline.at < claimed_by.at else claimed_by
        return type_, self._wish(work, type_, body, behind=turn.behind, deadline=deadline)

    async def _claimed(
        self, work: Work, turn: Turn, nonce: str, type_: Type, answer: LedgerAnswer
    ) -> Turn | None:
        """Send; or, when the chain has gone on, the turn it asks for."""
        match answer:
            case Advanced() if type_ is Type.REFUSAL:
                await work.delivery.ack()
                return None
            case Advanced(sequence=sequence):
                await self._send(work, self.claimed_at(sequence, turn))
                return None
            case Overtaken(newest=newest):
                return await self._next_turn(work, newest)
            case Stalled(reason=reason):
                # It may stand or not. Its slot is for a message that can move; whoever has this
                # one next in this process knows that nothing was sent under the nonce.
                log.warning("dispatch.stalled", sid=work.event.sid, reason=reason)
                self._remember_unsent(nonce)
                await self._put_back(work)
                return None
            case other:
                assert_never(other)

    def _remember_unsent(self, nonce: str) -> None:
        self._unsent[nonce] = None
        if len(self._unsent) > UNSENT_REMEMBERED_MAX:
            self._unsent.popitem(last=False)

    def _next_record(self, work: Work, turn: Turn, nonce: str) -> tuple[Type, Body] | Unreadable:
        """A claim; or a refusal, where nobody wants the message any more, or it can never leave."""
        unwanted = why_unwanted(
            work,
            is_active=self._is_active,
            has_opted_out=self._has_opted_out,
            owns_sender=self._owns_sender,
            ages=self._ages,
        )
        if isinstance(unwanted, Unreadable):
            return unwanted
        if unwanted is not None:
            self._counters.refused.inc()
            code, reason = unwanted
            # An attempt that may have left is not undone by whatever is against another one now.
            code = AMBIGUOUS_HAND_OVER if turn.is_resend else code
            return Type.REFUSAL, Refused(attempt=turn.attempt - 1, error_code=code, reason=reason)
        return Type.CLAIM, Claimed(
            attempt=turn.attempt,
            nonce=nonce,
            lease=self._leases.own,
            carrier=self._carrier.name,
            is_resend=turn.is_resend,
            has_callback=work.message.status_callback is not None,
        )

    async def _next_turn(self, work: Work, newest: Link) -> Turn | None:
        """What the chain's newest record asks for: another attempt behind it, or nothing now."""
        match newest.type:
            case Type.RETURN:
                return Turn(newest.attempt + 1, newest.sequence, is_resend=newest.is_resend)
            case Type.CLAIM:
                return await self._after_claim(work, newest)
            case Type.AMBIGUOUS:
                return await self._after_ambiguous(
                    work, newest.sequence, newest.attempt, is_held=newest.is_held
                )
            case _:
                await work.delivery.ack()
                return None

    async def _after_claim(self, work: Work, claim: Link) -> Turn | None:
        """A live worker is left alone; what a dead one, or a task of ours that is gone, has claimed
        may have left, so it is ambiguous."""
        if claim.lease == self._leases.own:
            if claim.nonce in self._unsent:
                # Our own claim, which we could not be sure of: it stands, so go on with it.
                del self._unsent[claim.nonce]
                turn = Turn(claim.attempt, claim.sequence, is_resend=claim.is_resend)
                await self._send_as(work, turn, claim.nonce)
                return None
            is_working = claim.nonce in self._working
        else:
            is_working = self._leases.is_live(claim.lease)
        if not is_working:
            reason = "its worker ended before it wrote down an answer"
            mark = await self._mark_ambiguous(work, claim.attempt, claim.sequence, reason)
            if mark is not None:
                return await self._after_ambiguous(work, mark, claim.attempt, is_held=self._holds)
        if claim.lease == self._leases.own:
            await self._put_back(work)
        else:
            await work.delivery.nak(RETRY_LATER_S)
        return None

    async def _put_back(self, work: Work) -> None:
        """It comes again, here or elsewhere; and as it is for this process to find out how far it
        has gone, here in any case."""
        self._look_again(work, RETRY_LATER_S)
        await work.delivery.nak(RETRY_LATER_S)

    async def _after_ambiguous(
        self, work: Work, sequence: int, attempt: int, *, is_held: bool
    ) -> Turn | None:
        if is_held:
            await work.delivery.ack()
            return None
        policy = self._on_ambiguous
        if policy is OnAmbiguous.RESEND and attempt >= RESENT_MAX:
            policy = OnAmbiguous.HOLD
        match policy:
            case OnAmbiguous.RESEND if self._has_ended(work.event.sid):
                # A receipt came for an attempt that we were unsure of: it did arrive.
                await work.delivery.ack()
            case OnAmbiguous.RESEND:
                return Turn(attempt + 1, sequence, is_resend=True)
            case OnAmbiguous.FAIL:
                refusal = Refused(
                    attempt=attempt, error_code=AMBIGUOUS_HAND_OVER, reason="ambiguous hand-over"
                )
                await self._finish(work, Type.REFUSAL, refusal, sequence)
            case OnAmbiguous.HOLD:
                held = Ambiguous(attempt=attempt, reason="held by policy", is_held=True)
                await self._finish(work, Type.AMBIGUOUS, held, sequence)
            case other:
                assert_never(other)
        return None

    def _has_ended(self, sid: str) -> bool:
        message = self._find(sid)
        return message is not None and message.ending is not None

    async def _send_as(self, work: Work, turn: Turn, nonce: str) -> None:
        """Send under a claim of an earlier task of this process."""
        self._working.add(nonce)
        try:
            await self._send(work, turn)
        finally:
            self._working.discard(nonce)

    async def _send(self, work: Work, turn: Turn) -> None:
        """The claim stands at `turn.behind`: hand over once, and write down what came of it."""
        if not self.may_act():
            return  # whoever gets the message next marks this claim ambiguous
        if work.deadline.has_passed():
            await self.return_overdue(work, turn)
            return
        (submission,) = self._submissions([(work, turn)])
        deadline = Deadline.after(HAND_OVER_MAX_S, self._clock)
        outcome = await self._carrier.submit(
            submission, key=submission.reference, deadline=deadline
        )
        self.outcome_came()
        await self.take_outcome(work, turn, outcome)

    def _submissions(self, turns: Sequence[tuple[Work, Turn]]) -> list[Submission]:
        """What is handed over, right before it is."""
        self._crash_here(CrashPoint.HAND_OVER_BEFORE)
        return [submission_of(work, turn) for work, turn in turns]

    def outcome_came(self) -> None:
        """Right behind a hand-over: nobody else knows yet what came of it."""
        self._crash_here(CrashPoint.ANSWER_BEFORE_OUTCOME)

    def outcome_stands(self) -> None:
        """Right behind the last record: the delivery is open."""
        self._crash_here(CrashPoint.OUTCOME_BEFORE_ACK)

    async def take_outcome(self, work: Work, turn: Turn, outcome: carrier.Outcome) -> None:
        """Write down what came of a hand-over, and answer the delivery."""
        match outcome:
            case carrier.Accepted():
                body = self._handed_over(turn, outcome)
                await self._finish(work, Type.OUTCOME, body, turn.behind, is_answer=True)
            case carrier.Refused(is_returned=True, reason=reason, retry_after_s=told_s) as refused:
                # A link that is down says when it is tried again, for all that wait for it. Whoever
                # found it down must not wait longer than they, and ever longer.
                wait_s = told_s or RETRY_LATER_S
                if not refused.is_unsent:
                    wait_s = growing_s(wait_s, turn.attempt)
                await self._return(work, turn, reason, wait_s=wait_s)
            case carrier.Refused(error_code=error_code, reason=reason):
                self._counters.refused.inc()
                refusal = Refused(attempt=turn.attempt, error_code=error_code, reason=reason)
                await self._finish(work, Type.REFUSAL, refusal, turn.behind, is_answer=True)
            case carrier.Unknown(reason=reason):
                await self._unknown(work, turn, reason)
            case other:
                assert_never(other)

    def _handed_over(self, turn: Turn, taken: carrier.Accepted) -> HandedOver:
        self._counters.handed_over.inc()
        return HandedOver(
            attempt=turn.attempt,
            carrier=self._carrier.name,
            carrier_message_id=taken.carrier_message_id,
        )

    async def return_overdue(self, work: Work, turn: Turn) -> None:
        """It was claimed too late to be worked on."""
        wait_s = growing_s(RETRY_LATER_S, turn.attempt)
        await self._return(work, turn, "the time for work was over", wait_s=wait_s)

    async def _return(self, work: Work, turn: Turn, reason: str, *, wait_s: float) -> None:
        """The attempt surely did not leave: write that down, and try again later."""
        self._counters.returned.inc()
        returned = Returned(attempt=turn.attempt, reason=reason, is_resend=turn.is_resend)
        answer = await self._advance(work, Type.RETURN, returned, behind=turn.behind)
        if isinstance(answer, Stalled):
            self._look_again(work, RETRY_LATER_S)
        await work.delivery.nak(wait_s)

    async def _unknown(self, work: Work, turn: Turn, reason: str) -> None:
        mark = await self._mark_ambiguous(work, turn.attempt, turn.behind, reason)
        if mark is None:
            await self._put_back(work)
        elif self._on_ambiguous is OnAmbiguous.RESEND and turn.attempt < RESENT_MAX:
            await work.delivery.nak(growing_s(RETRY_LATER_S, turn.attempt) - RETRY_LATER_S)
        else:
            await self._after_ambiguous(work, mark, turn.attempt, is_held=self._holds)

    @property
    def _holds(self) -> bool:
        return self._on_ambiguous is OnAmbiguous.HOLD

    async def _mark_ambiguous(
        self, work: Work, attempt: int, behind: int, reason: str
    ) -> int | None:
        """The mark's sequence; None if somebody else wrote first, or nobody can say."""
        mark = Ambiguous(attempt=attempt, reason=reason, is_held=self._holds)
        answer = await self._advance(work, Type.AMBIGUOUS, mark, behind=behind)
        if not isinstance(answer, Advanced):
            return None
        self._counters.ambiguous.inc()
        log.warning("message.ambiguous", sid=work.event.sid, attempt=attempt, reason=reason)
        return answer.sequence

    async def _finish(
        self, work: Work, type_: Type, body: Body, behind: int, *, is_answer: bool = False
    ) -> None:
        """Write the last record; only then is the message done with. `is_answer`: a carrier's."""
        answer = await self._advance(work, type_, body, behind=behind)
        await self.finished(work, type_, body, answer, is_answer=is_answer)

    async def finished(
        self, work: Work, type_: Type, body: Body, answer: LedgerAnswer, *, is_answer: bool
    ) -> None:
        """What comes behind the answer to the last record."""
        match answer:
            case Advanced():
                log.debug("message.settled", sid=work.event.sid, outcome=type_.value)
                self.outcome_stands()
                await work.delivery.ack()
            case Overtaken(newest=newest):
                log.warning("dispatch.overtaken", sid=work.event.sid, by=newest.sequence)
                if is_answer:
                    # Somebody marked the attempt ambiguous meanwhile. What the carrier said still
                    # counts: folded into the record, it may release a message that is held.
                    event = work.event
                    await self._recorder.record(event.kind, type_, event.account, event.sid, body)
                await work.delivery.nak(RETRY_LATER_S)
            case Stalled(reason=reason):
                log.warning("dispatch.stalled", sid=work.event.sid, reason=reason)
                self._look_again(work, RETRY_LATER_S)
            case other:
                assert_never(other)

    async def _advance(self, work: Work, type_: Type, body: Body, *, behind: int) -> LedgerAnswer:
        wish = self._wish(work, type_, body, behind=behind)
        return await self._chains.advance(work.delivery.stored.shard, wish)

    def _wish(
        self,
        work: Work,
        type_: Type,
        body: Body,
        *,
        behind: int,
        deadline: Deadline | None = None,
    ) -> Wish:
        """A record to be written; unless a `deadline` says otherwise, for as long as work may take
        from now. An answer is always worth writing down: the chain refuses it if it comes too
        late."""
        event = work.event
        return Wish(
            record=self._author.event(event.kind, type_, event.account, event.sid, body),
            body=body,
            original=work.delivery.stored.sequence,
            behind=behind,
            deadline=deadline or Deadline.after(WORK_MAX_S, self._clock),
        )
