"""The phone network as a function of submissions and time: it decides, and it remembers.

Deciding and remembering are apart. A decision is a `Step`: entries to be written down and answers
to be let out. Only when the entries are on the disk does the edge `apply` them and let the answers
go, so that nobody is ever told what a restart would forget; a restart applies the file the same way.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, assert_never

import msgspec

from trunkline.domain.number import is_e164
from trunkline.protocols.simulated import (
    Accepted,
    Answer,
    Inbound,
    Item,
    Receipt,
    Refused,
    Submission,
)
from trunkline.simulator.behaviour import (
    PERFECT,
    Behaviour,
    Bucket,
    Outcome,
    ReceiptStatus,
    receipt_error_code,
)
from trunkline.simulator.entries import (
    Acked,
    Answered,
    AnyEntry,
    BehaviourSet,
    InboundSent,
    Offered,
    Started,
    Submitted,
    TurnedAway,
    receipt_ids,
)
from trunkline.simulator.handsets import Handsets, Kept
from trunkline.simulator.offers import REOFFER_S, Offers

SUBMISSIONS_KEPT_MAX: Final = 100_000
"""In memory, for paging; those delivered are shared with the handsets. The file keeps them all."""
RECEIPT_LEAD_MAX_S: Final = 2.0
"""With `receipt_before_answer` the answer waits for the receipt's acknowledgement at most so long;
well below the bound a host sets on a hand-over (5 s)."""
NO_SUCH_HANDSET: Final = 30_005
THROTTLED: Final = 30_001


@dataclass(frozen=True, slots=True)
class Release:
    """Let answers of `ticket` out, and know that `withheld` more will never come."""

    ticket: int
    answers: Sequence[Answer]
    withheld: int = 0


@dataclass(slots=True)
class Step:
    """What was decided: first write `entries`, then apply them, then let `releases` out."""

    entries: list[AnyEntry] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)


@dataclass(slots=True)
class _Held:
    """Answers of one post that wait for the same moment. `not_before` counts once the receipt that
    they wait for is acknowledged."""

    ticket: int
    answers: list[Answer]
    not_before: float
    receipt: str = ""
    is_let_out: bool = False


@dataclass(slots=True)
class _Post:
    """What becomes of one post's submissions, as far as it is decided."""

    ticket: int
    bind: str
    now: float
    wall: float
    answers: list[Answer] = field(default_factory=list)
    withheld: int = 0
    held: dict[float, _Held] = field(default_factory=dict)


class Counts(msgspec.Struct):
    """Submissions by what became of them, since the file began."""

    submitted: int = 0
    accept: int = 0
    refuse: int = 0
    throttle: int = 0
    silent: int = 0
    lose: int = 0


