"""The judge: eleven promises as set arithmetic over what the witnesses wrote down.

It reads nothing else, knows no host and keeps no state, so a history made by hand judges the judge.
Each invariant is one function from a history to what broke it; an empty answer is a pass.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from trunkline.drills.observer.records import Create, History, Outcome

EXAMPLES_MAX: Final = 5
FEW_SHARE: Final = 0.01
"""So many of all creates may wait, as on a machine that is overrun some do; a shard is a twelfth."""
BUDGET_SPAN_S: Final = 10.0
"""A budget of retries is a share of what was asked in the last ten seconds; so long it may be spent
from what was saved before the fault."""

FAILED: Final = frozenset({"failed", "canceled", "undelivered"})
FINAL: Final = FAILED | {"delivered"}
# A customer's words for how far a message is; greater is later.
RANK: Final[Mapping[str, int]] = {
    "accepted": 0, "scheduled": 0, "queued": 1, "sending": 2, "sent": 3,
    "delivered": 4, "undelivered": 4, "failed": 4, "canceled": 4,
}  # fmt: skip
STEPS: Final[Mapping[str, tuple[str, ...]]] = {
    "delivered": ("sending", "sent", "delivered"),
    "undelivered": ("sending", "sent", "undelivered"),
    "failed": ("failed",),
    "sent": ("sending", "sent"),
}
"""What an application must have been told about a message that ended so."""


class Verdict(StrEnum):
    """What became of an invariant. A figure that nobody asked to be judged is only reported."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_JUDGED = "not-judged"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a drill may expect of its fault.

    `ambiguous_max`: the windows of all the links that were lost, None where a fault loses links all
    the time. `is_receipt_certain` is false where the carrier owes none: then `sent` is an end.
    `gap_max_ms` is None where the accept gap is only to be reported. `wait_max_ms` is the longest
    that a create may wait, its repeats included, beyond what others take meanwhile, where the fault
    leaves every host's API in reach.
    `tries_max` is how many tries a question to a carrier that fails may cost on average.
    """

    ambiguous_max: int | None = 0
    is_receipt_certain: bool = True
    gap_max_ms: float | None = None
    wait_max_ms: float | None = None
    tries_max: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One invariant's verdict. `broken` counts, `examples` are the first few of them."""

    invariant: str
    promise: str
    verdict: Verdict
    broken: int = 0
    examples: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Facts:
    """A history with what several invariants ask of it."""

    history: History
    terms: Terms

    @cached_property
    def text_of(self) -> Mapping[str, str]:
        """By the SID of each message answered 201: its text."""
        return {
            each.sid: each.text for each in self.history.creates if each.outcome is Outcome.ACCEPTED
        }

    @cached_property
    def taken(self) -> Counter[str]:
        """By text: how often the carrier was given it and did not turn it away."""
        return Counter(each.text for each in self.history.submissions if each.is_taken)

    @cached_property
    def last(self) -> Mapping[str, str]:
        """By SID: the furthest status that any host showed."""
        furthest: dict[str, str] = {}
        seen = [(each.sid, each.status) for each in self.history.shown]
        seen += [(each.sid, each.status) for each in self.history.reads if each.http == 200]
        for sid, status in seen:
            if RANK.get(status, -1) >= RANK.get(furthest.get(sid, ""), -1):
                furthest[sid] = status
        return furthest

    @cached_property
    def explained(self) -> frozenset[str]:
        """SIDs that ended without arriving, with an error code that says why."""
        shown = {each.sid for each in self.history.shown if each.error_code}
        return frozenset(shown | {each.sid for each in self.history.reads if each.error_code})

    @cached_property
    def ambiguous(self) -> Mapping[str, int]:
        """By SID: attempts that a host says nobody can tell the outcome of, if any."""
        found: dict[str, int] = {}
        for each in self.history.reads:
            if each.ambiguous:
                found[each.sid] = max(each.ambiguous, found.get(each.sid, 0))
        return found

    @cached_property
    def sids_of(self) -> Mapping[str, set[str]]:
        """By text: every SID under which an answer or a list ever named it."""
        found: dict[str, set[str]] = defaultdict(set)
        for create in self.history.creates:
            if create.sid:
                found[create.text].add(create.sid)
        for shown in self.history.shown:
            if shown.direction != "inbound":
                found[shown.text].add(shown.sid)
        return found

    def lost(self) -> list[str]:
        """SIDs answered 201 that neither reached the carrier nor ended with a reason."""
        return [
            sid
            for sid, text in self.text_of.items()
            if not self.taken[text] and sid not in self.ambiguous and not self._has_reason(sid)
        ]

    def stuck(self) -> list[str]:
        """SIDs answered 201 that did not come to an end, though nothing is left to wait for."""
        ends = FINAL if self.terms.is_receipt_certain else FINAL | {"sent"}
        return [
            sid
            for sid in self.text_of
            if self.last.get(sid, "") not in ends and sid not in self.ambiguous
        ]

    def doubled(self) -> list[str]:
        """Texts that the carrier was given more than once, and no host marked it."""
        return [
            text
            for text, count in self.taken.items()
            if count > 1 and not any(sid in self.ambiguous for sid in self.sids_of[text])
        ]

    def _has_reason(self, sid: str) -> bool:
        return self.last.get(sid, "") in FAILED and sid in self.explained


