"""From the events of a record to the statements that bring its row up to date.

A record has one register, so its events come in one order, that of its shard, and each is the whole
record: the last one is what the row shows. Nothing is merged, and doing it all again ends the same.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from trunkline.domain.account import Account
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
from trunkline.domain.key import Key
from trunkline.domain.number import Number
from trunkline.log.event import Event

Statement = tuple[str, tuple[object, ...]]

_ENCODER: Final = msgspec.msgpack.Encoder()

# A phone number has one owner: whoever had it before has it no more, even if no event said so.
_FREE_NUMBER: Final = "DELETE FROM number WHERE phone_number = ? AND sid <> ?"
_PUT_NUMBER: Final = "INSERT OR REPLACE INTO number VALUES (?, ?, ?, ?, ?, ?)"
_KNOWN_NUMBER: Final = "INSERT OR IGNORE INTO number VALUES (?, ?, ?, ?, ?, ?)"
_DROP_NUMBER: Final = "DELETE FROM number WHERE sid = ?"
_PUT_APPLICATION: Final = "INSERT OR REPLACE INTO application VALUES (?, ?, ?, ?, ?)"
_DROP_APPLICATION: Final = "DELETE FROM application WHERE sid = ?"
_ACCOUNT_ROW: Final = (
    "INTO account (sid, owner, friendly_name, status, created_at, state) VALUES (?, ?, ?, ?, ?, ?)"
)
_PUT_ACCOUNT: Final = f"INSERT OR REPLACE {_ACCOUNT_ROW}"
_KNOWN_ACCOUNT: Final = f"INSERT OR IGNORE {_ACCOUNT_ROW}"
_DROP_ACCOUNT: Final = "DELETE FROM account WHERE sid = ?"
_PUT_KEY: Final = "INSERT OR REPLACE INTO api_key VALUES (?, ?, ?, ?)"
_DROP_KEY: Final = "DELETE FROM api_key WHERE sid = ?"

_DROPS: Final[Mapping[Kind, str]] = {
    Kind.NUMBER: _DROP_NUMBER,
    Kind.APPLICATION: _DROP_APPLICATION,
    Kind.ACCOUNT: _DROP_ACCOUNT,
    Kind.KEY: _DROP_KEY,
}


def statements_of(event: Event, body: Body, subject: str) -> tuple[Statement, ...]:
    """What to do, in this order, for an event that stands under `subject`."""
    match body:
        case NumberOwned():
            return _number(event, body)
        case ApplicationMade():
            return (_application(event, body),)
        case AccountOpened():
            return (_account(event, body, subject),)
        case KeyMade():
            return (_key(event, body),)
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


def _account(event: Event, body: AccountOpened, subject: str) -> Statement:
    account = account_of(event, body)
    row = (
        body.sid,
        body.owner or body.sid,
        body.friendly_name,
        body.status.value,
        account.created_at,
        _ENCODER.encode(account),
    )
    return (_KNOWN_ACCOUNT if _is_of_old(event, subject) else _PUT_ACCOUNT, row)


def _is_of_old(event: Event, subject: str) -> bool:
    """Whether an older program opened the account: in a register of the account's own name, which may
    stand in any shard, and which nothing has changed since. What the new one says counts."""
    return subject.split(".")[-2] == event.account


def _key(event: Event, body: KeyMade) -> Statement:
    key = Key(
        account=event.account,
        settings=body,
        created_at=event.record_created_at,
        updated_at=event.record_changed_at,
    )
    return (_PUT_KEY, (body.sid, event.account, key.created_at, _ENCODER.encode(key)))
