"""The phone network as a function of submissions and time: it decides, and it remembers.

Deciding and remembering are apart. A decision is a `Step`: entries to be written down and answers
to be let out. Only when the entries are on the disk does the edge `apply` them and let the answers
go, so that nobody is ever told what a restart would forget; a restart applies the file the same way.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
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
    Answered,
    AnyEntry,
    BehaviourSet,
    Delivered,
    InboundAcked,
    InboundOffered,
    InboundSent,
    ReceiptAcked,
    ReceiptOffered,
    ReceiptOwed,
    Started,
    Submitted,
    Withheld,
)
from trunkline.simulator.handsets import Handsets, Kept
from trunkline.simulator.offers import REOFFER_S, Offers

SUBMISSIONS_KEPT_MAX: Final = 1_000_000
"""In memory, for paging; about 0.6 kB each. The file keeps them all."""
RECEIPT_LEAD_MAX_S: Final = 2.0
"""With `receipt_before_answer` the answer waits for the receipt's acknowledgement at most so long;
well below the bound a host sets on a hand-over (5 s)."""
NO_SUCH_HANDSET: Final = 30_005
THROTTLED: Final = 30_001


@dataclass(frozen=True, slots=True)
class Release:
    """Let the answer of one submission of `ticket` out; `None` says there will never be one."""

    ticket: int
    answer: Answer | None


@dataclass(slots=True)
class Step:
    """What was decided: first write `entries`, then apply them, then let `releases` out."""

    entries: list[AnyEntry] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)


@dataclass(slots=True)
class _Held:
    """An answer that waits for its moment. `not_before` counts once its receipt is acknowledged."""

    ticket: int
    answer: Answer
    not_before: float
    receipt: str = ""
    is_let_out: bool = False


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
        """Decide on each; every one of them gets exactly one release, now or later."""
        step = Step()
        for submission in submissions:
            owner = submission.recipient if submission.recipient in self.behaviours else ""
            behaviour = self.behaviours.get(owner, PERFECT)
            self._submit(step, ticket, bind, submission, (owner, behaviour), (now, wall))
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
        for item in items:
            n = self._next()
            step.entries.append(
                ReceiptOffered(n=n, at=wall, item_id=item.item_id, bind=bind)
                if isinstance(item, Receipt)
                else InboundOffered(n=n, at=wall, item_id=item.item_id, bind=bind)
            )
        return items, step

    def acknowledge(self, item_ids: Sequence[str], *, now: float, wall: float) -> Step:
        """Those that were waiting wait no more; the others are passed over."""
        step = Step()
        for item_id in item_ids:
            item = self.offers.acknowledge(item_id)
            if item is None:
                continue
            n = self._next()
            step.entries.append(
                ReceiptAcked(n=n, at=wall, item_id=item_id)
                if isinstance(item, Receipt)
                else InboundAcked(n=n, at=wall, item_id=item_id)
            )
            held = self._held_for.pop(item_id, None)
            if held is not None and not held.is_let_out:
                self._hold(held, max(now, held.not_before))
        return step

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
                self._count(entry)
            case Delivered():
                self.handsets.deliver(entry)
            case ReceiptOwed():
                due = now + max(0.0, entry.due_at - wall)
                self.offers.owe(_receipt(entry), due=due, now=now)
            case InboundSent():
                self.offers.owe(_inbound(entry), due=now, now=now)
            case ReceiptAcked() | InboundAcked():
                self.offers.acknowledge(entry.item_id)
            case BehaviourSet():
                self._set_behaviour(entry.number, entry.behaviour, now)
            case Started() | Answered() | Withheld() | ReceiptOffered() | InboundOffered():
                pass
            case other:
                assert_never(other)

    def _submit(
        self,
        step: Step,
        ticket: int,
        bind: str,
        submission: Submission,
        rule: tuple[str, Behaviour],
        moment: tuple[float, float],
    ) -> None:
        owner, behaviour = rule
        now, wall = moment
        outcome, wait_s = self._outcome(owner, behaviour, submission, now)
        n = self._next()
        is_taken = outcome in {Outcome.ACCEPT, Outcome.SILENT}
        message_id = f"sim-{n}" if is_taken else ""
        step.entries.append(_submitted(n, wall, bind, submission, outcome, message_id))
        receipts: list[str] = []
        if is_taken:
            receipts = self._take(step, submission, behaviour, message_id, wall)
        if outcome in {Outcome.SILENT, Outcome.LOSE}:
            step.entries.append(
                Withheld(
                    n=self._next(), at=wall, reference=submission.reference, message_id=message_id
                )
            )
            step.releases.append(Release(ticket, None))
            return
        answer = _answer(submission, outcome, behaviour, message_id, wait_s)
        held = _Held(ticket, answer, now + behaviour.latency_ms / 1000.0)
        if behaviour.receipt_before_answer and receipts:
            held.receipt = receipts[0]
            self._held_for[held.receipt] = held
            self._hold(held, max(held.not_before, now + RECEIPT_LEAD_MAX_S))
        elif behaviour.latency_ms:
            self._hold(held, held.not_before)
        else:
            self._let_out(step, held, wall)

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

    def _take(
        self, step: Step, submission: Submission, behaviour: Behaviour, message_id: str, wall: float
    ) -> list[str]:
        """Deliver, and owe the receipts; gives their item ids."""
        status = behaviour.receipt_status
        if status in {ReceiptStatus.DELIVERED, ReceiptStatus.NONE}:
            step.entries.append(_delivered(self._next(), wall, submission, message_id))
        if status is ReceiptStatus.NONE:
            return []
        delay_ms = behaviour.receipt_delay_ms
        if not behaviour.receipt_before_answer:
            delay_ms += behaviour.latency_ms
        item_ids: list[str] = []
        for _ in range(behaviour.receipt_copies):
            n = self._next()
            item_ids.append(f"receipt-{n}")
            step.entries.append(
                ReceiptOwed(
                    n=n,
                    at=wall,
                    item_id=item_ids[-1],
                    message_id=message_id,
                    reference=submission.reference,
                    status=status.value,
                    due_at=wall + delay_ms / 1000.0,
                    error_code=receipt_error_code(behaviour),
                )
            )
        return item_ids

    def _hold(self, held: _Held, due: float) -> None:
        self._held += 1
        heapq.heappush(self._answers, (due, self._held, held))

    def _let_out(self, step: Step, held: _Held, wall: float) -> None:
        held.is_let_out = True
        self._held_for.pop(held.receipt, None)
        step.entries.append(_answered(self._next(), wall, held.answer))
        step.releases.append(Release(held.ticket, held.answer))

    def _count(self, entry: Submitted) -> None:
        self.submissions.append(entry)
        if len(self.submissions) > SUBMISSIONS_KEPT_MAX:
            self.submissions.drop_oldest()
        counts = self.counts
        counts.submitted += 1
        setattr(counts, entry.outcome, getattr(counts, entry.outcome) + 1)

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


def _submitted(
    n: int, wall: float, bind: str, submission: Submission, outcome: Outcome, message_id: str
) -> Submitted:
    return Submitted(
        n=n,
        at=wall,
        bind=bind,
        reference=submission.reference,
        sender=submission.sender,
        recipient=submission.recipient,
        body=submission.text,
        outcome=outcome.value,
        message_id=message_id,
        media_urls=submission.media_urls,
        possible_duplicate=submission.possible_duplicate,
    )


def _delivered(n: int, wall: float, submission: Submission, message_id: str) -> Delivered:
    return Delivered(
        n=n,
        at=wall,
        message_id=message_id,
        reference=submission.reference,
        sender=submission.sender,
        recipient=submission.recipient,
        body=submission.text,
        media_urls=submission.media_urls,
        possible_duplicate=submission.possible_duplicate,
    )


def _answer(
    submission: Submission, outcome: Outcome, behaviour: Behaviour, message_id: str, wait_s: float
) -> Answer:
    if outcome is Outcome.ACCEPT:
        return Accepted(reference=submission.reference, message_id=message_id)
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


def _answered(n: int, wall: float, answer: Answer) -> Answered:
    match answer:
        case Accepted():
            return Answered(
                n=n,
                at=wall,
                reference=answer.reference,
                result="accepted",
                message_id=answer.message_id,
            )
        case Refused():
            return Answered(
                n=n,
                at=wall,
                reference=answer.reference,
                result="throttled" if answer.returned else "refused",
                error_code=answer.error_code,
            )
        case other:
            assert_never(other)


def _receipt(entry: ReceiptOwed) -> Receipt:
    return Receipt(
        item_id=entry.item_id,
        message_id=entry.message_id,
        reference=entry.reference,
        status=entry.status,
        error_code=entry.error_code,
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