def check(history: History, terms: Terms) -> tuple[Finding, ...]:
    """Every invariant's finding, in order."""
    facts = Facts(history, terms)
    findings = []
    for name, (promise, broken_by) in INVARIANTS.items():
        if name == "I7" and history.debits is None:
            note = "nobody was asked what is billed"
            findings.append(Finding(name, promise, Verdict.NOT_JUDGED, note=note))
            continue
        broken = list(broken_by(facts))
        verdict = Verdict.FAIL if broken else Verdict.PASS
        examples = tuple(broken[:EXAMPLES_MAX])
        findings.append(Finding(name, promise, verdict, len(broken), examples))
    return (*findings, _accept_gap(facts), _storm(facts))


def accept_moments(history: History) -> list[float]:
    """When each message was answered 201 for the first time, in order."""
    first: dict[str, float] = {}
    for each in history.creates:
        if each.outcome is Outcome.ACCEPTED:
            first[each.text] = min(each.until, first.get(each.text, each.until))
    return sorted(first.values())


def accept_gap_s(history: History) -> float:
    """The longest time from one accept to the next; infinite if there were fewer than two."""
    moments = accept_moments(history)
    gaps = (after - before for before, after in itertools.pairwise(moments))
    return max(gaps, default=float("inf"))


def tries_per_question(history: History) -> float | None:
    """How often the carrier was asked for each question that it did not answer, once it had failed
    for as long as a budget of retries looks back; None where it did not fail for so long."""
    began = min((each.at for each in history.turned_away), default=0.0)
    steady = [each for each in history.turned_away if each.at >= began + BUDGET_SPAN_S]
    questions = sum(each.attempt == 1 for each in steady)
    return len(steady) / questions if questions else None


def _kept(facts: Facts) -> Iterable[str]:
    for sid in facts.lost():
        yield f"{sid} ({facts.text_of[sid]}) never reached the carrier"
    for sid in set(facts.stuck()) - set(facts.lost()):
        yield f"{sid} ({facts.text_of[sid]}) is {facts.last.get(sid) or 'unknown'} for good"


def _asked_for(facts: Facts) -> Iterable[str]:
    recipients = {each.text: each.recipient for each in facts.history.creates}
    for each in facts.history.submissions:
        if recipients.get(each.text) != each.recipient:
            yield f"submission {each.n}: {each.text!r} to {each.recipient}"


def _sent_once(facts: Facts) -> Iterable[str]:
    for text in facts.doubled():
        yield f"{text} was given to the carrier {facts.taken[text]} times, unmarked"
    most = facts.terms.ambiguous_max
    if most is not None and len(facts.ambiguous) > most:
        yield f"{len(facts.ambiguous)} messages are ambiguous, and at most {most} may be"


def _one_key_one_message(facts: Facts) -> Iterable[str]:
    by_key: dict[str, set[str]] = defaultdict(set)
    keyed: set[str] = set()
    for each in facts.history.creates:
        if each.key:
            keyed.add(each.text)
            if each.outcome is Outcome.ACCEPTED:
                by_key[each.key].add(each.sid)
    for key, sids in by_key.items():
        if len(sids) > 1:
            yield f"key {key} was answered with {', '.join(sorted(sids))}"
    for text in keyed:
        if len(facts.sids_of[text]) > 1:
            yield f"{text} stands under {', '.join(sorted(facts.sids_of[text]))}"


