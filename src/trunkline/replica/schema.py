"""The copy's tables. Who may replace the file, and with what, is said in `replica/restore`.

One row a resource: the columns by which it is found and listed, and its folded state as MessagePack.
The cursor stands in the same transactions as the rows it speaks of.
"""

import contextlib
import sqlite3
from enum import Enum, auto
from pathlib import Path
from typing import Final

from trunkline.replica import migrations

SCHEMA_VERSION: Final = migrations.NEWEST

BUSY_TIMEOUT_S: Final = 5.0
CACHE_KIB: Final = 16_384

BASE_TABLES: Final = """
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


class Look(Enum):
    """What a file is that stands where the copy should be."""

    OURS = auto()
    MISSING = auto()
    DAMAGED = auto()
    OTHER = auto()
    """Of another cluster, or of a version that this program does not read."""


def bring_up_to_date(path: Path, *, cluster: str) -> int:
    """Take an older copy at `path` to today's version; how many steps that took. One that is missing,
    damaged, newer or of another cluster is left as it is, for `look` to tell. Raises `sqlite3.Error`
    where writing fails."""
    if not path.exists() or damage_mark(path).exists() or _has_lost_its_beginning(path):
        return 0
    database = _open(path)
    try:
        if database.execute("SELECT cluster FROM origin").fetchone() != (cluster,):
            return 0
        return migrations.migrate(database)
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        return 0
    finally:
        database.close()


def look(path: Path, *, cluster: str) -> Look:
    """What stands at `path`. Raises `sqlite3.DatabaseError` for a file that cannot be opened just
    now, which says nothing about what is in it."""
    if not path.exists():
        return Look.MISSING
    if damage_mark(path).exists() or _has_lost_its_beginning(path):
        return Look.DAMAGED
    database = _open(path)
    try:
        return Look.OURS if is_ours(database, cluster) else Look.OTHER
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        return Look.DAMAGED
    finally:
        database.close()


def is_ours(database: sqlite3.Connection, cluster: str) -> bool:
    """Whether it is a copy of this cluster that this program reads, or migrates and then reads."""
    if not migrations.is_migratable(database.execute("PRAGMA user_version").fetchone()[0]):
        return False
    return bool(database.execute("SELECT cluster FROM origin").fetchone() == (cluster,))


def cursors(database: sqlite3.Connection) -> dict[int, int]:
    """Up to which sequence of each shard the copy has seen everything."""
    return dict(database.execute("SELECT shard, sequence FROM cursor").fetchall())


def open_for_writing(path: Path, *, cluster: str) -> sqlite3.Connection:
    """The projector's handle; an empty copy where there is none, and one of an older version is
    migrated. Never replaces a file: whether that may be done is for `replica/restore` to say."""
    if not path.exists():
        make(path, cluster=cluster)
    database = _open(path)
    try:
        migrations.migrate(database)
    except sqlite3.Error:
        database.close()
        raise
    return database


def make(path: Path, *, cluster: str) -> None:
    """Put an empty copy in place of whatever is there, in one step: no reader sees half of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    remove(new)
    database = _open(new)
    database.execute("BEGIN")  # one flush for all of it, and not one for each table
    for statement in BASE_TABLES.split(";"):
        database.execute(statement)
    database.execute("CREATE TABLE origin (cluster TEXT NOT NULL)")
    database.execute("INSERT INTO origin VALUES (?)", (cluster,))
    database.execute(f"PRAGMA user_version = {migrations.OLDEST}")
    database.execute("COMMIT")
    migrations.migrate(database)
    database.close()
    remove(path)
    new.replace(path)


def remove(path: Path) -> None:
    """The file with what belongs to it."""
    for suffix in ("-wal", "-shm", "-damaged", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def set_aside(path: Path) -> None:
    """Keep a copy that cannot be used, in place of the last one that was kept: perhaps something
    can be saved from it. Of its own transactions only those are kept that reached the file."""
    aside = path.with_name(path.name + ".set-aside")
    if path.exists():
        path.replace(aside)
    remove(path)


def damage_mark(path: Path) -> Path:
    """There where a process found the copy damaged; the next one to open it restores it."""
    return path.with_name(path.name + "-damaged")


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether it says that the file itself is spoilt; then trying again is no help."""
    return _code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


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


def _has_lost_its_beginning(path: Path) -> bool:
    """Whether the file itself, without its write-ahead log, does not begin as a database does. With a
    log that has the first page SQLite does not notice, and serves what is left of a spoilt file."""
    with contextlib.closing(
        sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    ) as database:
        try:
            database.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            # Nothing else: a checkpoint that was cut short leaves a file that only its log makes whole.
            return _code(error) == sqlite3.SQLITE_NOTADB
    return False


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    # SQLITE_ERROR: a table that every copy has is not there.
    return is_corrupt(error) or _code(error) == sqlite3.SQLITE_ERROR


def _code(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF
