"""From events to rows: the writer's side of the copy, committed batch by batch."""

import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from trunkline.domain.events import ONE_REGISTER, Body, Kind, Type
from trunkline.domain.message import Link, Message, fold, link_of, merge
from trunkline.domain.sid import digits_of
from trunkline.log.append import is_late
from trunkline.log.event import Event, is_changed
from trunkline.log.interface import Stored
from trunkline.replica.account_rows import Statement
from trunkline.replica.callback_tables import note_callbacks
from trunkline.replica.money_tables import Owed, Sums, note_keyword, owed_by
from trunkline.replica.record_rows import statements_of
from trunkline.replica.reply_rows import reply_at

MESSAGES_CACHED_MAX: Final = 20_000
"""Messages whose events still come are folded from memory; about 1 KiB each."""

ROWS_AT_ONCE_MAX: Final = 40

_ENCODER: Final = msgspec.msgpack.Encoder()
_MESSAGE: Final = msgspec.msgpack.Decoder(Message)

# An index is written anew only where its columns change: most changes are of the state alone.
_COLUMNS: Final = (
    *("digits", "sid", "account", "sender", "recipient", "created_at", "sent_or_created_at"),
    *("state", "reply_at"),
)
_OWED_COLUMNS: Final = ("owed_category", "owed_day", "owed_segments", "owed_micros")


def _put(columns: Sequence[str]) -> str:
    changes = ", ".join(f"{each} = excluded.{each}" for each in columns[1:])
    marks = ", ".join("?" * len(columns))
    return (
        f"INSERT INTO message ({', '.join(columns)}) VALUES ({marks}) "  # noqa: S608 - fixed words only
        f"ON CONFLICT (digits) DO UPDATE SET {changes}"
    )


_PUT_MESSAGE: Final = _put(_COLUMNS)
"""For one that owes nothing and never did, which every message is at first."""
_PUT_OWING_MESSAGE: Final = _put((*_COLUMNS, *_OWED_COLUMNS))
_FIND_MESSAGE: Final = (
    "SELECT state, account, owed_category, owed_day, owed_segments, owed_micros "
    "FROM message WHERE digits = ?"
)
_PUT_CURSOR: Final = "INSERT OR REPLACE INTO cursor VALUES (?, ?)"


