"""Which messages are replies, and when each was accepted: the column, its index, and its one question.

Two applications that answer each other would go on for ever, each reply costing money. How many there
were lately is counted in the copy: so it holds for all hosts, and for one that has just started.
"""

import sqlite3
from typing import Final

from trunkline.domain.message import Message

REPLY: Final = "outbound-reply"

# The index holds replies alone: whoever sends no replies does not pay for it.
_STEP: Final = (
    "ALTER TABLE message ADD COLUMN reply_at REAL",
    """CREATE INDEX message_reply ON message (account, sender, recipient, reply_at)
WHERE reply_at IS NOT NULL""",
)
_BETWEEN: Final = (
    "SELECT count(*) FROM message INDEXED BY message_reply "
    "WHERE account = ? AND sender = ? AND recipient = ? AND reply_at > ?"
)


def add(database: sqlite3.Connection) -> None:
    """The step that makes both. Those that are there already are too old to count."""
    for statement in _STEP:
        database.execute(statement)


def reply_at(message: Message) -> float | None:
    """What stands in the message's row; nothing for a keyword's answer, which nobody answers."""
    original = message.original
    if original is None or original.direction != REPLY or original.is_automatic:
        return None
    return message.created_at


def count(database: sqlite3.Connection, account: str, one: str, other: str, *, since: float) -> int:
    """The account's replies between two numbers, either way, that were accepted after `since`."""
    ways = {(one, other), (other, one)}
    return sum(database.execute(_BETWEEN, (account, *way, since)).fetchone()[0] for way in ways)
