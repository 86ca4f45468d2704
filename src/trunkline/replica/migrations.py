"""How a copy of an older version becomes one of this version, without the log: it may be trimmed.

One step a version, each of which leaves what stands there as it is and adds to it; it stands alone, and
reads nothing of the others. A new copy is made of the tables of the oldest version and the same
steps, so there is one way to every table.
"""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Final

from trunkline.replica import (
    account_rows,
    callback_tables,
    money_tables,
    record_rows,
    reply_rows,
)

OLDEST: Final = 2
"""2: a message shows where its chain stands. A copy of version 1 does not say what is claimed, and is
made anew from the log, which no program of its time ever trimmed."""

Step = Callable[[sqlite3.Connection], None]

STEPS: Final[Mapping[int, Step]] = {
    3: record_rows.add_applications,
    4: money_tables.add,
    5: account_rows.add,
    6: money_tables.drop_triggers,
    7: reply_rows.add,
    8: record_rows.add_former_owners,
    9: callback_tables.add,
}
"""By the version that each step leads to; they follow one another without a gap. Never removed, never
reordered."""

NEWEST: Final = max(STEPS)


def is_migratable(version: int) -> bool:
    """Whether `migrate` makes a copy of this version one of the newest."""
    return OLDEST <= version <= NEWEST


def migrate(database: sqlite3.Connection) -> int:
    """Bring the copy to the newest version, in one transaction: all of it, or nothing; how many steps
    that took. One of a version that the steps do not know is left as it is. Two processes may do it
    at once. Raises `sqlite3.Error`."""
    if _version(database) == NEWEST:
        return 0
    database.execute("BEGIN IMMEDIATE")
    try:
        version = _version(database)
        behind = range(version + 1, NEWEST + 1) if is_migratable(version) else range(0)
        for each in behind:
            STEPS[each](database)
            database.execute(f"PRAGMA user_version = {each}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    return len(behind)


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