class Folding:
    """What has changed since the last commit, and the recent messages."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._recent: OrderedDict[str, Message] = OrderedDict()
        self._changed: set[str] = set()
        self._absent: frozenset[str] = frozenset()
        """Those of the next messages that surely have no row."""
        self._owed: dict[str, Owed | None] = {}
        """What the rows of recent messages say that they owe, as far as they ever owed anything."""
        self._owing: dict[str, Owed | None] = {}
        """The same of the rows that were written and are not committed."""
        self.writes_keywords = False
        """Whether who has opted out may be another when what was added is committed: by a stop, by a
        start, or because a number has another owner, for whom earlier ones count or do not."""
        self._records: list[Statement] = []
        self._cursors: dict[int, int] = {}

    @property
    def rows(self) -> int:
        """How many messages have changed since the last commit."""
        return len(self._changed)

    def look_up(self, events: Sequence[Event]) -> None:
        """Learn in one reading which of the messages have no row: nearly all that were created
        together. Holds for the transaction that was begun, and until the next look."""
        asked = [digits_of(event.sid) for event in events]
        marks = ", ".join("?" * len(asked))
        found = self._database.execute(
            f"SELECT digits FROM message WHERE digits IN ({marks})",  # noqa: S608 - marks only
            asked,
        )
        self._absent = frozenset(asked).difference(digits for (digits,) in found)

    def add(self, event: Event, body: Body, stored: Stored) -> None:
        """Take in one event; a late original is closed and changes nothing.

        A number's is never closed, nor that of anything else with one register: no earlier one can
        have been missed.
        """
        is_closable = event.type is Type.ORIGINAL and event.kind not in ONE_REGISTER
        if is_closable and is_late(event, stored.at):
            return
        if event.type is Type.NOTICE:
            return  # it changes nothing about the message
        match event.kind:
            case Kind.MESSAGE | Kind.INBOUND:
                self._add_to_message(event, body, stored)
            case Kind.NUMBER | Kind.APPLICATION | Kind.ACCOUNT | Kind.KEY:
                self._records += statements_of(event, body, stored.subject)
                self.writes_keywords |= event.kind is Kind.NUMBER

    def mend(self, theirs: Message) -> None:
        """Merge in what a peer knows of a message; a record of ours that cannot be read gives way."""
        digits = digits_of(theirs.sid)
        ours = self._recent.get(digits)
        if ours is None:
            try:
                ours = self._stored(digits)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                ours = None
        merged = theirs if ours is None else merge(ours, theirs)
        self._recent[digits] = merged
        self._changed.add(digits)

    def begin(self) -> None:
        """Open the transaction in which the next events are looked up and written: outside of one,
        each look takes and gives back the file's locks."""
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")

    def move(self, shard: int, sequence: int) -> None:
        self._cursors[shard] = sequence

    def write(self) -> None:
        """Put rows and cursors into one open transaction; `commit` or `take_back` ends it."""
        for _ in self.write_in_steps():
            pass

    def write_in_steps(self) -> Iterator[None]:
        """The same, some hundred microseconds at a time: all of it in one go, a thousand rows would
        keep everybody else in the process waiting."""
        database = self._database
        self._absent = frozenset()
        self.begin()
        sums = Sums()
        self._owing.clear()
        changed = tuple(self._changed)
        for start in range(0, len(changed), ROWS_AT_ONCE_MAX):
            self._write_messages(changed[start : start + ROWS_AT_ONCE_MAX], sums)
            yield
        sums.write(database)
        for statement, values in self._records:  # in the order in which they happened
            database.execute(statement, values)
        database.executemany(_PUT_CURSOR, self._cursors.items())

    def _write_messages(self, part: Sequence[str], sums: Sums) -> None:
        rows, owing_rows = [], []
        for digits in part:
            message = self._recent[digits]
            row = _message_row(digits, message)
            was, now = self._owed.get(digits), owed_by(message)
            if now is not None:
                owing_rows.append((*row, *now[1:]))
                self._owing[digits] = now
            elif was is not None:
                self._owing[digits] = None
                owing_rows.append((*row, None, None, None, None))
            else:
                rows.append(row)
            if was != now:
                sums.change(was, now)
            if message.received is not None and note_keyword(self._database, message):
                self.writes_keywords = True
            note_callbacks(self._database, message)
        self._database.executemany(_PUT_MESSAGE, rows)
        self._database.executemany(_PUT_OWING_MESSAGE, owing_rows)

    def commit(self) -> None:
        """Flush the transaction; may be called from another thread, and nothing else meanwhile."""
        self._database.execute("COMMIT")

    def take_back(self) -> None:
        """Undo `write`; what has changed is still here, to be written again."""
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def forget_written(self) -> None:
        """After a commit."""
        self._owed.update(self._owing)
        self._owing.clear()
        self.writes_keywords = False
        self._changed.clear()
        self._records.clear()
        self._cursors.clear()
        while len(self._recent) > MESSAGES_CACHED_MAX:
            digits, _ = self._recent.popitem(last=False)
            self._owed.pop(digits, None)

    def close(self) -> None:
        self._database.close()

    def _add_to_message(self, event: Event, body: Body, stored: Stored) -> None:
        digits = digits_of(event.sid)
        message = self._recent.get(digits)
        if message is None:
            message = self._stored(digits) or Message(account=event.account)
        self._recent[digits] = fold(
            message,
            body,
            at=event.at,
            event_id=event.id,
            position=event.position,
            link=_link(event, body, stored),
        )
        self._recent.move_to_end(digits)
        self._changed.add(digits)

    def _stored(self, digits: str) -> Message | None:
        """What the row says, which is not in memory. What it owes is kept in mind also where the rest
        cannot be read, and this raises `msgspec.MsgspecError` or `UnicodeDecodeError`."""
        if digits in self._absent:
            return None
        row = self._database.execute(_FIND_MESSAGE, (digits,)).fetchone()
        if row is None:
            return None
        state, account, category, day, segments, micros = row
        if category is not None:
            self._owed[digits] = (account, category, day, segments, micros)
        return _MESSAGE.decode(state)


def _link(event: Event, body: Body, stored: Stored) -> Link | None:
    """The link that the event is; what stands beside the chains is none, whatever it says."""
    if is_changed(stored.subject):
        return None
    return link_of(event.id, event.type, body, shard=stored.shard, sequence=stored.sequence)


def _message_row(digits: str, message: Message) -> tuple[object, ...]:
    """The columns of a message but for what it owes; one that no list shows, because its original is not there yet or it
    was deleted, has a creation time of zero."""
    original = None if message.is_deleted else message.original or message.received
    sender, recipient = (original.sender, original.recipient) if original else ("", "")
    created_at = 0.0 if original is None else message.created_at
    return (
        digits,
        message.sid,
        message.account,
        sender,
        recipient,
        created_at,
        message.sent_at or message.created_at,
        _ENCODER.encode(message),
        reply_at(message),
    )