class Network:
    """One carrier and all its handsets."""

    def __init__(self, *, rng: random.Random, reoffer_s: float = REOFFER_S) -> None:
        self.handsets = Handsets()
        self.offers = Offers(reoffer_s=reoffer_s)
        self.submissions: Kept[Submitted] = Kept()
        self.counts = Counts()
        self.behaviours: dict[str, Behaviour] = {}
        self._rng = rng
        self._n = 0
        self._buckets: dict[str, Bucket] = {}
        self._answers: list[tuple[float, int, _Held]] = []
        self._held_for: dict[str, _Held] = {}
        self._held = 0

    @property
    def behaviour(self) -> Behaviour:
        """Towards everybody without one of their own."""
        return self.behaviours.get("", PERFECT)

    def start(self, pid: int, *, wall: float) -> Step:
        return Step([Started(n=self._next(), at=wall, pid=pid)])

    def submit(
        self,
        ticket: int,
        bind: str,
        submissions: Sequence[Submission],
        *,
        now: float,
        wall: float,
    ) -> Step:
        """Decide on each; every one of them is answered or withheld exactly once, now or later."""
        step = Step()
        post = _Post(ticket, bind, now, wall)
        behaviours = self.behaviours
        default = self.behaviour
        for submission in submissions:
            own = behaviours.get(submission.recipient)
            if own is None:
                step.entries.append(self._submit(post, submission, "", default))
            else:
                step.entries.append(self._submit(post, submission, submission.recipient, own))
        for held in post.held.values():
            self._hold(held, held.not_before)
        if post.answers or post.withheld:
            step.releases.append(Release(ticket, post.answers, post.withheld))
        return step

    def on_deadline(self, *, now: float, wall: float) -> Step:
        """The answers that are due."""
        step = Step()
        while self._answers and (self._answers[0][0] <= now or self._answers[0][2].is_let_out):
            held = heapq.heappop(self._answers)[2]
            if not held.is_let_out:
                self._let_out(step, held, wall)
        return step

    def next_deadline(self) -> float | None:
        """When `on_deadline` has something to do, or an item becomes ready to be offered."""
        moments = [self._answers[0][0]] if self._answers else []
        ready = self.offers.next_deadline()
        if ready is not None:
            moments.append(ready)
        return min(moments, default=None)

    def offer(
        self, bind: str, items_max: int, *, now: float, wall: float
    ) -> tuple[list[Item], Step]:
        """Receipts and handsets' messages for a bind. The step need not be waited for."""
        items = self.offers.offer(items_max, now=now)
        step = Step()
        if items:
            item_ids = tuple([item.item_id for item in items])
            step.entries.append(Offered(n=self._next(), at=wall, bind=bind, item_ids=item_ids))
        return items, step

    def turn_away(self, bind: str, attempt: int, *, wall: float) -> Step | None:
        """What a poll that is turned away leaves; `None` if it is not. The step need not be waited
        for."""
        if not self.behaviour.polls_turned_away:
            return None
        return Step([TurnedAway(n=self._next(), at=wall, bind=bind, attempt=attempt)])

    def acknowledge(self, item_ids: Sequence[str], *, now: float, wall: float) -> Step:
        """Those that were waiting wait no more; the others are passed over."""
        acknowledge, held_for = self.offers.acknowledge, self._held_for
        acked = [item_id for item_id in item_ids if acknowledge(item_id) is not None]
        if not acked:
            return Step()
        if held_for:
            for item_id in acked:
                held = held_for.pop(item_id, None)
                if held is not None and not held.is_let_out:
                    self._hold(held, max(now, held.not_before))
        return Step([Acked(n=self._next(), at=wall, item_ids=tuple(acked))])

    def send(
        self, sender: str, recipient: str, text: str, media_urls: Sequence[str], *, wall: float
    ) -> tuple[InboundSent, Step]:
        """A handset sends a message."""
        n = self._next()
        sent = InboundSent(
            n=n,
            at=wall,
            item_id=f"inbound-{n}",
            message_id=f"handset-{n}",
            sender=sender,
            recipient=recipient,
            body=text,
            media_urls=tuple(media_urls),
        )
        return sent, Step([sent])

    def behave(self, number: str, behaviour: Behaviour | None, *, wall: float) -> Step:
        """Change the behaviour towards `number` (empty: everybody); `None` resets it."""
        return Step([BehaviourSet(n=self._next(), at=wall, number=number, behaviour=behaviour)])

    def apply(self, entry: AnyEntry, *, now: float, wall: float) -> None:
        """Remember what is on the disk; `now` and `wall` are this moment, not the entry's."""
        self._n = max(self._n, entry.n)
        match entry:
            case Submitted():
                self._remember(entry, now, wall)
            case InboundSent():
                self.offers.owe(_inbound(entry), due=now, now=now)
            case Acked():
                for item_id in entry.item_ids:
                    self.offers.acknowledge(item_id)
            case BehaviourSet():
                self._set_behaviour(entry.number, entry.behaviour, now)
            case Started() | Answered() | Offered() | TurnedAway():
                pass
            case other:
                assert_never(other)

    def _remember(self, entry: Submitted, now: float, wall: float) -> None:
        self.submissions.append(entry)
        if len(self.submissions) > SUBMISSIONS_KEPT_MAX:
            self.submissions.drop_oldest()
        counts = self.counts
        counts.submitted += 1
        setattr(counts, entry.outcome, getattr(counts, entry.outcome) + 1)
        if entry.delivered:
            self.handsets.deliver(entry)
        if entry.receipt:
            # A receipt without a delay is due at once, though the disk has taken some time.
            due = now
            if entry.receipt_delay_s:
                due += max(0.0, entry.at + entry.receipt_delay_s - wall)
            for item_id in receipt_ids(entry):
                self.offers.owe(_receipt(item_id, entry), due=due, now=now)

    def _submit(
        self, post: _Post, submission: Submission, owner: str, behaviour: Behaviour
    ) -> Submitted:
        """The line that says what becomes of it; its answer goes into `post`, or is held."""
        outcome, wait_s = self._outcome(owner, behaviour, submission, post.now)
        n = self._next()
        if outcome is Outcome.SILENT or outcome is Outcome.LOSE:
            post.withheld += 1
            return _submitted(n, post, submission, outcome, behaviour)
        answer = _answer(submission, outcome, behaviour, n, wait_s)
        held: _Held | None = None
        if behaviour.receipt_before_answer and _is_receipt_owed(outcome, behaviour):
            held = _Held(post.ticket, [answer], post.now + behaviour.latency_ms / 1000.0)
            held.receipt = f"receipt-{n}"
            self._held_for[held.receipt] = held
            self._hold(held, max(held.not_before, post.now + RECEIPT_LEAD_MAX_S))
        elif behaviour.latency_ms:
            held = post.held.get(behaviour.latency_ms)
            if held is None:
                moment = post.now + behaviour.latency_ms / 1000.0
                held = post.held[behaviour.latency_ms] = _Held(post.ticket, [], moment)
            held.answers.append(answer)
        else:
            post.answers.append(answer)
        return _submitted(n, post, submission, outcome, behaviour, answered=held is None)

    def _outcome(
        self, owner: str, behaviour: Behaviour, submission: Submission, now: float
    ) -> tuple[Outcome, float]:
        """What becomes of a submission, and for a throttled one the seconds to wait."""
        if not is_e164(submission.recipient):
            return Outcome.REFUSE, 0.0
        if behaviour.rate_per_s is not None:
            bucket = self._buckets.get(owner)
            if bucket is None:
                bucket = self._buckets[owner] = Bucket(behaviour.rate_per_s, now=now)
            wait_s = bucket.take(now=now)
            if wait_s:
                return Outcome.THROTTLE, wait_s
        if behaviour.loss_probability and self._rng.random() < behaviour.loss_probability:
            return Outcome.LOSE, 0.0
        return behaviour.outcome, behaviour.retry_after_ms / 1000.0

    def _hold(self, held: _Held, due: float) -> None:
        self._held += 1
        heapq.heappush(self._answers, (due, self._held, held))

    def _let_out(self, step: Step, held: _Held, wall: float) -> None:
        held.is_let_out = True
        self._held_for.pop(held.receipt, None)
        references = tuple([answer.reference for answer in held.answers])
        step.entries.append(Answered(n=self._next(), at=wall, references=references))
        step.releases.append(Release(held.ticket, held.answers))

    def _set_behaviour(self, number: str, behaviour: Behaviour | None, now: float) -> None:
        self._buckets.pop(number, None)
        if behaviour is None:
            self.behaviours.pop(number, None)
            return
        self.behaviours[number] = behaviour
        if behaviour.rate_per_s is not None:
            self._buckets[number] = Bucket(behaviour.rate_per_s, now=now)

    def _next(self) -> int:
        self._n += 1
        return self._n


