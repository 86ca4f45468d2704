"""The IncomingPhoneNumber resource: own a number, say what happens to what arrives there, find it,
change it, give it back. Also under the path of its type: Local, Mobile, TollFree.

Ownership is decided in one place for the whole cluster. A number taken by area code comes from a
simulated inventory: fictional numbers, tried in a fixed order until one is free.
"""

import asyncio
import functools
from collections.abc import Mapping
from typing import Final, assert_never

import msgspec

from trunkline.api import magic_numbers
from trunkline.api.admission import not_begun_in_time
from trunkline.api.answer import Answer, json_answer
from trunkline.api.arguments import Arguments, Value
from trunkline.api.errors import ApiError, invalid, not_found, not_implemented, unavailable
from trunkline.api.freshness import lag_header
from trunkline.api.idempotency import key_of
from trunkline.api.moments import rfc_2822
from trunkline.api.paging import requested_page, rows_answer
from trunkline.api.records import changed, deleted, new_sid, sid_of
from trunkline.api.request import Handler, Request
from trunkline.api.services import ApiServices
from trunkline.api.settings import (
    URLS,
    Setting,
    check_version,
    friendly_name,
    given,
    is_repeat_of,
    signed,
)
from trunkline.directory.numbers import Owned, Taken
from trunkline.directory.records import Spent, Undecidable
from trunkline.domain import sid
from trunkline.domain.errors import Code
from trunkline.domain.events import NumberOwned
from trunkline.domain.inventory import NumberType, local_area, type_of
from trunkline.domain.number import Number
from trunkline.log.interface import Unreadable
from trunkline.replica.queries import NumberFilter

ORIGIN: Final = "twilio"
"""Of the two origins that clients know, the one that means "not brought from another carrier"."""

_SETTINGS: Final[Mapping[str, Setting]] = {
    **URLS,
    "SmsApplicationSid": Setting("sms_application_sid"),
    "VoiceApplicationSid": Setting("voice_application_sid"),
    "AddressSid": Setting("address_sid"),
    "BundleSid": Setting("bundle_sid"),
    "IdentitySid": Setting("identity_sid"),
}
# Kept and shown, though nobody asks for them here: the three that stand for papers.

_APPLICATIONS: Final = ("SmsApplicationSid", "VoiceApplicationSid")

_CODES: Final[Mapping[str, Code]] = {
    "PhoneNumber": Code.NUMBER_INVALID,
    **{name: Code.URL_INVALID for name in URLS if name.endswith(("Url", "Callback"))},
    **dict.fromkeys(_APPLICATIONS, Code.APPLICATION_INVALID),
}

# Each with the values that ask for nothing: ignoring any other would change who answers what arrives
# here, or whom an emergency call reaches.
_UNSUPPORTED: Final[Mapping[str, tuple[Value, ...]]] = {
    "TrunkSid": (),
    "EmergencyAddressSid": (),
    "EmergencyStatus": ("Inactive",),
    "VoiceReceiveMode": ("voice",),
    "VoiceCallerIdLookup": (False,),
}

_NAMES: Final[Mapping[NumberType, str]] = {
    NumberType.LOCAL: "a local number",
    NumberType.MOBILE: "a mobile number",
    NumberType.TOLL_FREE: "a toll-free number",
}


class NumberOfTypeJson(msgspec.Struct, frozen=True, kw_only=True):
    """Every property of the published schema. What we do not have is null, or the quiet default."""

    sid: str
    account_sid: str
    phone_number: str
    friendly_name: str
    date_created: str
    date_updated: str
    sms_url: str
    sms_method: str
    sms_fallback_url: str
    sms_fallback_method: str
    status_callback: str
    status_callback_method: str
    voice_url: str
    voice_method: str
    voice_fallback_url: str
    voice_fallback_method: str
    capabilities: dict[str, bool]
    uri: str
    sms_application_sid: str
    voice_application_sid: str
    address_sid: str | None
    bundle_sid: str | None
    identity_sid: str | None
    address_requirements: str = "none"
    api_version: str = "2010-04-01"
    beta: bool = False
    emergency_address_sid: str | None = None
    emergency_address_status: str = "unregistered"
    emergency_status: str = "Inactive"
    origin: str = ORIGIN
    status: str = "in-use"
    trunk_sid: str | None = None
    voice_caller_id_lookup: bool = False
    voice_receive_mode: str = "voice"


