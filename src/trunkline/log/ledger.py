"""A shard's ledger: the chains of all its messages on one subject, many records in one write.

Each write is by compare-and-set on the subject's last sequence, so whoever writes has seen every
record that stands there, of whichever message; that no newer record of its own message stands there
follows. A chain is therefore what it would be on a subject of its own, for a tenth of the flushes.

A process knows the ledger's newest part by heart and leaves the rest to the read copy: a record may
be forgotten once the copy shows it. Nothing is ever concluded from a timeout or an empty read.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

import msgspec
import structlog

from trunkline.domain.events import Body, Kind
from trunkline.domain.message import Link, link_of
from trunkline.domain.sid import digits_of
from trunkline.kernel import Clock, Deadline
from trunkline.log.chain import Advanced, Stalled
from trunkline.log.event import (
    Event,
    UnreadableEvent,
    chain_subject,
    decode_all,
    encode_all,
)
from trunkline.log.interface import (
    Accepted,
    Exists,
    Log,
    Refused,
    Stored,
    Undecided,
    Unknown,
    Unreadable,
)
from trunkline.log.limits import TRY_TIMEOUT_S

RECORDS_MAX: Final = 256
"""Records in one write: some 80 KiB, a twelfth of what the engine takes in one message."""

LINKS_REMEMBERED_MAX: Final = 4_000
"""Messages of one shard whose newest record is kept in memory, about 400 bytes each; those of the
rest are looked up in the copy, for about 20 us each."""

LINKS_HELD_MAX: Final = 100_000
"""When the copy lags so far that this many cannot be forgotten, nothing more is written."""

CATCH_UP_MAX: Final = 256
"""Writes of others that are read in a row before it is looked again at what is waited for."""

log: Final = structlog.get_logger(__name__)


class Past(Protocol):
    """What the host's read copy knows of chains."""

    def sequence(self, shard: int) -> int:
        """Up to where the copy holds everything of the shard."""

    def link(self, digits: str, shard: int) -> Link | Unreadable | None:
        """The newest record of a message's chain in `shard` that the copy shows."""


@dataclass(frozen=True, slots=True)
class Overtaken:
    """The newest record of the chain is another one."""

    newest: Link


LedgerAnswer = Advanced | Overtaken | Stalled


class Wish(msgspec.Struct, frozen=True, gc=False):
    """A record that is to stand behind the record at `behind` (0: behind the original alone), of
    the message whose original stands at `original`."""

    record: Event
    body: Body
    original: int
    behind: int
    deadline: Deadline


@dataclass(slots=True, eq=False)
class Entry:
    """A wish that waits for its answer."""

    wish: Wish
    digits: str
    settle: Callable[[LedgerAnswer], None]


