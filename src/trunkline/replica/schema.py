"""The copy's tables. The file may be deleted at any time: it is made again from the log.

One row a resource: the columns by which it is found and listed, and its folded state as MessagePack.
The cursor stands in the same transactions as the rows it speaks of.
"""

import sqlite3
from pathlib import Path
from typing import Final

SCHEMA_VERSION: Final = 1

BUSY_TIMEOUT_S: Final = 5.0
CACHE_KIB: Final = 16_384

_TABLES: Final = """
CREATE TABLE message (
    digits TEXT PRIMARY KEY,
    sid TEXT NOT NULL,
    account TEXT NOT NULL,
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    created_at REAL NOT NULL,
    sent_or_created_at REAL NOT NULL,
    state BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX message_newest ON message (account, created_at DESC, sid DESC);
CREATE TABLE number (
    sid TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    phone_number TEXT NOT NULL UNIQUE,
    friendly_name TEXT NOT NULL,
    created_at REAL NOT NULL,
    state BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX number_newest ON number (account, created_at DESC, sid DESC);
CREATE TABLE account (
    sid TEXT PRIMARY KEY,
    state BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE cursor (
    shard INTEGER PRIMARY KEY,
    sequence INTEGER NOT NULL
);
"""


def open_for_writing(path: Path, *, cluster: str) -> sqlite3.Connection:
    """The projector's handle. A file of another version or cluster, or a damaged one, is replaced."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        database = _open(path)
        try:
            if _is_usable(database, cluster):
                return database
        except sqlite3.DatabaseError as error:
            # Only a file that is no copy is replaced; one that cannot be opened just now is not.
            if not _is_damage(error):
                database.close()
                raise
        database.close()
    make(path, cluster=cluster)
    return _open(path)


def make(path: Path, *, cluster: str) -> None:
    """Put an empty copy in place of whatever is there, in one step: no reader sees half of it."""
    new = path.with_name(path.name + ".new")
    _remove(new)
    database = _open(new)
    database.executescript(_TABLES)
    database.execute("CREATE TABLE origin (cluster TEXT NOT NULL)")
    database.execute("INSERT INTO origin VALUES (?)", (cluster,))
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    database.commit()
    database.close()
    _remove(path)
    new.replace(path)


def _remove(path: Path) -> None:
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A reader's handle on a file the projector has made."""
    return sqlite3.connect(
        f"file:{path}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
    )


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    except sqlite3.DatabaseError:
        return database
    return database


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    # SQLITE_ERROR: a table that every copy has is not there.
    return code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)


def _is_usable(database: sqlite3.Connection, cluster: str) -> bool:
    if database.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
        return False
    return bool(database.execute("SELECT cluster FROM origin").fetchone() == (cluster,))