class NumberJson(NumberOfTypeJson, frozen=True, kw_only=True):
    """The same with `type`, which the lists of one type do not show."""

    type: str


async def _create(request: Request, services: ApiServices) -> Answer:
    return await _created(request, services, None)


async def _created(request: Request, services: ApiServices, type_: NumberType | None) -> Answer:
    """`type_` is that of the path; by area code only a number of any type is given."""
    arguments = request.arguments
    _refuse_unsupported(request)
    phone_number = arguments.text("PhoneNumber")
    if services.has_magic_numbers:
        refusal = magic_numbers.refusal_of_purchase(phone_number, arguments.text("AreaCode"))
        if refusal is not None:
            raise ApiError(refusal)
    await _check_applications(request, services)
    key = key_of(request)
    if phone_number is not None:
        if type_ is not None and type_of(phone_number) is not type_:
            raise invalid("PhoneNumber", f"it is not {_NAMES[type_]}")
        number = await _own(request, services, phone_number, key)
        if number is None:
            raise ApiError(Code.NUMBER_TAKEN)
    elif type_ is None:
        number = await _own_in_area(request, services, arguments.text("AreaCode"), key)
    else:
        raise invalid("PhoneNumber", "it is required")
    return json_answer(201, number_json(number, type_))


def _refuse_unsupported(request: Request) -> None:
    check_version(request)
    for name, value in request.arguments.given(_UNSUPPORTED):
        if value not in _UNSUPPORTED[name]:
            raise not_implemented(f"The parameter '{name}' of a phone number")


async def _check_applications(request: Request, services: ApiServices) -> None:
    for name in _APPLICATIONS:
        wanted = request.arguments.text(name)
        if wanted is None:
            continue
        # The log is asked, and not the copy: the application may have been made, or deleted, through
        # another host a moment ago.
        found = await services.applications.find(wanted, deadline=request.deadline)
        if isinstance(found, Unreadable):
            raise unavailable(
                f"Whether the application of '{name}' exists cannot be told at the moment; "
                "nothing was done. Try again."
            )
        if found is None or found.account != request.account.sid:
            raise ApiError(Code.APPLICATION_INVALID, parameter=name)


async def _own_in_area(
    request: Request, services: ApiServices, area_code: str | None, key: str | None
) -> Number:
    if area_code is None:
        raise invalid("PhoneNumber", "it is required, unless an AreaCode is given")
    area = local_area("US", area_code) or local_area("CA", area_code)
    if area is None and services.has_magic_numbers:
        area = magic_numbers.area_of(area_code)
    if area is None:
        raise ApiError(Code.NUMBER_NONE_IN_AREA)
    candidates = list(area.numbers())
    if key is not None:
        # What an earlier request with this key took goes first: one before it may be free by now.
        earlier = await _named_before(request, services, candidates, key)
        candidates = [earlier] if earlier is not None else candidates
    account = request.account.sid
    passed_over: list[str] = []
    for candidate in candidates:
        shown = services.replica.number_by_phone(candidate)
        if shown is not None and shown.sid != _number_sid(account, candidate, key, services):
            passed_over.append(candidate)
            continue
        number = await _own(request, services, candidate, key)
        if number is not None:
            return number
    for candidate in passed_over:  # one of them may be free without the copy showing it yet
        number = await _own(request, services, candidate, key)
        if number is not None:
            return number
    raise ApiError(Code.NUMBER_NONE_IN_AREA)


