"""The Account resource: a main account and its subaccounts, one level deep.

Only its parent changes whether an account may act. Closing one is for good, and gives its numbers
back: at once those that are known here, and any other when somebody wants it.
"""

import asyncio
import functools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from trunkline.api.answer import Answer, json_answer
from trunkline.api.errors import ApiError, invalid, refused, unavailable
from trunkline.api.freshness import lag_header
from trunkline.api.idempotency import key_of
from trunkline.api.moments import rfc_2822
from trunkline.api.paging import requested_page, rows_answer
from trunkline.api.records import create, new_sid, update
from trunkline.api.request import Handler, Request
from trunkline.api.services import ApiServices
from trunkline.api.settings import friendly_name, signed
from trunkline.directory.records import Missing, Removed
from trunkline.domain import sid
from trunkline.domain.account import NEXT, Account, AccountStatus
from trunkline.domain.errors import Code
from trunkline.domain.events import AccountOpened
from trunkline.domain.number import Number
from trunkline.kernel import Deadline
from trunkline.replica.queries import NumberFilter

RELEASED_AT_ONCE: Final = 16
"""Numbers of a closed account that are given back side by side: each waits for one flush."""

_SUBRESOURCES: Final = {
    "addresses": "Addresses",
    "applications": "Applications",
    "authorized_connect_apps": "AuthorizedConnectApps",
    "available_phone_numbers": "AvailablePhoneNumbers",
    "balance": "Balance",
    "calls": "Calls",
    "conferences": "Conferences",
    "connect_apps": "ConnectApps",
    "incoming_phone_numbers": "IncomingPhoneNumbers",
    "keys": "Keys",
    "messages": "Messages",
    "notifications": "Notifications",
    "outgoing_caller_ids": "OutgoingCallerIds",
    "queues": "Queues",
    "recordings": "Recordings",
    "short_codes": "SMS/ShortCodes",
    "signing_keys": "SigningKeys",
    "sip": "SIP",
    "transcriptions": "Transcriptions",
    "usage": "Usage",
}


class AccountJson(msgspec.Struct, frozen=True):
    """Every property of the published schema."""

    sid: str
    owner_account_sid: str
    friendly_name: str
    auth_token: str
    date_created: str
    date_updated: str
    uri: str
    subresource_uris: dict[str, str]
    status: str
    type: str


async def _create(request: Request, services: ApiServices) -> Answer:
    if request.caller.is_subaccount:
        raise refused(
            "A subaccount has no subaccounts of its own: ask with its parent's credentials."
        )
    key = key_of(request)
    owner = request.caller.sid
    name = new_sid(sid.ACCOUNT, owner, "Accounts", key=key, services=services)
    given_name = friendly_name(request)
    # Signed before it has what a repeat would make up anew.
    asked = signed(
        AccountOpened(sid=name, friendly_name=given_name or "", auth_token="", owner=owner)
    )
    wanted = msgspec.structs.replace(
        asked,
        friendly_name=given_name or _name_at(services.clock.wall()),
        auth_token=services.entropy(16).hex(),
    )
    opened = await create(
        request, services.accounts, name, wanted, key=key, claim="the account was opened"
    )
    if opened.fingerprint != wanted.fingerprint:
        raise ApiError(Code.KEY_REUSED, sid=name)
    return json_answer(201, account_json(opened))


def _name_at(seconds: float) -> str:
    """The published name of an account that was given none."""
    moment = datetime.fromtimestamp(seconds, UTC)
    meridian = "am" if moment.hour < 12 else "pm"
    return f"SubAccount Created at {moment:%Y-%m-%d} {moment:%I:%M} {meridian}"


async def _fetch(request: Request, services: ApiServices) -> Answer:
    return json_answer(200, account_json(request.account), lag_header(services.replica))


async def _list(request: Request, services: ApiServices) -> Answer:
    page = requested_page(request.arguments)
    status = request.arguments.text("Status")
    # A subaccount's list is itself: its row is one of its parent's.
    owner = request.caller.owner or request.caller.sid
    rows = services.replica.accounts(
        owner,
        request.arguments.text("FriendlyName"),
        None if status is None else AccountStatus(status),
        only=request.caller.sid if request.caller.is_subaccount else None,
        items_max=page.rows_max,
        behind=page.behind,
    )
    return rows_answer(request, page, rows, account_json, services.replica)


async def _update(request: Request, services: ApiServices) -> Answer:
    name = friendly_name(request)
    word = request.arguments.text("Status")
    status = None if word is None else AccountStatus(word)
    if status is not None and status is not request.account.status:
        _check_parent(request)
    account = await update(
        request,
        services.accounts,
        request.account.sid,
        functools.partial(_edited, name=name, status=status),
    )
    if not _is_as_wanted(account, name, status):
        raise invalid("Status", "the account is closed, and that is for good")
    if account.status is AccountStatus.CLOSED:
        await _release_numbers(request, services)
    return json_answer(200, account_json(account))


def _check_parent(request: Request) -> None:
    if not request.account.is_subaccount:
        raise invalid("Status", "a main account has no parent that could change it")
    if request.caller.sid == request.account.sid:
        raise refused("Only its parent changes the status of an account.")


def _edited(
    body: AccountOpened, *, name: str | None, status: AccountStatus | None
) -> AccountOpened:
    """What is asked for; or `body` as it is, where that cannot be done."""
    if body.status is AccountStatus.CLOSED:
        return body
    changed: dict[str, Any] = {} if name is None else {"friendly_name": name}
    if status is not None and status in NEXT[body.status]:
        changed["status"] = status
    return msgspec.structs.replace(body, **changed)


def _is_as_wanted(account: Account, name: str | None, status: AccountStatus | None) -> bool:
    return name in (None, account.friendly_name) and status in (None, account.status)


async def _release_numbers(request: Request, services: ApiServices) -> None:
    """Give back every number of the account. Raises `ApiError` when that does not end in time: the
    account is closed then, and its last numbers are anybody's who asks for one by name."""
    owner, deadline = request.account.sid, request.deadline
    is_whole = await services.numbers.catch_up(deadline=deadline)
    while not deadline.has_passed():
        left = services.replica.numbers(owner, NumberFilter(), items_max=RELEASED_AT_ONCE)
        if not left and is_whole:
            return
        if not left or not await _released(left, services, deadline):
            break
    raise unavailable(
        "The account is closed, and some of its numbers are not given back yet. Send it again."
    )


async def _released(numbers: Sequence[Number], services: ApiServices, deadline: Deadline) -> bool:
    """Whether all of them are free now."""
    async with asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(services.numbers.release(each, deadline=deadline)) for each in numbers
        ]
    return all(isinstance(each.result(), Removed | Missing) for each in asked)


def account_json(account: Account) -> AccountJson:
    """The account as the API shows it. A main account owns itself."""
    place = f"/2010-04-01/Accounts/{account.sid}"
    return AccountJson(
        sid=account.sid,
        owner_account_sid=account.owner or account.sid,
        friendly_name=account.friendly_name,
        auth_token=account.auth_token,
        date_created=rfc_2822(account.created_at),
        date_updated=rfc_2822(account.updated_at),
        uri=f"{place}.json",
        subresource_uris={name: f"{place}/{word}.json" for name, word in _SUBRESOURCES.items()},
        status=account.status.value,
        type=account.type,
    )


CREATE: Final = Handler(_create, is_own_only=True)
LIST: Final = Handler(_list, is_own_only=True)
FETCH: Final = Handler(_fetch, is_own_only=True)
UPDATE: Final = Handler(_update, is_own_only=True, is_for_inactive=True)
