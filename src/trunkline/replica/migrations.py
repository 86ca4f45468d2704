"""How a copy of an older version becomes one of this version, without the log: it may be trimmed.

One step a version, each of which leaves what stands there as it is and adds to it. A new copy is made of
the tables of the oldest version and the same steps, so there is one way to every table.
"""

import sqlite3
from collections.abc import Mapping
from typing import Final

OLDEST: Final = 2
"""A copy of version 1 does not say what is claimed, and is made anew from the log, which no program of
its time ever trimmed."""

STEPS: Final[Mapping[int, tuple[str, ...]]] = {
    3: (  # applications
        """
        CREATE TABLE application (
            sid TEXT PRIMARY KEY,
            account TEXT NOT NULL,
            friendly_name TEXT NOT NULL,
            created_at REAL NOT NULL,
            state BLOB NOT NULL
        ) WITHOUT ROWID
        """,
        "CREATE INDEX application_newest ON application (account, created_at DESC, sid DESC)",
    ),
}
"""By the version that each step leads to; they follow one another without a gap."""

NEWEST: Final = max(STEPS)


def is_migratable(version: int) -> bool:
    """Whether `migrate` makes a copy of this version one of the newest."""
    return OLDEST <= version <= NEWEST


def migrate(database: sqlite3.Connection) -> None:
    """Bring the copy to the newest version, in one transaction: all of it, or nothing. Two processes
    may do it at once. Raises `sqlite3.Error`."""
    if _version(database) == NEWEST:
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        for version in range(_version(database) + 1, NEWEST + 1):
            for statement in STEPS[version]:
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {version}")
        database.execute("COMMIT")
    except sqlite3.Error:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