async def _named_before(
    request: Request, services: ApiServices, candidates: list[str], key: str
) -> str | None:
    """The number that this key already named, as the log knows it, also if it was given back since.
    Raises `ApiError` while the log cannot be asked: to guess would be to own a second number."""
    account = request.account.sid
    for candidate in candidates:
        name = _number_sid(account, candidate, key, services)
        known = services.replica.number_by_phone(candidate)
        if known is not None and known.sid == name:
            return candidate
        was_named = await services.numbers.was_named(candidate, name, deadline=request.deadline)
        if isinstance(was_named, Undecidable):
            raise unavailable(
                f"Whether the key has a number already cannot be told ({was_named.reason}); "
                "nothing was done. Repeat with the same Idempotency-Key."
            )
        if was_named:
            return candidate
    return None


async def _own(
    request: Request, services: ApiServices, phone_number: str, key: str | None
) -> Number | None:
    """The number, owned; None if it is somebody's already. Raises `ApiError` when that is unknown."""
    account = request.account.sid
    number_sid = _number_sid(account, phone_number, key, services)
    settings = await _settings(request, phone_number, number_sid)
    if request.deadline.has_passed():
        raise not_begun_in_time()
    # The log decides, whatever the copy shows: it may have been given back a moment ago.
    answer = await services.numbers.own(
        account, settings, is_keyed=key is not None, deadline=request.deadline
    )
    match answer:
        case Owned(number, is_repeat):
            if is_repeat and not is_repeat_of(number.settings, settings):
                raise ApiError(Code.KEY_REUSED, sid=number.sid)
            return number
        case Taken():
            return None
        case Spent():
            raise ApiError(Code.KEY_SPENT, sid=number_sid)
        case Undecidable(reason):
            # Not the next candidate: this one may be ours already.
            raise unavailable(
                f"Whether {phone_number} is owned now cannot be told ({reason}); "
                "repeat with the same Idempotency-Key, or look for it in the list first."
            )
        case other:
            assert_never(other)


def _number_sid(account: str, phone_number: str, key: str | None, services: ApiServices) -> str:
    # The number is a part of it: one key for two numbers must not give two numbers one SID.
    parts = (account, "IncomingPhoneNumbers", phone_number)
    return new_sid(sid.PHONE_NUMBER, *parts, key=key, services=services)


async def _settings(request: Request, phone_number: str, number_sid: str) -> NumberOwned:
    name = friendly_name(request)
    if name is None:
        # Importing the numbering plans takes 50 ms the first time: not on the event loop.
        name = await asyncio.to_thread(national_form, phone_number)
    bare = NumberOwned(sid=number_sid, phone_number=phone_number, friendly_name=name)
    return signed(msgspec.structs.replace(bare, **given(request, _SETTINGS)))


def national_form(phone_number: str) -> str:
    """The number as people of its country write it, or as it is where no plan knows it."""
    import phonenumbers  # noqa: PLC0415 - 50 ms that a host which sells no numbers never pays

    try:
        parsed = phonenumbers.parse(phone_number)
    except phonenumbers.NumberParseException:
        return phone_number
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL))


async def _fetch(request: Request, services: ApiServices) -> Answer:
    number = await _found(request, services)
    return json_answer(200, number_json(number), lag_header(services.replica))


async def _found(request: Request, services: ApiServices) -> Number:
    """The account's number of the SID in the path. Raises `ApiError`.

    Its SID does not say in which register it stands. So if the copy does not show it, the copy is
    waited for until it shows all there is: it is 404 only when it surely is not there.
    """
    name = sid_of(request, sid.PHONE_NUMBER)
    number = services.replica.number(name)
    if number is None:
        if not await services.numbers.catch_up(deadline=request.deadline):
            raise unavailable("Whether this number exists cannot be told at the moment. Try again.")
        number = services.replica.number(name)
    if number is None or number.account != request.account.sid:
        raise not_found(request.path)
    return number


