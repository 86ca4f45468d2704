"""Records that are kept long enough: finished ones older than the limit leave the copy.

An unfinished one stays, however old. Nothing shrinks: SQLite uses the room of deleted rows for new
ones, so the file stays as large as the limit makes it. Giving it back would mean VACUUM, which needs
the file's size again and stops the projector meanwhile, or auto-vacuum, which moves pages in every
commit and leaves the lists scattered; neither is worth a room that is needed again next month.
"""

import contextlib
import functools
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from trunkline.domain.message import Message
from trunkline.domain.status import FINAL, Status
from trunkline.kernel import Clock
from trunkline.replica import schema

BATCH_MAX: Final = 100
"""Rows in one transaction. The projector waits for it: some two milliseconds."""

BATCH_PAUSE_S: Final = 0.02

DONE: Final = FINAL | {Status.SENT, Status.RECEIVED}
"""`sent` counts: a carrier that has said nothing more for a month says nothing more, and some never
do. What is held, or still to be sent, does not."""

_MESSAGE: Final = msgspec.msgpack.Decoder(Message)
_log: Final = structlog.get_logger(__name__)

Place = tuple[str, float, str, str]
"""Account, time of creation, SID and digits of the row that was looked at last."""

Stepped = tuple[int, Place | None]
"""How many were removed, and where the next step begins; `None`: that was all."""

Step = Callable[[], Stepped]
InThread = Callable[[Step], Awaitable[Stepped]]


@dataclass(frozen=True, slots=True)
class OldRecords:
    """Of the copy at `copy`; with `keep_s` of `None` they are kept for ever."""

    copy: Path
    keep_s: float | None

    async def forget(self, now: float, in_thread: InThread, clock: Clock) -> int:
        """Walk once over all that is older, in small steps; how many were removed."""
        if self.keep_s is None:
            return 0
        until, removed = now - self.keep_s, 0
        place: Place | None = ("", 0.0, "", "")
        while place is not None:
            count, place = await in_thread(functools.partial(self._step, until, place))
            removed += count
            await clock.sleep(BATCH_PAUSE_S)
        return removed

    def _step(self, until: float, behind: Place) -> Stepped:
        """Look at the next rows, and remove the finished ones among them."""
        try:
            with contextlib.closing(_open(self.copy)) as database:
                database.execute("BEGIN IMMEDIATE")
                rows = _rows(database, until, behind)
                done = [(row[3],) for row in rows if _is_done(row[4], until)]
                database.executemany("DELETE FROM message WHERE digits = ?", done)
                database.execute("COMMIT")
                if rows:
                    return len(done), rows[-1][:4]
                account = database.execute(
                    "SELECT min(account) FROM message WHERE account > ?", (behind[0],)
                ).fetchone()[0]
                return 0, None if account is None else (account, -1.0, "", "")
        except sqlite3.Error as error:
            _log.warning("records.not_forgotten", error=str(error))
            return 0, None


def _rows(
    database: sqlite3.Connection, until: float, behind: Place
) -> list[tuple[str, float, str, str, bytes]]:
    return database.execute(
        "SELECT account, created_at, sid, digits, state FROM message "
        "WHERE account = ? AND created_at < ? AND (created_at, sid, digits) > (?, ?, ?) "
        "ORDER BY created_at, sid, digits LIMIT ?",
        (behind[0], until, *behind[1:], BATCH_MAX),
    ).fetchall()


def _is_done(state: bytes, until: float) -> bool:
    message = _MESSAGE.decode(state)
    if not message.is_known:
        # Later events of a message that is gone already, or was never there.
        return message.updated_at < until
    # The row of one that was deleted says nothing of when it was created; and what was accepted for
    # later has its receipts, and its timer, as long after that.
    send_at = 0.0 if message.original is None else message.original.send_at or 0.0
    return max(message.created_at, send_at) < until and message.status in DONE


def _open(copy: Path) -> sqlite3.Connection:
    database = sqlite3.connect(copy, timeout=schema.BUSY_TIMEOUT_S, isolation_level=None)
    # What a power failure brings back is removed by the next walk; so nobody has to wait for a flush.
    database.execute("PRAGMA synchronous = NORMAL")
    return database
