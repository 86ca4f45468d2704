"""From the events of a record to the statements that bring its row up to date.

A record has one register, so its events come in one order, that of its shard, and each is the whole
record: the last one is what the row shows. Nothing is merged, and doing it all again ends the same.
"""

import sqlite3
from collections.abc import Mapping
from typing import Final

import msgspec

from trunkline.domain.application import Application
from trunkline.domain.events import (
    AccountOpened,
    ApplicationMade,
    Body,
    Deleted,
    KeyMade,
    Kind,
    NumberOwned,
)
from trunkline.domain.number import Number
from trunkline.log.event import Event
from trunkline.replica import account_rows
from trunkline.replica.account_rows import Statement

_ENCODER: Final = msgspec.msgpack.Encoder()

# A phone number has one owner: whoever had it before has it no more, even if no event said so.
_FREE_NUMBER: Final = "DELETE FROM number WHERE phone_number = ? AND sid <> ?"
_PUT_NUMBER: Final = "INSERT OR REPLACE INTO number VALUES (?, ?, ?, ?, ?, ?)"
_KNOWN_NUMBER: Final = "INSERT OR IGNORE INTO number VALUES (?, ?, ?, ?, ?, ?)"
_DROP_NUMBER: Final = "DELETE FROM number WHERE sid = ?"
_PUT_APPLICATION: Final = "INSERT OR REPLACE INTO application VALUES (?, ?, ?, ?, ?)"
_DROP_APPLICATION: Final = "DELETE FROM application WHERE sid = ?"
_DROPS: Final[Mapping[Kind, str]] = {
    Kind.NUMBER: _DROP_NUMBER,
    Kind.APPLICATION: _DROP_APPLICATION,
    Kind.ACCOUNT: account_rows.DROP_ACCOUNT,
    Kind.KEY: account_rows.DROP_KEY,
}

_PUT_FORMER: Final = "INSERT OR REPLACE INTO former_owner VALUES (?, ?, ?)"
_DROP_FORMER: Final = "DELETE FROM former_owner WHERE sid = ?"
_DROP_FORMER_OF_PHONE: Final = "DELETE FROM former_owner WHERE phone_number = ?"
_FORMER_OWNERS: Final = """CREATE TABLE former_owner (
    phone_number TEXT NOT NULL,
    account TEXT NOT NULL,
    sid TEXT NOT NULL,
    PRIMARY KEY (phone_number, account)
) WITHOUT ROWID"""
_APPLICATIONS: Final = (
    """CREATE TABLE application (
    sid TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    friendly_name TEXT NOT NULL,
    created_at REAL NOT NULL,
    state BLOB NOT NULL
) WITHOUT ROWID""",
    "CREATE INDEX application_newest ON application (account, created_at DESC, sid DESC)",
)


def add_applications(database: sqlite3.Connection) -> None:
    """The step that makes the table of applications; numbers have had theirs from the beginning."""
    for statement in _APPLICATIONS:
        database.execute(statement)


def add_former_owners(database: sqlite3.Connection) -> None:
    """The step that makes the table of who had a number before it was moved to its owner."""
    database.execute(_FORMER_OWNERS)


def statements_of(event: Event, body: Body, subject: str) -> tuple[Statement, ...]:
    """What to do, in this order, for an event that stands under `subject`."""
    match body:
        case NumberOwned():
            return _number(event, body)
        case ApplicationMade():
            return (_application(event, body),)
        case AccountOpened():
            return (account_rows.account(event, body, subject),)
        case KeyMade():
            return (account_rows.key(event, body),)
        case Deleted():
            drop = (_DROPS[event.kind], (event.sid,))
            return (_drop_former(event.sid), drop) if event.kind is Kind.NUMBER else (drop,)
        case _:
            return ()


def _number(event: Event, body: NumberOwned) -> tuple[Statement, ...]:
    number = Number(
        account=event.account,
        settings=body,
        created_at=event.record_created_at,
        updated_at=event.record_changed_at,
    )
    row = (
        body.sid,
        event.account,
        body.phone_number,
        body.friendly_name,
        number.created_at,
        _ENCODER.encode(number),
    )
    # One that an older program carried forward does not say when it was created; the row does.
    is_dated = event.created_at is not None
    put = _PUT_NUMBER if is_dated else _KNOWN_NUMBER
    former = [(_PUT_FORMER, (body.phone_number, each, body.sid)) for each in body.former_accounts]
    freed = (_FREE_NUMBER, (body.phone_number, body.sid))
    return (freed, (put, row), (_DROP_FORMER_OF_PHONE, (body.phone_number,)), *former)


def _drop_former(sid: str) -> Statement:
    return (_DROP_FORMER, (sid,))


def _application(event: Event, body: ApplicationMade) -> Statement:
    application = Application(
        account=event.account,
        settings=body,
        created_at=event.record_created_at,
        updated_at=event.record_changed_at,
    )
    row = (
        body.sid,
        event.account,
        body.friendly_name,
        application.created_at,
        _ENCODER.encode(application),
    )
    return (_PUT_APPLICATION, row)