async def _update(request: Request, services: ApiServices) -> Answer:
    _refuse_unsupported(request)
    if request.arguments.text("AccountSid") not in (None, request.account.sid):
        raise not_implemented(
            "The parameter 'AccountSid' of a phone number, naming another account"
        )
    await _check_applications(request, services)
    number = await _found(request, services)
    settings = given(request, _SETTINGS)
    name = friendly_name(request)
    if name is not None:
        settings["friendly_name"] = name
    edit = functools.partial(msgspec.structs.replace, **settings)
    answer = await services.numbers.change(number, edit, deadline=request.deadline)
    return json_answer(200, number_json(changed(request, answer)))


async def _delete(request: Request, services: ApiServices) -> Answer:
    number = await _found(request, services)
    return deleted(request, await services.numbers.release(number, deadline=request.deadline))


async def _list(request: Request, services: ApiServices) -> Answer:
    return await _listed(request, services, None)


async def _listed(request: Request, services: ApiServices, type_: NumberType | None) -> Answer:
    page = requested_page(request.arguments)
    rows: list[Number] = []
    if request.arguments.text("Origin") in (None, ORIGIN):
        rows = services.replica.numbers(
            request.account.sid,
            _filter(request.arguments, type_),
            items_max=page.rows_max,
            behind=page.behind,
        )
    return rows_answer(
        request, page, rows, lambda number: number_json(number, type_), services.replica
    )


def _filter(arguments: Arguments, type_: NumberType | None) -> NumberFilter:
    return NumberFilter(
        phone_number=arguments.text("PhoneNumber"),
        friendly_name=arguments.text("FriendlyName"),
        type=type_,
    )


def number_json(number: Number, type_: NumberType | None = None) -> NumberOfTypeJson:
    """The number as the API shows it; under the path of `type_`, without its type."""
    settings = number.settings
    shown = NumberJson(
        sid=number.sid,
        account_sid=number.account,
        phone_number=number.phone_number,
        friendly_name=settings.friendly_name,
        date_created=rfc_2822(number.created_at),
        date_updated=rfc_2822(number.updated_at),
        sms_url=settings.sms_url,
        sms_method=settings.sms_method,
        sms_fallback_url=settings.sms_fallback_url,
        sms_fallback_method=settings.sms_fallback_method,
        status_callback=settings.status_callback,
        status_callback_method=settings.status_callback_method,
        voice_url=settings.voice_url,
        voice_method=settings.voice_method,
        voice_fallback_url=settings.voice_fallback_url,
        voice_fallback_method=settings.voice_fallback_method,
        sms_application_sid=settings.sms_application_sid,
        voice_application_sid=settings.voice_application_sid,
        address_sid=settings.address_sid or None,
        bundle_sid=settings.bundle_sid or None,
        identity_sid=settings.identity_sid or None,
        capabilities={"voice": True, "sms": True, "mms": True, "fax": False},
        uri=f"/2010-04-01/Accounts/{number.account}/IncomingPhoneNumbers/{number.sid}.json",
        type=type_of(number.phone_number).value,
    )
    if type_ is None:
        return shown
    values = msgspec.structs.asdict(shown)
    del values["type"]
    return NumberOfTypeJson(**values)


def _create_of(type_: NumberType) -> Handler:
    async def run(request: Request, services: ApiServices) -> Answer:
        return await _created(request, services, type_)

    return Handler(run, _CODES)


def _list_of(type_: NumberType) -> Handler:
    async def run(request: Request, services: ApiServices) -> Answer:
        return await _listed(request, services, type_)

    return Handler(run)


CREATE: Final = Handler(_create, _CODES)
FETCH: Final = Handler(_fetch)
LIST: Final = Handler(_list)
UPDATE: Final = Handler(_update, _CODES)
DELETE: Final = Handler(_delete)
CREATE_LOCAL: Final = _create_of(NumberType.LOCAL)
CREATE_MOBILE: Final = _create_of(NumberType.MOBILE)
CREATE_TOLL_FREE: Final = _create_of(NumberType.TOLL_FREE)
LIST_LOCAL: Final = _list_of(NumberType.LOCAL)
LIST_MOBILE: Final = _list_of(NumberType.MOBILE)
LIST_TOLL_FREE: Final = _list_of(NumberType.TOLL_FREE)
