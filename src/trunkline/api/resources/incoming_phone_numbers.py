"""The IncomingPhoneNumber resource: own a number, say what happens to what arrives there, find it.

Ownership is decided in one place for the whole cluster. A number taken by area code comes from a
simulated inventory: fictional numbers, tried in a fixed order until one is free.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Final, assert_never

import msgspec

from trunkline.api.admission import not_begun_in_time
from trunkline.api.answer import Answer, json_answer
from trunkline.api.arguments import Arguments, Value
from trunkline.api.errors import ApiError, invalid, not_found, not_implemented, unavailable
from trunkline.api.freshness import lag_header
from trunkline.api.idempotency import key_of
from trunkline.api.moments import rfc_2822
from trunkline.api.paging import page_answer, requested_page
from trunkline.api.request import Handler, Request
from trunkline.api.services import ApiServices
from trunkline.directory.numbers import Owned, Taken
from trunkline.directory.records import Spent, Undecidable
from trunkline.domain import sid
from trunkline.domain.errors import Code
from trunkline.domain.events import NumberOwned
from trunkline.domain.number import Number
from trunkline.replica.queries import NumberFilter, Place

INVENTORY_MAX: Final = 100
"""Numbers in one area: 555-0100 to 555-0199 are kept for fiction (North American Numbering Plan)."""
FRIENDLY_NAME_CHARS_MAX: Final = 64
ORIGIN: Final = "twilio"
"""Of the two origins that clients know, the one that means "not brought from another carrier"."""

_AREA_CODE: Final = re.compile(r"[2-9][0-9]{2}\Z")

_CODES: Final[Mapping[str, Code]] = {
    "PhoneNumber": Code.NUMBER_INVALID,
    "SmsUrl": Code.URL_INVALID,
    "SmsFallbackUrl": Code.URL_INVALID,
    "StatusCallback": Code.URL_INVALID,
    "VoiceUrl": Code.URL_INVALID,
    "VoiceFallbackUrl": Code.URL_INVALID,
}

# Each with the values that ask for nothing: ignoring any other would change who answers what arrives
# here, or whom an emergency call reaches. Taken and ignored: AddressSid, ApiVersion, BundleSid,
# IdentitySid, which are papers that a simulated inventory does not ask for.
_UNSUPPORTED: Final[Mapping[str, tuple[Value, ...]]] = {
    "SmsApplicationSid": (),
    "VoiceApplicationSid": (),
    "TrunkSid": (),
    "EmergencyAddressSid": (),
    "EmergencyStatus": ("Inactive",),
    "VoiceReceiveMode": ("voice",),
    "VoiceCallerIdLookup": (False,),
}


class NumberJson(msgspec.Struct, frozen=True):
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
    address_requirements: str = "none"
    address_sid: str | None = None
    api_version: str = "2010-04-01"
    beta: bool = False
    bundle_sid: str | None = None
    emergency_address_sid: str | None = None
    emergency_address_status: str = "unregistered"
    emergency_status: str = "Inactive"
    identity_sid: str | None = None
    origin: str = ORIGIN
    sms_application_sid: str = ""
    status: str = "in-use"
    trunk_sid: str | None = None
    type: str = "local"
    voice_application_sid: str = ""
    voice_caller_id_lookup: bool = False
    voice_receive_mode: str = "voice"


async def _create(request: Request, services: ApiServices) -> Answer:
    arguments = request.arguments
    for name, value in arguments.given(_UNSUPPORTED):
        if value not in _UNSUPPORTED[name]:
            raise not_implemented(f"The parameter '{name}' of a phone number")
    key = key_of(request)
    phone_number = arguments.text("PhoneNumber")
    if phone_number is not None:
        number = await _own(request, services, phone_number, key)
        if number is None:
            raise ApiError(Code.NUMBER_TAKEN)
    else:
        number = await _own_in_area(request, services, arguments.text("AreaCode"), key)
    return json_answer(201, number_json(number))


async def _own_in_area(
    request: Request, services: ApiServices, area_code: str | None, key: str | None
) -> Number:
    if area_code is None:
        raise invalid("PhoneNumber", "it is required, unless an AreaCode is given")
    if _AREA_CODE.match(area_code) is None:
        raise ApiError(Code.NUMBER_NONE_IN_AREA)
    for candidate in inventory(area_code):
        number = await _own(request, services, candidate, key)
        if number is not None:
            return number
    raise ApiError(Code.NUMBER_NONE_IN_AREA)


def inventory(area_code: str) -> Iterator[str]:
    """The numbers of an area, always in the same order, so that a repeat meets its own first try."""
    return (f"+1{area_code}55501{last:02}" for last in range(INVENTORY_MAX))


async def _own(
    request: Request, services: ApiServices, phone_number: str, key: str | None
) -> Number | None:
    """The number, owned; None if it is somebody's already. Raises `ApiError` when that is unknown."""
    account = request.account.sid
    known = services.replica.number_by_phone(phone_number)
    number_sid = _number_sid(account, phone_number, key, services)
    if known is not None and known.sid != number_sid:
        return None  # nobody ever gives a number back, so an old copy cannot be wrong about this
    settings = await _settings(request.arguments, phone_number, number_sid)
    if request.deadline.has_passed():
        raise not_begun_in_time()
    answer = await services.numbers.own(
        account, settings, is_keyed=key is not None, deadline=request.deadline
    )
    match answer:
        case Owned(number, is_repeat):
            if is_repeat and number.settings != settings:
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
    if key is None:
        return sid.sid_from_entropy(sid.PHONE_NUMBER, services.entropy(16))
    # The number is a part of it: one key for two numbers must not give two numbers one SID.
    return sid.sid_from_key(sid.PHONE_NUMBER, account, "IncomingPhoneNumbers", phone_number, key)


