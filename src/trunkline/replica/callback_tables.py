"""Which messages have a step that is still to be told, and of which one was given up.

Both follow from the message's record (`domain/callback`) and are written with it. So whoever has a copy
knows what waits for a receiver, however long and through whosever death, and holds nothing in hand for
it, in the log or in memory.
"""

import sqlite3
from typing import Final

import msgspec

from trunkline.domain.callback import came_about, given_up, has_callback, receiver_of, untold_of
from trunkline.domain.message import Message

ROWS_AT_ONCE: Final = 500
BROUGHT_OVER_S: Final = 7 * 86_400

_STATEMENTS: Final = (
    """CREATE TABLE untold (
    sid TEXT PRIMARY KEY,
    receiver TEXT NOT NULL,
    since REAL NOT NULL
) WITHOUT ROWID""",
    "CREATE INDEX untold_by_receiver ON untold (receiver, since, sid)",
    """CREATE TABLE given_up (
    sid TEXT PRIMARY KEY,
    at REAL NOT NULL
) WITHOUT ROWID""",
    "CREATE INDEX given_up_newest ON given_up (at, sid)",
    """CREATE TRIGGER callbacks_no_more AFTER DELETE ON message BEGIN
    DELETE FROM untold WHERE sid = OLD.sid;
    DELETE FROM given_up WHERE sid = OLD.sid;
END""",
)
_PUT_UNTOLD: Final = (
    "INSERT INTO untold VALUES (?, ?, ?) ON CONFLICT (sid) DO UPDATE SET since = excluded.since"
)
_TOLD: Final = "DELETE FROM untold WHERE sid = ?"
_PUT_GIVEN_UP: Final = (
    "INSERT INTO given_up VALUES (?, ?) ON CONFLICT (sid) DO UPDATE SET at = excluded.at"
)
_MADE_UP_FOR: Final = "DELETE FROM given_up WHERE sid = ?"

# The next name in an index, again and again: reads one row for each receiver, however many wait.
_RECEIVERS: Final = """
WITH RECURSIVE names (name) AS (
    SELECT (SELECT min(receiver) FROM untold WHERE receiver > ?1)
    UNION ALL
    SELECT (SELECT min(receiver) FROM untold WHERE receiver > names.name) FROM names
    WHERE names.name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL LIMIT ?2
"""
_WAITING: Final = (
    "SELECT since, sid FROM untold WHERE receiver = ? AND (since, sid) > (?, ?) "
    "ORDER BY since, sid LIMIT ?"
)
_OLDEST: Final = "SELECT sid, receiver, since FROM untold ORDER BY since, sid LIMIT ?"
_NEWEST_GIVEN_UP: Final = "SELECT sid, at FROM given_up ORDER BY at DESC, sid DESC LIMIT ?"
_COUNTS: Final = "SELECT (SELECT count(*) FROM untold), (SELECT count(*) FROM given_up)"

_DECODER: Final = msgspec.msgpack.Decoder(Message)

Waiting = tuple[float, str]
"""Since when, and the SID: a place among those that wait for one receiver."""

FIRST: Final[Waiting] = (float("-inf"), "")


def add(database: sqlite3.Connection) -> None:
    """The step that makes the tables, and fills them from the messages that are there already. What an
    earlier version left untold for weeks is not brought up again."""
    for statement in _STATEMENTS:
        database.execute(statement)
    oldest_at = database.execute("SELECT strftime('%s', 'now') - ?", (BROUGHT_OVER_S,)).fetchone()[
        0
    ]
    behind = ""
    while rows := database.execute(
        "SELECT digits, state FROM message WHERE digits > ? ORDER BY digits LIMIT ?",
        (behind, ROWS_AT_ONCE),
    ).fetchall():
        behind = rows[-1][0]
        for _, state in rows:
            try:
                message = _DECODER.decode(state)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue  # the comparison with the other copies mends it, and then it is noted
            if message.updated_at >= oldest_at:
                note_callbacks(database, message)


def note_callbacks(database: sqlite3.Connection, message: Message) -> None:
    """Bring both tables up to date with the message's record."""
    original = message.original
    if original is None or not original.status_callback or not has_callback(message):
        return
    waiting = untold_of(message)
    if waiting:
        receiver = receiver_of(message.account, original.status_callback)
        database.execute(_PUT_UNTOLD, (message.sid, receiver, came_about(message, waiting[0])))
    else:
        database.execute(_TOLD, (message.sid,))
    if given_up(message):
        database.execute(_PUT_GIVEN_UP, (message.sid, message.updated_at))
    elif message.given_up:
        database.execute(_MADE_UP_FOR, (message.sid,))


def receivers(database: sqlite3.Connection, *, behind: str, items_max: int) -> list[str]:
    """The names of those for whom something waits, in order."""
    return [name for (name,) in database.execute(_RECEIVERS, (behind, items_max))]


def waiting_for(
    database: sqlite3.Connection, receiver: str, *, behind: Waiting, items_max: int
) -> list[Waiting]:
    """What waits for one of them, the oldest first."""
    return database.execute(_WAITING, (receiver, *behind, items_max)).fetchall()


def oldest(database: sqlite3.Connection, *, items_max: int) -> list[tuple[str, str, float]]:
    """SID, receiver, and since when: of what waits for whomever. Looks through all that waits."""
    return database.execute(_OLDEST, (items_max,)).fetchall()


def newest_given_up(database: sqlite3.Connection, *, items_max: int) -> list[tuple[str, float]]:
    """SID, and when it last changed."""
    return database.execute(_NEWEST_GIVEN_UP, (items_max,)).fetchall()


def counts(database: sqlite3.Connection) -> tuple[int, int]:
    """Of how many messages something waits, and was given up."""
    row: tuple[int, int] = database.execute(_COUNTS).fetchone()
    return row
