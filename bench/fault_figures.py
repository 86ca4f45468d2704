"""What a fault cost, from what the load and the carrier saw: gaps, slow creates, late hand-overs.

Nothing here reads a clock. All times are seconds of the load's own clock, and a window holds its
beginning and not its end.
"""

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from trunkline.log.names import SHARED_DIGITS
from trunkline.log.shards import order

ON_TIME_S: Final = 0.5
"""A message whose shard kept its leader is to be with the carrier so soon after its 201."""
LAST_GOAL_S: Final = 12.0
"""The last late one is to be with the carrier so soon after the fault began: an engine takes up to
nine seconds to replace a leader."""
SEEN_LATE_S: Final = 2.5
"""A host looks each second who leads, for up to half a second, and leaves what it knows each second."""
PREFIX_LETTERS: Final = 2
"""`SM`, before the 32 digits of a SID."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One create, answered; `text` and `sid` are empty where it was not accepted."""

    status: int
    due_at: float
    at: float
    text: str = ""
    sid: str = ""

    @property
    def is_accepted(self) -> bool:
        return self.status == 201

    @property
    def took_s(self) -> float:
        return self.at - self.due_at


@dataclass(frozen=True, slots=True)
class Arrival:
    """The carrier was handed this text, and whether the host said that it may be a repeat."""

    text: str
    at: float
    is_marked: bool = False


@dataclass(frozen=True, slots=True)
class Stall:
    """The load's own loop stood still: it came round at `at`, and was late by so much."""

    at: float
    late_s: float


