"""What messages owe, summed by day, and who has opted out: the tables, and what goes into them.

A message's row says what it owes, and whoever writes a row changes the sums by what it says now and
did not say before, in the same transaction: however often it is written, each message is in the sums
once, or not at all. The sums stay when old records are forgotten. Keywords are the stops and starts that handsets sent; the last one counts.
"""

import sqlite3
from typing import Final

import msgspec

from trunkline.domain.message import Message
from trunkline.domain.optout import Keyword, keyword_in
from trunkline.domain.price import charge_of

KEYWORDS_KEPT_MAX: Final = 8
"""Of one handset and one number: the newest, so that nobody fills the disk by texting STOP."""

ROWS_AT_ONCE: Final = 500

_LEAVES_THE_SUMS: Final = """
UPDATE usage SET messages = messages - 1, segments = segments - OLD.owed_segments,
    micros = micros - OLD.owed_micros
WHERE account = OLD.account AND day = OLD.owed_day AND category = OLD.owed_category;
"""
_ENTERS_THE_SUMS: Final = """
INSERT INTO usage VALUES
    (NEW.account, NEW.owed_day, NEW.owed_category, 1, NEW.owed_segments, NEW.owed_micros)
ON CONFLICT (account, day, category) DO UPDATE SET messages = messages + 1,
    segments = segments + excluded.segments, micros = micros + excluded.micros;
"""
_CHANGES: Final = " OR ".join(
    f"OLD.{name} IS NOT NEW.{name}"
    for name in ("account", "owed_day", "owed_category", "owed_segments", "owed_micros")
)

_STATEMENTS: Final = (
    "ALTER TABLE message ADD COLUMN owed_category TEXT",
    "ALTER TABLE message ADD COLUMN owed_day INTEGER",
    "ALTER TABLE message ADD COLUMN owed_segments INTEGER",
    "ALTER TABLE message ADD COLUMN owed_micros INTEGER",
    """CREATE TABLE usage (
    account TEXT NOT NULL,
    day INTEGER NOT NULL,
    category TEXT NOT NULL,
    messages INTEGER NOT NULL,
    segments INTEGER NOT NULL,
    micros INTEGER NOT NULL,
    PRIMARY KEY (account, day, category)
) WITHOUT ROWID""",
    f"""CREATE TRIGGER usage_of_new AFTER INSERT ON message
WHEN NEW.owed_category IS NOT NULL BEGIN {_ENTERS_THE_SUMS} END""",
    f"""CREATE TRIGGER usage_no_more AFTER UPDATE ON message
WHEN OLD.owed_category IS NOT NULL AND ({_CHANGES}) BEGIN {_LEAVES_THE_SUMS} END""",
    f"""CREATE TRIGGER usage_of_changed AFTER UPDATE ON message
WHEN NEW.owed_category IS NOT NULL AND ({_CHANGES}) BEGIN {_ENTERS_THE_SUMS} END""",
    """CREATE TABLE keyword (
    account TEXT NOT NULL,
    phone_number TEXT NOT NULL,
    handset TEXT NOT NULL,
    at REAL NOT NULL,
    sid TEXT NOT NULL,
    word TEXT NOT NULL,
    PRIMARY KEY (account, phone_number, handset, sid)
) WITHOUT ROWID""",
)

_TRIGGERS: Final = ("usage_of_new", "usage_no_more", "usage_of_changed")

_CHANGE_SUM: Final = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (account, day, category) DO UPDATE SET messages = messages + excluded.messages,
    segments = segments + excluded.segments, micros = micros + excluded.micros
"""

_KEYWORD_SAID: Final = (
    "INSERT INTO keyword VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (account, phone_number, handset, sid) DO UPDATE SET at = excluded.at"
)
_OLDER_FORGOTTEN: Final = """
DELETE FROM keyword WHERE account = ?1 AND phone_number = ?2 AND handset = ?3 AND (at, sid) < (
    SELECT at, sid FROM keyword WHERE account = ?1 AND phone_number = ?2 AND handset = ?3
    ORDER BY at DESC, sid DESC LIMIT 1 OFFSET ?4)
"""
_WORDS_COUNT_OF: Final = (
    "account IN (SELECT ?1 UNION ALL SELECT account FROM former_owner WHERE phone_number = ?2)"
)
_LAST_WORD: Final = (
    f"SELECT word FROM keyword WHERE {_WORDS_COUNT_OF} "  # noqa: S608 - fixed words only
    "AND phone_number = ?2 AND handset = ?3 "
    "AND (at, sid) < (?4, ?5) ORDER BY at DESC, sid DESC LIMIT 1"
)
_WORDS: Final = (
    f"SELECT handset, word FROM keyword WHERE {_WORDS_COUNT_OF} "  # noqa: S608 - fixed words only
    "AND phone_number = ?2 ORDER BY handset, at, sid LIMIT ?3"
)
_DECODER: Final = msgspec.msgpack.Decoder(Message)

Owed = tuple[str, str, int, int, int]
"""What a message's row says that it owes: account, category, day, segments, millionths."""


