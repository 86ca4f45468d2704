"""How an older copy becomes one of today: a step a version, each in one transaction.

An empty copy is made by the same steps, so that there is one description of what a copy is. A step
may only add; it stands alone, and reads nothing of the others.
"""

import sqlite3
from collections.abc import Callable
from typing import Final

from trunkline.replica import money_tables

BASE_VERSION: Final = 2
"""2: a message shows where its chain stands. A copy of version 1 does not say what is claimed, and is
made anew from the log, which no program of its time ever trimmed."""

Step = Callable[[sqlite3.Connection], None]

STEPS: Final[tuple[Step, ...]] = (money_tables.add,)
"""The first makes version 3 of version 2, and so on. Never removed, never reordered."""

SCHEMA_VERSION: Final = BASE_VERSION + len(STEPS)


def migrate(database: sqlite3.Connection) -> int:
    """Take the copy to today's version, if it is an older one that the steps know; how many steps
    that took. Raises `sqlite3.Error`, and then the copy is at the last version that it reached."""
    taken = 0
    version = _version(database)
    while BASE_VERSION <= version < SCHEMA_VERSION:
        database.execute("BEGIN IMMEDIATE")
        try:
            STEPS[version - BASE_VERSION](database)
            database.execute(f"PRAGMA user_version = {version + 1}")
            database.execute("COMMIT")
        except BaseException:
            database.execute("ROLLBACK")
            raise
        taken, version = taken + 1, version + 1
    return taken


def _version(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version