@dataclass(frozen=True, slots=True)
class Look:
    """Which hosts led a shard and its consumers at that moment, by shard; empty where it was not
    known of all of them."""

    at: float
    leaders: Mapping[int, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Unrest:
    """Somewhere in this time a leader of the shard changed, or there was none."""

    shard: int
    began_at: float
    ended_at: float


@dataclass(frozen=True, slots=True)
class Change:
    """Between two looks the hosts that lead a shard and its consumers became others; none are named
    where one of them was not known. `after_s` is from the fault's beginning to the second look."""

    after_s: float
    shard: int
    was: tuple[str, ...]
    now: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """From one accepted create to the next."""

    began_at: float
    ended_at: float

    @property
    def seconds(self) -> float:
        return self.ended_at - self.began_at


@dataclass(frozen=True, slots=True)
class Window:
    """How creates fared in a part of the run: those answered in it count as accepted or refused, and
    those due in it for how long they took. `gap_stall_ms` is the longest stall of the load within
    the gap: so much of it may be the load's own. The gap began `gap_at_s` after the window did, and
    the slowest create was due `slowest_at_s` after it."""

    accepted: int
    refused: Mapping[int, int]
    gap_ms: float
    gap_at_s: float
    gap_stall_ms: float
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    slowest_at_s: float
    load_stall_ms: float


@dataclass(frozen=True, slots=True)
class HandOvers:
    """How late after their 201 messages came to the carrier. `last_late_s` is how long after the
    fault began the last one came that was not on time; None where all were. `late_by_second` counts
    the late ones by the whole second since the fault in which they were accepted."""

    messages: int
    missing: int
    late: int
    p50_s: float
    p99_s: float
    slowest_s: float
    last_late_s: float | None
    late_by_second: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Whether each accepted message arrived exactly once. One of which a host says that nobody knows
    whether the carrier took it is `ambiguous` and neither lost nor an unmarked double."""

    accepted: int
    ambiguous: int
    lost: Sequence[str] = field(default_factory=tuple)
    doubled: Sequence[str] = field(default_factory=tuple)
    doubled_unmarked: Sequence[str] = field(default_factory=tuple)


def longest_gap(moments: Sequence[float], began_at: float, ended_at: float) -> Gap:
    """Of all that reach into the window, with their whole length; `moments` are in order. What came
    never counts as coming when the window ends."""
    before = [at for at in moments if at < began_at][-1:] or [began_at]
    within = [at for at in moments if began_at <= at < ended_at]
    after = [at for at in moments if at >= ended_at][:1] or [ended_at]
    gaps = [Gap(*pair) for pair in pairwise([*before, *within, *after])]
    return max(gaps, key=lambda gap: gap.seconds)


def window(
    answers: Iterable[Answer], stalls: Iterable[Stall], began_at: float, ended_at: float
) -> Window:
    answers = tuple(answers)
    within = [each for each in answers if began_at <= each.at < ended_at]
    gap = longest_gap(sorted(each.at for each in answers if each.is_accepted), began_at, ended_at)
    taken = [e for e in answers if e.is_accepted and began_at <= e.due_at < ended_at]
    took_ms = sorted(each.took_s * 1000.0 for each in taken)
    slowest = max(taken, key=lambda each: each.took_s, default=None)
    stalls = tuple(stalls)
    return Window(
        accepted=sum(each.is_accepted for each in within),
        refused=dict(Counter(each.status for each in within if not each.is_accepted)),
        gap_ms=gap.seconds * 1000.0,
        gap_at_s=gap.began_at - began_at,
        gap_stall_ms=longest_stall_ms(stalls, gap.began_at, gap.ended_at),
        p50_ms=percentile(took_ms, 0.50),
        p99_ms=percentile(took_ms, 0.99),
        slowest_ms=percentile(took_ms, 1.0),
        slowest_at_s=0.0 if slowest is None else slowest.due_at - began_at,
        load_stall_ms=longest_stall_ms(stalls, began_at, ended_at),
    )


def longest_stall_ms(stalls: Iterable[Stall], began_at: float, ended_at: float) -> float:
    """Of those that reach into the window."""
    late_s = [
        each.late_s for each in stalls if each.at > began_at and each.at - each.late_s < ended_at
    ]
    return max(late_s, default=0.0) * 1000.0


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of values in order; 0 where there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def first_shard(sid: str, shards: int) -> int:
    """Where a create without a key is tried first: its register is what its SID begins with."""
    return order(sid[PREFIX_LETTERS:][:SHARED_DIGITS], shards)[0]


def unrest(looks: Sequence[Look]) -> list[Unrest]:
    """What can be seen of it from outside. The looks are in order; what they show may be older than
    they are by `SEEN_LATE_S`."""
    found: list[Unrest] = []
    for earlier, later in pairwise(looks):
        for shard in earlier.leaders.keys() | later.leaders.keys():
            was, now = (each.leaders.get(shard, frozenset()) for each in (earlier, later))
            if not was or was != now:
                found.append(Unrest(shard, earlier.at - SEEN_LATE_S, later.at))
    return found


def changes(looks: Sequence[Look], fault_at: float) -> list[Change]:
    """Each that was seen, in order."""
    return [
        Change(later.at - fault_at, shard, tuple(sorted(was)), tuple(sorted(now)))
        for earlier, later in pairwise(looks)
        for shard, now in later.leaders.items()
        if (was := earlier.leaders.get(shard, frozenset())) != now
    ]


@dataclass(frozen=True, slots=True)
class Classes:
    """Messages by what became of the shard that they were tried in first: the victim led it, or one
    of its consumers, when the fault began; or a leader of it changed while they were under way; or
    neither, and these are to be on time."""

    led_by_victim: Sequence[Answer]
    leader_changed: Sequence[Answer]
    steady: Sequence[Answer]


def classes(
    answers: Iterable[Answer],
    first: Mapping[str, float],
    *,
    hurt: Collection[int],
    unrests: Sequence[Unrest],
    shards: int,
) -> Classes:
    """`hurt` are the shards of which the victim led something."""
    of_victim: list[Answer] = []
    changed: list[Answer] = []
    steady: list[Answer] = []
    for each in answers:
        shard = first_shard(each.sid, shards)
        until = first.get(each.text, float("inf"))
        if shard in hurt:
            of_victim.append(each)
        elif any(
            one.shard == shard and one.began_at < until and one.ended_at > each.due_at
            for one in unrests
        ):
            changed.append(each)
        else:
            steady.append(each)
    return Classes(of_victim, changed, steady)


def first_arrivals(arrivals: Iterable[Arrival]) -> dict[str, float]:
    """When each text first came to the carrier."""
    first: dict[str, float] = {}
    for each in arrivals:
        first[each.text] = min(each.at, first.get(each.text, each.at))
    return first


def in_hand(answers: Iterable[Answer], first: Mapping[str, float], fault_at: float) -> list[Answer]:
    """What the fault can have hurt: accepted and not with the carrier when it began, or accepted
    later."""
    return [
        each
        for each in answers
        if each.is_accepted and (each.at >= fault_at or first.get(each.text, fault_at) >= fault_at)
    ]


def hand_overs(answers: Iterable[Answer], first: Mapping[str, float], fault_at: float) -> HandOvers:
    """How late each of these was; the carrier may have it before the load has its 201."""
    answers = tuple(answers)
    came = [(each, first[each.text]) for each in answers if each.text in first]
    late = [(each, at) for each, at in came if at - each.at > ON_TIME_S]
    lags_s = sorted(max(0.0, at - each.at) for each, at in came)
    return HandOvers(
        messages=len(answers),
        missing=len(answers) - len(came),
        late=len(late),
        p50_s=percentile(lags_s, 0.50),
        p99_s=percentile(lags_s, 0.99),
        slowest_s=percentile(lags_s, 1.0),
        last_late_s=max(at for _, at in late) - fault_at if late else None,
        late_by_second=dict(
            sorted(Counter(math.floor(each.at - fault_at) for each, _ in late).items())
        ),
    )


def deliveries(
    answers: Iterable[Answer], arrivals: Iterable[Arrival], ambiguous: Collection[str]
) -> Deliveries:
    """`ambiguous` are the SIDs of which a host says so. A repeat is marked by the host that handed it
    over, or by what the hosts say of the message since."""
    sid_of = {each.text: each.sid for each in answers if each.is_accepted}
    repeats: dict[str, list[Arrival]] = {}
    seen: set[str] = set()
    for each in sorted(arrivals, key=lambda arrival: arrival.at):
        if each.text in seen:
            repeats.setdefault(each.text, []).append(each)
        seen.add(each.text)
    missing = [text for text in sid_of if text not in seen]
    unmarked = [
        text
        for text, again in repeats.items()
        if sid_of.get(text, "") not in ambiguous and not all(each.is_marked for each in again)
    ]
    return Deliveries(
        accepted=len(sid_of),
        ambiguous=len(ambiguous),
        lost=tuple(text for text in missing if sid_of[text] not in ambiguous),
        doubled=tuple(repeats),
        doubled_unmarked=tuple(unmarked),
    )


def median_and_worst(
    runs: Sequence[Mapping[str, float | None]],
) -> dict[str, tuple[float | None, float | None]]:
    """Of each figure over the runs that have it: more is worse, in all of them."""
    names = dict.fromkeys(name for run in runs for name in run)
    found: dict[str, tuple[float | None, float | None]] = {}
    for name in names:
        values = [value for run in runs if (value := run.get(name)) is not None]
        found[name] = (statistics.median(values), max(values)) if values else (None, None)
    return found
