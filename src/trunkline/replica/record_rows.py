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
            return ((_DROPS[event.kind], (event.sid,)),)
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
    return ((_FREE_NUMBER, (body.phone_number, body.sid)), (put, row))


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
