"""News: accounts and keys that changed a moment ago, told to every host by the one that did it.

A host knows who may act from its copy, which is a little behind, and more than a little while a shard
chooses a leader. A key that was deleted must not go on opening doors for as long. So whoever changes
an account or a key tells all others at once what it is now, with the place in the log where that is
written, and the word of the newest place counts until the copy has passed it. What nobody heard is
seen in the copy, later: news are never the only road.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from trunkline.domain.account import Account, AccountStatus
from trunkline.domain.key import Key
from trunkline.log.interface import Bus, Unreadable
from trunkline.replica.queries import Replica

SUBJECT: Final = "news"

HEARD_MAX: Final = 4096
"""Changes that are remembered until the copy shows them: normally those of some milliseconds."""
ACTIVE_MAX: Final = 4096
"""Accounts of which it is remembered, between two moves of the copy, whether they may act."""

log: Final = structlog.get_logger(__name__)


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What stands now under `sid`, by the event at `sequence` of `shard`; neither of the two when it
    was deleted."""

    sid: str
    shard: int
    sequence: int
    account: Account | None = None
    key: Key | None = None


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Change)


class News:
    """Accounts and keys as they are, by the copy and by what is newer than it."""

    def __init__(self, bus: Bus, replica: Replica) -> None:
        self._bus = bus
        self._replica = replica
        self._changes: OrderedDict[str, Change] = OrderedDict()
        self._count = 0
        self._count_written = b"0:"
        self._active: dict[str, bool] = {}
        self._active_of = b""

    def listen(self) -> Callable[[], None]:
        """Hear what others change. Gives what ends it."""
        return self._bus.subscribe(SUBJECT, self._hear)

    def tell(self, change: Change) -> None:
        """Have it known here at once, and everywhere as soon as it is heard."""
        self._take(change)
        self._bus.send(SUBJECT, _ENCODER.encode(change))

    def account(self, sid: str) -> Account | None:
        change = self._newer(sid)
        return self._replica.account(sid) if change is None else change.account

    def key(self, sid: str) -> Key | None:
        change = self._newer(sid)
        return self._replica.key(sid) if change is None else change.key

    def is_active(self, account: str) -> bool | Unreadable:
        """Whether the account may send, and has what it receives answered. One that is not known here
        yet is taken for active: nothing could have been accepted for it if it were not."""
        version = self.version()
        if version != self._active_of or len(self._active) >= ACTIVE_MAX:
            self._active.clear()
            self._active_of = version
        known = self._active.get(account)
        if known is None:
            try:
                found = self.account(account)
            except sqlite3.Error as error:
                return Unreadable(f"the read copy cannot be read: {error}")
            known = self._active[account] = found is None or found.is_active
        return known

    def is_closed(self, account: str) -> bool:
        """Whether it is known to be closed, for good."""
        found = self.account(account)
        return found is not None and found.status is AccountStatus.CLOSED

    def version(self) -> bytes:
        """Another one whenever an account or a key may be another than before."""
        return self._count_written + self._replica.version()

    def _hear(self, subject: str, payload: bytes) -> None:
        del subject
        try:
            change = _DECODER.decode(payload)
        except msgspec.MsgspecError as error:
            # Of a newer program, perhaps. The copy will show it, or say that it cannot.
            log.warning("news.unreadable", reason=str(error))
            return
        self._take(change)

    def _take(self, change: Change) -> None:
        known = self._newer(change.sid)
        if known is not None and known.sequence >= change.sequence:
            return  # words may overtake one another
        if self._replica.sequence(change.shard) >= change.sequence:
            return
        self._count += 1
        self._count_written = b"%d:" % self._count
        self._changes[change.sid] = change
        self._changes.move_to_end(change.sid)
        if len(self._changes) > HEARD_MAX:
            self._changes.popitem(last=False)

    def _newer(self, sid: str) -> Change | None:
        """What was heard of it and the copy does not show."""
        change = self._changes.get(sid)
        if change is None or self._replica.sequence(change.shard) < change.sequence:
            return change
        del self._changes[sid]
        return None
