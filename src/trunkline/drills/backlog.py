"""Messages that waited while the carrier took nothing: when each of them was handed over after all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from trunkline.drills.observer.records import History, Submission

SOON_S: Final = 1.0
"""Within this, delivery is to go on where no shard has lost its leader."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The texts that were waiting, and the wall clock of what was done. `victim` is the host that
    was hurt, as it calls itself to the carrier."""

    texts: tuple[str, ...]
    victim: str
    hurt_at: float
    opened_at: float


class BacklogFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are of messages. Times are of hand-overs, None where there was none."""

    messages: int
    lost: int
    doubled: int
    early: int
    """Handed over before the carrier was open again: a carrier that was not closed."""
    first_after_kill_s: float | None
    last_after_kill_s: float | None
    first_after_open_s: float | None
    last_after_open_s: float | None
    within_1_s: int
    """Of the messages, in the first second after the carrier was open again."""
    first_after_open_s_by_host: Mapping[str, float]


def figures(
    backlog: Backlog, history: History, *, lost: frozenset[str], doubled: frozenset[str]
) -> BacklogFigures:
    """`lost` and `doubled` are the texts that the judge found to be so, of all."""
    taken = _first_taken(backlog, history)
    moments = sorted(each.at for each in taken.values())
    after = [at for at in moments if at >= backlog.opened_at]
    by_host: dict[str, float] = {}
    for each in sorted(taken.values(), key=lambda each: each.at):
        if each.at >= backlog.opened_at:
            by_host.setdefault(each.bind, _seconds(each.at - backlog.opened_at))
    return BacklogFigures(
        messages=len(backlog.texts),
        lost=len(lost.intersection(backlog.texts)),
        doubled=len(doubled.intersection(backlog.texts)),
        early=len(moments) - len(after),
        first_after_kill_s=_seconds(after[0] - backlog.hurt_at) if after else None,
        last_after_kill_s=_seconds(after[-1] - backlog.hurt_at) if after else None,
        first_after_open_s=_seconds(after[0] - backlog.opened_at) if after else None,
        last_after_open_s=_seconds(after[-1] - backlog.opened_at) if after else None,
        within_1_s=sum(at - backlog.opened_at <= SOON_S for at in after),
        first_after_open_s_by_host=by_host,
    )


def _first_taken(backlog: Backlog, history: History) -> Mapping[str, Submission]:
    """By text: the first time that the carrier was given it and did not turn it away."""
    texts = frozenset(backlog.texts)
    first: dict[str, Submission] = {}
    for each in sorted(history.submissions, key=lambda each: each.at):
        if each.is_taken and each.text in texts:
            first.setdefault(each.text, each)
    return first


def _seconds(value: float) -> float:
    return round(value, 3)
