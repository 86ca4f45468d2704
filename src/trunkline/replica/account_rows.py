"""Accounts and keys in the copy: their step, and the statements that bring a row up to date."""

import sqlite3
from typing import Final

import msgspec

from trunkline.domain.account import Account, AccountStatus
from trunkline.domain.events import AccountOpened, KeyMade
from trunkline.domain.key import Key
from trunkline.log.event import Event

Statement = tuple[str, tuple[object, ...]]

_ENCODER: Final = msgspec.msgpack.Encoder()

_ACCOUNT_ROW: Final = (
    "INTO account (sid, owner, friendly_name, status, created_at, state) VALUES (?, ?, ?, ?, ?, ?)"
)
_PUT_ACCOUNT: Final = f"INSERT OR REPLACE {_ACCOUNT_ROW}"
_KNOWN_ACCOUNT: Final = f"INSERT OR IGNORE {_ACCOUNT_ROW}"
DROP_ACCOUNT: Final = "DELETE FROM account WHERE sid = ?"
_PUT_KEY: Final = "INSERT OR REPLACE INTO api_key VALUES (?, ?, ?, ?)"
DROP_KEY: Final = "DELETE FROM api_key WHERE sid = ?"
_COUNT_OPEN: Final = "SELECT count(*) FROM (SELECT 1 FROM account WHERE status <> ? LIMIT ?)"

_STEP: Final = (
    "ALTER TABLE account ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE account ADD COLUMN friendly_name TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE account ADD COLUMN status TEXT NOT NULL DEFAULT 'active'",
    "ALTER TABLE account ADD COLUMN created_at REAL NOT NULL DEFAULT 0",
    "UPDATE account SET owner = sid",
    "CREATE INDEX account_newest ON account (owner, created_at DESC, sid DESC)",
    """CREATE TABLE api_key (
    sid TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    created_at REAL NOT NULL,
    state BLOB NOT NULL
) WITHOUT ROWID""",
    "CREATE INDEX api_key_newest ON api_key (account, created_at DESC, sid DESC)",
)


def add(database: sqlite3.Connection) -> None:
    """The step that gives accounts owners, and keys a table."""
    for statement in _STEP:
        database.execute(statement)


def account_of(event: Event, body: AccountOpened) -> Account:
    """The account that an event is the whole of."""
    return Account(
        sid=body.sid,
        friendly_name=body.friendly_name,
        auth_token=body.auth_token,
        created_at=event.record_created_at,
        updated_at=event.record_changed_at,
        owner=body.owner,
        status=body.status,
        type=body.type,
        fingerprint=body.fingerprint,
    )


def account(event: Event, body: AccountOpened, subject: str) -> Statement:
    opened = account_of(event, body)
    row = (
        body.sid,
        body.owner or body.sid,
        body.friendly_name,
        body.status.value,
        opened.created_at,
        _ENCODER.encode(opened),
    )
    return (_KNOWN_ACCOUNT if _is_of_old(event, subject) else _PUT_ACCOUNT, row)


def _is_of_old(event: Event, subject: str) -> bool:
    """Whether an older program opened the account: in a register of the account's own name, which may
    stand in any shard, and which nothing has changed since. What the new one says counts."""
    return subject.split(".")[-2] == event.account


def key(event: Event, body: KeyMade) -> Statement:
    made = Key(
        account=event.account,
        settings=body,
        created_at=event.record_created_at,
        updated_at=event.record_changed_at,
    )
    return (_PUT_KEY, (body.sid, event.account, made.created_at, _ENCODER.encode(made)))


def count_open(database: sqlite3.Connection, items_max: int) -> int:
    """How many accounts are not closed; `items_max` for that many or more."""
    values = (AccountStatus.CLOSED.value, items_max)
    return int(database.execute(_COUNT_OPEN, values).fetchone()[0])