def _status_never_back(facts: Facts) -> Iterable[str]:
    seen: dict[tuple[str, str], tuple[float, str]] = {}
    for read in sorted(facts.history.reads, key=lambda each: each.at):
        if read.http != 200:
            continue
        before = seen.get((read.sid, read.host))
        if before is not None and before[0] <= read.at and _is_back(before[1], read.status):
            yield f"{read.sid} on {read.host} went from {before[1]} to {read.status}"
        seen[read.sid, read.host] = (read.until, read.status)
    told: dict[str, str] = {}
    known: set[str] = set()
    for callback in facts.history.callbacks:
        if callback.token in known or callback.text:
            continue
        known.add(callback.token)
        last = told.get(callback.sid, "queued")
        if _is_back(last, callback.status):
            yield f"{callback.sid} was told {callback.status} behind {last}"
        told[callback.sid] = callback.status


def _is_back(before: str, after: str) -> bool:
    if before in FINAL:
        return after != before
    return RANK.get(after, -1) < RANK.get(before, -1)


def _every_step_told(facts: Facts) -> Iterable[str]:
    tokens: dict[tuple[str, str], set[str]] = defaultdict(set)
    answered: set[tuple[str, str]] = set()
    for each in facts.history.callbacks:
        if not each.is_signed:
            yield f"{each.sid} {each.status}: the signature is wrong"
        tokens[each.sid, each.status].add(each.token)
        if 200 <= each.answer < 300:
            answered.add((each.sid, each.status))
    for (sid, status), names in tokens.items():
        if len(names) > 1:
            yield f"{sid} {status} was told under {len(names)} tokens"
    for sid in facts.text_of:
        for step in STEPS.get(facts.last.get(sid, ""), ()):
            if (sid, step) not in answered:
                yield f"{sid} is {facts.last[sid]}, and {step} was never told"


def _one_debit_each(facts: Facts) -> Iterable[str]:
    """On every host: what the carrier took has one price, nothing else has one, and the sums are
    those of the prices. Of what is ambiguous nobody knows whether the carrier took it."""
    debits, sums = facts.history.debits or (), facts.history.sums
    hosts = {each.host for each in debits} | {each.host for each in sums}
    known = set().union(*facts.sids_of.values())
    for host in sorted(hosts or {""}):
        booked = Counter(each.sid for each in debits if each.host == host)
        for sid, count in booked.items():
            if count > 1 or sid not in known:
                yield f"{sid} was booked {count} times {_on(host)}"
        for text, sids in facts.sids_of.items():
            if any(sid in facts.ambiguous for sid in sids):
                continue
            is_due = bool(facts.taken[text]) and any(facts.last.get(s) != "failed" for s in sids)
            if is_due != any(booked[sid] for sid in sids):
                yield f"{text} was {'not ' * is_due}booked {_on(host)}"
    for each in sums:
        prices = [debit.micros for debit in debits if debit.host == each.host]
        if (each.messages, each.micros) != (len(prices), sum(prices)):
            yield (
                f"{each.host} sums up {each.messages} messages at {each.micros} millionths, and "
                f"lists {len(prices)} at {sum(prices)}"
            )


def _on(host: str) -> str:
    return f"on {host}" if host else "in all"


def _inbound_kept(facts: Facts) -> Iterable[str]:
    shown: dict[str, set[str]] = defaultdict(set)
    for each in facts.history.shown:
        if each.direction == "inbound":
            shown[each.text].add(each.sid)
    # Whatever it answered: an application that fails to answer a text is not asked for ever.
    asked = {each.text for each in facts.history.callbacks}
    for text in facts.history.texts:
        if not text.is_acked:
            continue
        sids = shown[text.text]
        if len(sids) != 1:
            yield f"{text.text} was acknowledged, and is {len(sids)} messages"
        elif text.text not in asked:
            yield f"{text.text} was acknowledged, and the application was never asked"


def _no_contradiction(facts: Facts) -> Iterable[str]:
    accepted_at = {
        each.sid: each.until
        for each in reversed(facts.history.creates)
        if each.outcome is Outcome.ACCEPTED
    }
    for read in facts.history.reads:
        if read.http == 404 and read.at >= accepted_at.get(read.sid, float("inf")):
            yield f"{read.sid} was answered 201, and then 404 by {read.host}"
    shown = {(each.host, each.sid) for each in facts.history.shown}
    for sid in accepted_at:
        missing = [host for host in facts.history.hosts if (host, sid) not in shown]
        if missing:
            yield f"{sid} was answered 201, and {', '.join(missing)} does not list it"
    for text, tries in _by_text(facts.history.creates).items():
        if all(each.outcome is Outcome.REFUSED for each in tries) and (
            facts.taken[text] or facts.sids_of[text]
        ):
            yield f"{text} was surely not accepted, and is there"