def _is_taken(outcome: Outcome) -> bool:
    return outcome is Outcome.ACCEPT or outcome is Outcome.SILENT


def _is_receipt_owed(outcome: Outcome, behaviour: Behaviour) -> bool:
    return _is_taken(outcome) and behaviour.receipt_status is not ReceiptStatus.NONE


def _submitted(
    n: int,
    post: _Post,
    submission: Submission,
    outcome: Outcome,
    behaviour: Behaviour,
    *,
    answered: bool = False,
) -> Submitted:
    if not _is_taken(outcome):
        return Submitted(
            n=n,
            at=post.wall,
            bind=post.bind,
            reference=submission.reference,
            sender=submission.sender,
            recipient=submission.recipient,
            body=submission.text,
            outcome=outcome.value,
            media_urls=submission.media_urls,
            possible_duplicate=submission.possible_duplicate,
            media=submission.media,
            answered=answered,
        )
    status = behaviour.receipt_status
    delay_ms = behaviour.receipt_delay_ms
    if not behaviour.receipt_before_answer:
        delay_ms += behaviour.latency_ms
    return Submitted(
        n=n,
        at=post.wall,
        bind=post.bind,
        reference=submission.reference,
        sender=submission.sender,
        recipient=submission.recipient,
        body=submission.text,
        outcome=outcome.value,
        message_id=f"sim-{n}",
        media_urls=submission.media_urls,
        possible_duplicate=submission.possible_duplicate,
        media=submission.media,
        delivered=status is ReceiptStatus.DELIVERED or status is ReceiptStatus.NONE,
        receipt="" if status is ReceiptStatus.NONE else status.value,
        receipt_copies=behaviour.receipt_copies,
        receipt_delay_s=delay_ms / 1000.0 if delay_ms else None,
        receipt_error_code=receipt_error_code(behaviour),
        answered=answered,
    )


def _answer(
    submission: Submission, outcome: Outcome, behaviour: Behaviour, n: int, wait_s: float
) -> Answer:
    if outcome is Outcome.ACCEPT:
        return Accepted(reference=submission.reference, message_id=f"sim-{n}")
    if outcome is Outcome.THROTTLE:
        return Refused(
            reference=submission.reference,
            error_code=THROTTLED,
            reason="throttled",
            returned=True,
            retry_after_s=wait_s,
        )
    if not is_e164(submission.recipient):
        return Refused(
            reference=submission.reference, error_code=NO_SUCH_HANDSET, reason="no such handset"
        )
    return Refused(
        reference=submission.reference,
        error_code=behaviour.error_code,
        reason="refused by the carrier",
    )


def _receipt(item_id: str, entry: Submitted) -> Receipt:
    done = datetime.fromtimestamp(entry.at + (entry.receipt_delay_s or 0.0), UTC)
    return Receipt(
        item_id=item_id,
        message_id=entry.message_id,
        reference=entry.reference,
        status=entry.receipt,
        error_code=entry.receipt_error_code,
        done_date=f"{done:%y%m%d%H%M}",
    )


def _inbound(entry: InboundSent) -> Inbound:
    return Inbound(
        item_id=entry.item_id,
        message_id=entry.message_id,
        sender=entry.sender,
        recipient=entry.recipient,
        text=entry.body,
        media_urls=entry.media_urls,
    )
