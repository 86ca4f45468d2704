"""Protections that can be left out, to see that the drills find it: each is one part, made worse.

A judge that was never seen to fail proves nothing. `host.break_protection` names a row; it is refused
on every data folder that is not a drill's, that is, below a folder with a file `trunkline-drill`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from trunkline.domain.events import Kind, Type
from trunkline.domain.message import Link
from trunkline.host.refusal import ConfigError
from trunkline.kernel import Clock, Deadline
from trunkline.log.event import UnreadableEvent, decode_all
from trunkline.log.interface import Accepted, Log, PublishAnswer, Unreadable
from trunkline.log.ledger import Entry, Ledger, Past
from trunkline.log.ledgers import Ledgers
from trunkline.messaging.accept import AcceptAnswer, Acceptor, NewMessage

MARK: Final = "trunkline-drill"
MARKED_ABOVE_MAX: Final = 3
"""So far above a data folder the mark may be: a drill's hosts lie below it."""


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


class _Unfenced:
    """A log that says that a tombstone stands, and stores none."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    async def publish(
        self, shard: int, subject: str, payload: bytes, *, expected: int | None, timeout_s: float
    ) -> PublishAnswer:
        if _is_tombstone(payload):
            return Accepted(1)
        return await self._log.publish(
            shard, subject, payload, expected=expected, timeout_s=timeout_s
        )


def _is_tombstone(payload: bytes) -> bool:
    try:
        return decode_all(payload)[0].type is Type.TOMBSTONE
    except UnreadableEvent:
        return False


ABLATIONS: Final[Mapping[str, Parts]] = {
    "flush": Parts(is_flushed=False),
    "claims": Parts(ledgers=BlindLedgers),
    "fencing": Parts(fenced=lambda log: cast("Log", _Unfenced(log))),
    "dedupe": Parts(acceptor=KeylessAcceptor),
    "order": Parts(is_ordered=False),
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
