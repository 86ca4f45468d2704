"""What a drill comes to: one object that is printed as JSON, and shown to people as a table."""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

from trunkline.drills.backlog import Backlog, BacklogFigures, figures
from trunkline.drills.checker import (
    Facts,
    Finding,
    Terms,
    Verdict,
    accept_gap_s,
    accept_moments,
    check,
    tries_per_question,
)
from trunkline.drills.observer.records import Create, History, Outcome
from trunkline.drills.stage import Mark, Options

SLOW_S = 1.0
"""A create that took longer, or more than one try, was hurt by the fault."""


class Overall(StrEnum):
    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_RUN = "not-run"


class Moment(msgspec.Struct, frozen=True):
    """`at_s` counts from the first create."""

    at_s: float
    what: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Figures are None where they cannot be told; times have their unit in their name."""

    drill: str
    seed: int
    hosts: int
    verdict: Overall
    reason: str = ""
    is_possible: bool = True
    """False where this machine, or this number of hosts, cannot run it."""
    broken: str = ""
    rate_per_s: float | None = None
    seconds: float | None = None
    """How long the fault was told to last; None where it was left to the drill."""
    is_keyed: bool = True
    is_timing_judged: bool = False
    invariants: tuple[Finding, ...] = ()
    accepted: int = 0
    lost: int = 0
    doubled: int = 0
    ambiguous: int = 0
    unknown: int = 0
    """Creates of which the client never learned whether they were accepted."""
    accept_gap_ms: float | None = None
    slowest_accept_ms: float | None = None
    slowest_try_ms: float | None = None
    recovered_s: float | None = None
    attempts_per_request: float | None = None
    carrier_tries: float | None = None
    """Tries at each question that the carrier did not answer; see `checker.tries_per_question`."""
    duration_s: float = 0.0
    timeline: tuple[Moment, ...] = ()
    accepts_each_s: tuple[int, ...] = ()
    backlog: BacklogFigures | None = None
    """What became of the messages that waited, in the drill that is about them."""
    kept: str = ""
    """Where the witnesses' files are, if they were kept."""

    @property
    def red(self) -> list[str]:
        """The invariants that were broken."""
        return [each.invariant for each in self.invariants if each.verdict is Verdict.FAIL]


def not_recovered(drill: str, options: Options, reason: str) -> Result:
    """The hosts did not come back, so there was nobody left to ask what became of the messages."""
    ended = not_run(drill, options, reason, is_possible=True)
    failed: Result = msgspec.structs.replace(ended, verdict=Overall.FAIL)
    return failed


def not_run(drill: str, options: Options, reason: str, *, is_possible: bool = False) -> Result:
    return Result(
        drill=drill,
        seed=options.seed,
        hosts=options.hosts,
        verdict=Overall.NOT_RUN,
        reason=reason,
        is_possible=is_possible,
        broken=options.broken,
        rate_per_s=options.rate_per_s,
        seconds=options.seconds,
        is_keyed=options.is_keyed,
        is_timing_judged=options.is_timing_judged,
    )


def judge(
    drill: str,
    options: Options,
    history: History,
    terms: Terms,
    *,
    marks: Sequence[Mark],
    duration_s: float,
    backlog: Backlog | None = None,
) -> Result:
    """The checker's findings and the figures, of one drill that ran to its end."""
    findings = check(history, terms)
    is_broken = any(each.verdict is Verdict.FAIL for each in findings)
    facts = Facts(history, terms)
    moments = accept_moments(history)
    began = min((each.due for each in history.creates), default=0.0)
    gap_s = accept_gap_s(history)
    asked = {each.text for each in history.creates}
    carrier_tries = tries_per_question(history)
    return Result(
        drill=drill,
        seed=options.seed,
        hosts=options.hosts,
        verdict=Overall.FAIL if is_broken else Overall.PASS,
        reason=", ".join(each.invariant for each in findings if each.verdict is Verdict.FAIL),
        broken=options.broken,
        rate_per_s=options.rate_per_s,
        seconds=options.seconds,
        is_keyed=options.is_keyed,
        is_timing_judged=options.is_timing_judged,
        invariants=findings,
        accepted=len(facts.text_of),
        lost=len(facts.lost()),
        doubled=len(facts.doubled()),
        ambiguous=len(facts.ambiguous),
        unknown=len(_never_learned(history)),
        accept_gap_ms=None if gap_s == float("inf") else round(gap_s * 1000.0, 1),
        slowest_accept_ms=_slowest_ms(history, lambda each: each.due),
        slowest_try_ms=_slowest_ms(history, lambda each: each.at),
        recovered_s=_recovered_s(history, marks),
        attempts_per_request=round(len(history.creates) / len(asked), 3) if asked else None,
        carrier_tries=None if carrier_tries is None else round(carrier_tries, 2),
        duration_s=round(duration_s, 1),
        timeline=tuple(Moment(round(each.at - began, 2), each.what) for each in marks),
        accepts_each_s=_each_second(moments, began),
        backlog=None if backlog is None else _figures_of(backlog, facts),
    )


def _figures_of(backlog: Backlog, facts: Facts) -> BacklogFigures:
    lost = frozenset(facts.text_of[sid] for sid in facts.lost())
    return figures(backlog, facts.history, lost=lost, doubled=frozenset(facts.doubled()))


def _never_learned(history: History) -> set[str]:
    told = {each.text for each in history.creates if each.outcome is Outcome.ACCEPTED}
    return {each.text for each in history.creates if each.outcome is Outcome.UNKNOWN} - told


def _slowest_ms(history: History, since: Callable[[Create], float]) -> float | None:
    taken = [
        each.until - since(each) for each in history.creates if each.outcome is Outcome.ACCEPTED
    ]
    return round(max(taken) * 1000.0, 1) if taken else None


def _recovered_s(history: History, marks: Sequence[Mark]) -> float | None:
    """From the first mark to the answer of the last create that the fault hurt; None if one of them
    was never answered."""
    if not marks:
        return None
    tries = Counter(each.text for each in history.creates)
    accepted = {each.text: each for each in history.creates if each.outcome is Outcome.ACCEPTED}
    if len(accepted) < len(tries):
        return None
    hurt = [
        each.until
        for text, each in accepted.items()
        if each.due >= marks[0].at - SLOW_S and (tries[text] > 1 or each.until - each.due > SLOW_S)
    ]
    return round(max(0.0, max(hurt, default=marks[0].at) - marks[0].at), 2)


def _each_second(moments: Sequence[float], began: float) -> tuple[int, ...]:
    counts = Counter(int(at - began) for at in moments)
    return tuple(counts[second] for second in range(max(counts, default=-1) + 1))