def _by_text(creates: Sequence[Create]) -> Mapping[str, list[Create]]:
    found: dict[str, list[Create]] = defaultdict(list)
    for each in creates:
        found[each.text].append(each)
    return found


def _accept_gap(facts: Facts) -> Finding:
    name, promise = "I10", "the API does not pause"
    gap_ms = accept_gap_s(facts.history) * 1000.0
    note = f"the longest gap between two accepts was {gap_ms:.0f} ms"
    given_up = list(_never_accepted(facts))
    if given_up:
        examples = tuple(given_up[:EXAMPLES_MAX])
        return Finding(name, promise, Verdict.FAIL, len(given_up), examples, note)
    terms = facts.terms
    pauses = [*_waited_too_long(facts)]
    if terms.gap_max_ms is not None and gap_ms > terms.gap_max_ms:
        pauses.insert(0, f"{note}, and at most {terms.gap_max_ms:.0f}")
    if pauses:
        examples = tuple(pauses[:EXAMPLES_MAX])
        return Finding(name, promise, Verdict.FAIL, len(pauses), examples, note)
    is_judged = terms.gap_max_ms is not None or terms.wait_max_ms is not None
    return Finding(name, promise, Verdict.PASS if is_judged else Verdict.NOT_JUDGED, note=note)


def _waited_too_long(facts: Facts) -> Iterable[str]:
    """From when a create was due to its first 201, by so much longer than the quickest tenth took
    meanwhile. Where all of them wait, as on a machine that stands still, the gap tells."""
    most_s = (facts.terms.wait_max_ms or float("inf")) / 1000.0
    waits: list[tuple[Create, int, float]] = []
    together: dict[int, list[float]] = defaultdict(list)
    for tries in _by_text(facts.history.creates).values():
        answers = [each.until for each in tries if each.outcome is Outcome.ACCEPTED]
        if answers:
            wait_s = min(answers) - tries[0].due
            waits.append((tries[0], len(tries), wait_s))
            together[int(tries[0].due)].append(wait_s)
    usual_s = {second: sorted(taken)[len(taken) // 10] for second, taken in together.items()}
    paused: list[str] = []
    for first, count, wait_s in waits:
        if wait_s <= most_s:
            continue
        meanwhile = range(int(first.due), int(first.due + wait_s) + 1)
        if wait_s - max(usual_s.get(second, 0.0) for second in meanwhile) > most_s:
            words = f"{first.text} waited {wait_s:.3f} s in {count} tries, while others did not"
            paused.append(words)
    return paused if len(paused) > FEW_SHARE * len(waits) else ()


def _storm(facts: Facts) -> Finding:
    name, promise = "I11", "who fails is not stormed"
    most, tries = facts.terms.tries_max, tries_per_question(facts.history)
    if most is None or tries is None:
        return Finding(name, promise, Verdict.NOT_JUDGED, note="no fault that lasts")
    note = f"the carrier was asked {tries:.2f} times for each question that it did not answer"
    if tries > most:
        return Finding(name, promise, Verdict.FAIL, 1, (f"{note}, and at most {most:g}",), note)
    return Finding(name, promise, Verdict.PASS, note=note)


def _never_accepted(facts: Facts) -> Iterable[str]:
    """A create with a key is repeated for long: whoever gave up found no API. One without a key is
    not repeated when nobody knows what became of it."""
    accepted = set(facts.text_of.values())
    for text, tries in _by_text(facts.history.creates).items():
        is_repeated = tries[-1].key or tries[-1].outcome is Outcome.REFUSED
        if text not in accepted and is_repeated:
            yield f"{text} was tried {len(tries)} times, and never accepted"
    if not accepted:
        yield "nothing was accepted"


INVARIANTS: Final[Mapping[str, tuple[str, Callable[[Facts], Iterable[str]]]]] = {
    "I1": ("what was accepted is not lost", _kept),
    "I2": ("nothing is sent that was not asked for", _asked_for),
    "I3": ("nothing is sent twice unmarked", _sent_once),
    "I4": ("one key, one message", _one_key_one_message),
    "I5": ("a status never goes back", _status_never_back),
    "I6": ("every step is told, signed, under one token", _every_step_told),
    "I7": ("one debit a message", _one_debit_each),
    "I8": ("what a handset sent and we took is kept", _inbound_kept),
    "I9": ("no answer contradicts a later one", _no_contradiction),
}