class Sums:
    """How much the sums change in one transaction."""

    def __init__(self) -> None:
        self._changes: dict[tuple[str, int, str], list[int]] = {}

    def change(self, was: Owed | None, now: Owed | None) -> None:
        """A row that said `was` says `now`."""
        if was is not None:
            self._add(was, -1)
        if now is not None:
            self._add(now, 1)

    def write(self, database: sqlite3.Connection) -> None:
        rows = [(*key, *change) for key, change in self._changes.items() if any(change)]
        database.executemany(_CHANGE_SUM, rows)

    def _add(self, owed: Owed, sign: int) -> None:
        account, category, day, segments, micros = owed
        change = self._changes.setdefault((account, day, category), [0, 0, 0])
        change[0] += sign
        change[1] += sign * segments
        change[2] += sign * micros


def add(database: sqlite3.Connection) -> None:
    """The step that makes the tables, and fills them from the messages that are there already."""
    for statement in _STATEMENTS:
        database.execute(statement)
    behind = ""
    while rows := database.execute(
        "SELECT digits, state FROM message WHERE digits > ? ORDER BY digits LIMIT ?",
        (behind, ROWS_AT_ONCE),
    ).fetchall():
        behind = rows[-1][0]
        for digits, state in rows:
            _fill(database, digits, state)


def drop_triggers(database: sqlite3.Connection) -> None:
    """The step after which the program keeps the sums: triggers took half the time of a write."""
    for name in _TRIGGERS:
        database.execute(f"DROP TRIGGER {name}")


def _fill(database: sqlite3.Connection, digits: str, state: bytes) -> None:
    try:
        message = _DECODER.decode(state)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return  # the comparison with the other copies mends it, and then it is counted
    database.execute(
        "UPDATE message SET owed_category = ?, owed_day = ?, owed_segments = ?, owed_micros = ? "
        "WHERE digits = ?",
        (*(owed_by(message) or (None,) * 5)[1:], digits),
    )
    note_keyword(database, message)


def owed_by(message: Message) -> Owed | None:
    """What stands in the message's row, if it owes anything."""
    charge = charge_of(message)
    if charge is None:
        return None
    return message.account, str(charge.category), charge.day, charge.segments, charge.micros


def note_keyword(database: sqlite3.Connection, message: Message) -> bool:
    """Write down a stop or a start, if the message is one, and say whether it is; again is no
    different from once."""
    received = message.received
    word = None if received is None else message.erased_keyword or keyword_in(received.text)
    if received is None or word is None or word is Keyword.HELP:
        return False
    pair = (message.account, received.recipient, received.sender)
    row = (*pair, message.created_at, message.sid, word.value)
    database.execute(_KEYWORD_SAID, row)
    database.execute(_OLDER_FORGOTTEN, (*pair, KEYWORDS_KEPT_MAX - 1))
    return True


def has_opted_out(
    database: sqlite3.Connection,
    account: str,
    phone_number: str,
    handset: str,
    before: tuple[float, str],
) -> bool:
    """Whether the last word of `handset` to `phone_number` was a stop, of those before a moment; said to
    the account, or to one that the number has been moved from."""
    row = database.execute(_LAST_WORD, (account, phone_number, handset, *before)).fetchone()
    return row is not None and row[0] == Keyword.STOP


def words_to(
    database: sqlite3.Connection, account: str, phone_number: str, items_max: int
) -> list[tuple[str, str]]:
    """Handset and word, of each handset the newest last; said to the account, or to one that the number
    has been moved from."""
    return database.execute(_WORDS, (account, phone_number, items_max)).fetchall()


def usage_between(
    database: sqlite3.Connection,
    account: str,
    first_day: int,
    last_day: int,
    *,
    with_subaccounts: bool = False,
) -> list[tuple[int, str, int, int, int]]:
    """Day, category, messages, segments and millionths, oldest first; both days are included."""
    whose = "account = ?1"
    if with_subaccounts:
        whose = "account IN (SELECT sid FROM account WHERE owner = ?1 UNION SELECT ?1)"
    return database.execute(
        "SELECT day, category, sum(messages), sum(segments), sum(micros) FROM usage "  # noqa: S608 - fixed words only
        f"WHERE {whose} AND day BETWEEN ?2 AND ?3 AND messages > 0 "
        "GROUP BY day, category ORDER BY day, category",
        (account, first_day, last_day),
    ).fetchall()