async def _settings(arguments: Arguments, phone_number: str, number_sid: str) -> NumberOwned:
    name = arguments.text("FriendlyName")
    if name is None:
        # Importing the numbering plans takes 50 ms the first time: not on the event loop.
        name = await asyncio.to_thread(national_form, phone_number)
    if len(name) > FRIENDLY_NAME_CHARS_MAX:
        raise invalid("FriendlyName", f"it is longer than {FRIENDLY_NAME_CHARS_MAX} characters")
    return NumberOwned(
        sid=number_sid,
        phone_number=phone_number,
        friendly_name=name,
        sms_url=arguments.text("SmsUrl") or "",
        sms_method=arguments.text("SmsMethod") or "POST",
        sms_fallback_url=arguments.text("SmsFallbackUrl") or "",
        sms_fallback_method=arguments.text("SmsFallbackMethod") or "POST",
        status_callback=arguments.text("StatusCallback") or "",
        status_callback_method=arguments.text("StatusCallbackMethod") or "POST",
        voice_url=arguments.text("VoiceUrl") or "",
        voice_method=arguments.text("VoiceMethod") or "POST",
        voice_fallback_url=arguments.text("VoiceFallbackUrl") or "",
        voice_fallback_method=arguments.text("VoiceFallbackMethod") or "POST",
    )


def national_form(phone_number: str) -> str:
    """The number as people of its country write it, or as it is where no plan knows it."""
    import phonenumbers  # noqa: PLC0415 - 50 ms that a host which sells no numbers never pays

    try:
        parsed = phonenumbers.parse(phone_number)
    except phonenumbers.NumberParseException:
        return phone_number
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL))


async def _fetch(request: Request, services: ApiServices) -> Answer:
    number = services.replica.number(request.words[1])
    if number is None or number.account != request.account.sid:
        raise not_found(request.path)
    return json_answer(200, number_json(number), lag_header(services.replica))


async def _list(request: Request, services: ApiServices) -> Answer:
    page = requested_page(request.arguments)
    rows: list[Number] = []
    if request.arguments.text("Origin") in (None, ORIGIN):
        rows = services.replica.numbers(
            request.account.sid,
            _filter(request.arguments),
            items_max=page.rows_max,
            behind=page.behind,
        )
    shown = rows[: page.size]
    last = Place(shown[-1].created_at, shown[-1].sid) if len(rows) > page.size else None
    return page_answer(
        request,
        page,
        [number_json(number) for number in shown],
        last=last,
        headers=lag_header(services.replica),
    )


def _filter(arguments: Arguments) -> NumberFilter:
    part = (arguments.text("PhoneNumber") or "").strip("*")
    if "*" in part:
        raise not_implemented("A '*' within the 'PhoneNumber' that is searched for")
    return NumberFilter(phone_number=part or None, friendly_name=arguments.text("FriendlyName"))


def number_json(number: Number) -> NumberJson:
    """The number as the API shows it."""
    settings = number.settings
    return NumberJson(
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
        capabilities={"voice": True, "sms": True, "mms": True, "fax": False},
        uri=f"/2010-04-01/Accounts/{number.account}/IncomingPhoneNumbers/{number.sid}.json",
    )


CREATE: Final = Handler(_create, _CODES)
FETCH: Final = Handler(_fetch)
LIST: Final = Handler(_list)