class Ledger:
    """One shard's ledger, as one process sees it. `round` may run in several tasks at once: then
    one of them is refused, and looks again."""

    def __init__(
        self,
        log: Log,
        shard: int,
        kind: Kind,
        *,
        past: Past,
        clock: Clock,
        links_max: int = LINKS_REMEMBERED_MAX,
    ) -> None:
        self._log = log
        self._shard = shard
        self._subject = chain_subject(shard, kind)
        self._past = past
        self._clock = clock
        self._links_max = links_max
        self._end: int | None = None
        self._forgotten_to = 0
        """Records behind this one are all in `_links`; older ones may have been forgotten."""
        self._links: OrderedDict[str, Link] = OrderedDict()
        self._pending: dict[Entry, None] = {}
        self._reason = "nothing was tried yet"

    @property
    def is_wanted(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._pending)

    def add(self, wish: Wish, settle: Callable[[LedgerAnswer], None]) -> Entry:
        """Have `wish` written by the next rounds; `settle` is told once what came of it."""
        entry = Entry(wish, digits_of(wish.record.sid), settle)
        self._pending[entry] = None
        return entry

    def withdraw(self, entry: Entry) -> None:
        """Nobody waits for it any more. What is on its way may still land."""
        self._pending.pop(entry, None)

    async def round(self) -> int | None:
        """Settle what can be, with one write at most: how many records were written. `None`: it
        came to nothing, and wants to be tried again after a pause."""
        self._give_up_overdue()
        try:
            if self._end is None and not await self._open():
                return None
            batch = self._writable()
            if not batch:
                return None if self._pending else 0
            return await self._write(batch)
        except UnreadableEvent as error:
            self._reason = f"the ledger of shard {self._shard} holds what cannot be read: {error}"
            log.error("ledger.unreadable", shard=self._shard, error=str(error))  # noqa: TRY400 - the text says it all
            return None

    async def _write(self, batch: Sequence[Entry]) -> int | None:
        expected = self._end
        records = [entry.wish.record for entry in batch]
        payload = encode_all(records)
        match await self._log.publish(
            self._shard, self._subject, payload, expected=expected, timeout_s=TRY_TIMEOUT_S
        ):
            case Accepted(sequence=sequence):
                self._absorb(sequence, [(entry.wish.record, entry.wish.body) for entry in batch])
                for entry in batch:
                    self._settle(entry, Advanced(sequence))
                return len(batch)
            case Exists():
                return 0 if await self._catch_up() or await self._is_trimmed() else None
            case Undecided():
                self._reason = "another write is under way"
            case Refused(reason=reason) | Unknown(reason=reason):
                self._reason = reason
            case other:
                assert_never(other)
        return None

    async def _open(self) -> bool:
        """Find the ledger's end, and read what the copy may not show yet."""
        known_to = self._past.sequence(self._shard)
        newest = await self._log.read_last(self._shard, self._subject, timeout_s=TRY_TIMEOUT_S)
        if isinstance(newest, Unreadable):
            self._reason = newest.reason
            return False
        if self._end is not None:
            return True  # another task was quicker
        self._forgotten_to = known_to
        # An empty read proves nothing: if something stands there, the first write is refused.
        self._end = min(known_to, newest.sequence) if newest is not None else 0
        if newest is None or newest.sequence <= known_to:
            return True
        await self._catch_up()
        return True

    async def _catch_up(self) -> bool:
        """Read on; whether anything was there."""
        has_moved = False
        for _ in range(CATCH_UP_MAX):
            found = await self._log.read_next(
                self._shard, self._subject, after=self._end or 0, timeout_s=TRY_TIMEOUT_S
            )
            if not isinstance(found, Stored):
                self._reason = found.reason if isinstance(found, Unreadable) else "an empty read"
                return has_moved
            self._absorb(
                found.sequence, [(event, event.body()) for event in decode_all(found.payload)]
            )
            has_moved = True
        return has_moved

    async def _is_trimmed(self) -> bool:
        """Whether the ledger's end is gone, with all that stood before it: then the next write is
        behind what is left, or the first. If that is not so, it will be refused."""
        newest = await self._log.read_last(self._shard, self._subject, timeout_s=TRY_TIMEOUT_S)
        if isinstance(newest, Unreadable) or self._end is None:
            return False
        left = newest.sequence if newest is not None else 0
        has_moved = left < self._end
        self._end = min(self._end, left)
        return has_moved

    def _absorb(self, sequence: int, records: Sequence[tuple[Event, Body]]) -> None:
        """The write at `sequence` stands, and is the next one behind what is known."""
        if self._end is not None and sequence <= self._end:
            return  # another task has read it meanwhile
        for event, body in records:
            link = link_of(event.id, event.type, body, shard=self._shard, sequence=sequence)
            digits = digits_of(event.sid)
            known = self._links.get(digits)
            if link is not None and (known is None or known.sequence < sequence):
                self._links[digits] = link
                self._links.move_to_end(digits)
        self._end = sequence
        self._forget()

    def _forget(self) -> None:
        """Leave to the copy what it shows."""
        if len(self._links) <= self._links_max:
            return
        shown_to = self._past.sequence(self._shard)
        while len(self._links) > self._links_max:
            digits, link = self._links.popitem(last=False)
            if link.sequence > shown_to:
                self._links[digits] = link
                self._links.move_to_end(digits, last=False)
                return
            self._forgotten_to = max(self._forgotten_to, link.sequence)

    def _writable(self) -> list[Entry]:
        """What may be written now; what somebody else has written behind is settled."""
        if len(self._links) >= LINKS_HELD_MAX:
            self._reason = "the read copy lags too far behind"
            return []
        batch: list[Entry] = []
        names: set[str] = set()
        for entry in tuple(self._pending):
            if entry.digits in names or len(batch) >= RECORDS_MAX:
                continue
            newest = self._newest(entry)
            if isinstance(newest, Unreadable):
                self._reason = newest.reason
                continue
            if newest is not None and newest.event_id == entry.wish.record.id:
                self._settle(entry, Advanced(newest.sequence))
            elif newest is not None and newest.sequence != entry.wish.behind:
                self._settle(entry, Overtaken(newest))
            else:
                names.add(entry.digits)
                batch.append(entry)
        return batch

    def _newest(self, entry: Entry) -> Link | Unreadable | None:
        """The newest record of the entry's chain; `None` when only its original stands."""
        link = self._links.get(entry.digits)
        if link is not None or (entry.wish.original > self._forgotten_to and not entry.wish.behind):
            return link
        if self._past.sequence(self._shard) < self._forgotten_to:
            return Unreadable("the read copy was made anew, and does not show enough yet")
        found = self._past.link(entry.digits, self._shard)
        if isinstance(found, Link):
            self._links[entry.digits] = found
            self._links.move_to_end(entry.digits, last=False)
        elif found is None and entry.wish.behind:
            return Unreadable("the read copy does not show the record to write behind")
        return found

    def _give_up_overdue(self) -> None:
        now = self._clock.monotonic()
        for entry in [each for each in self._pending if each.wish.deadline.at <= now]:
            self._settle(entry, Stalled(self._reason))

    def _settle(self, entry: Entry, answer: LedgerAnswer) -> None:
        if entry in self._pending:
            del self._pending[entry]
        entry.settle(answer)
