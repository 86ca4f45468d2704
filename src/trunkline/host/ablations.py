"""Protections that can be left out, to see that the drills find it: each is one part, made worse.

A judge that was never seen to fail proves nothing. `host.break_protection` names a row; it is refused
on every data folder that is not a drill's, that is, below a folder with a file `trunkline-drill`.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from trunkline.domain.events import Kind
from trunkline.domain.message import Link
from trunkline.host.ablated_logs import Forgetful, Undiverted, Unfenced, Unhurried
from trunkline.host.refusal import ConfigError
from trunkline.kernel import RETRY_BUDGET, BudgetLimits, Clock, Deadline
from trunkline.log.interface import Log, RetainedLog, Unreadable
from trunkline.log.ledger import Entry, Ledger, Past
from trunkline.log.ledgers import Ledgers
from trunkline.messaging.accept import AcceptAnswer, Acceptor, NewMessage
from trunkline.replica import schema

MARK: Final = "trunkline-drill"
MARKED_ABOVE_MAX: Final = 3
"""So far above a data folder the mark may be: a drill's hosts lie below it."""

UNBOUNDED: Final = BudgetLimits(ratio=0.0, per_s=float("inf"))
"""Every retry is affordable."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the composition root takes; the defaults are the real ones."""

    acceptor: type[Acceptor] = Acceptor
    ledgers: type[Ledgers] = Ledgers
    fenced: Callable[[Log], Log] = lambda log: log
    """What dispatch fences through."""
    is_ordered: bool = True
    """Whether a callback waits for the one before."""
    is_flushed: bool = True
    """Whether the engine flushes before it answers."""
    stored: Callable[[Log, Clock], Log] = lambda log, _: log
    """What creates are stored through."""
    is_watched: bool = True
    """Whether the engines of a cluster ask each other every second whether they are there."""
    retry_budget: BudgetLimits = RETRY_BUDGET
    """Of the pools towards the carrier."""
    copied: Callable[[RetainedLog, Path, float], RetainedLog] = lambda log, _, __: log
    """What the read copy is made from: of a log, the copy's file, and the wall time now."""


class KeylessAcceptor(Acceptor):
    """A key names nothing: every create is another message."""

    async def accept(self, new: NewMessage, *, key: str | None, deadline: Deadline) -> AcceptAnswer:  # noqa: ARG002 - its fault
        return await super().accept(new, key=None, deadline=deadline)


class _BlindLedger(Ledger):
    """Takes a claim whatever stands there."""

    def _newest(self, entry: Entry) -> Link | Unreadable | None:
        return super()._newest(entry) if entry.wish.behind else None


class BlindLedgers(Ledgers):
    """Ledgers of which no worker sees what another one claimed."""

    def __init__(self, log: Log, kind: Kind, *, past: Past, clock: Clock) -> None:
        super().__init__(log, kind, past=past, clock=clock)
        self._ledgers = [
            _BlindLedger(log, shard, kind, past=past, clock=clock) for shard in range(log.shards)
        ]


def _forgetful(log: RetainedLog, copy: Path, now: float) -> RetainedLog:
    """A copy that was begun is followed up as ever; an empty one begins with what comes now."""
    return log if _is_begun(copy) else cast("RetainedLog", Forgetful(log, now))


def _is_begun(copy: Path) -> bool:
    if not copy.exists():
        return False
    with contextlib.closing(schema.open_for_reading(copy)) as database:
        return bool(schema.cursors(database))


ABLATIONS: Final[Mapping[str, Parts]] = {
    "flush": Parts(is_flushed=False),
    "claims": Parts(ledgers=BlindLedgers),
    "fencing": Parts(fenced=lambda log: cast("Log", Unfenced(log))),
    "dedupe": Parts(acceptor=KeylessAcceptor),
    "order": Parts(is_ordered=False),
    "budget": Parts(retry_budget=UNBOUNDED),
    "timeouts": Parts(stored=lambda log, _: cast("Log", Unhurried(log)), is_watched=False),
    "diversion": Parts(stored=lambda log, clock: cast("Log", Undiverted(log, clock))),
    "copies": Parts(copied=_forgetful),
}


def parts_of(broken: str, data: Path) -> Parts:
    """The real parts, or those with the protection `broken` left out. Raises `ConfigError` where
    that is asked for outside of a drill."""
    if not broken:
        return Parts()
    above = data.absolute().parents[:MARKED_ABOVE_MAX]
    if not any((folder / MARK).is_file() for folder in above):
        raise ConfigError(
            f"host.break_protection is {broken!r}, and {data} is not the data folder of a drill",
            "unset it: it loses or doubles messages on purpose",
        )
    return ABLATIONS[broken]
