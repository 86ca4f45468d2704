"""The AvailablePhoneNumber resource: what could be owned, searched by place, type and digits.

The inventory is simulated (`domain/inventory`); what the copy shows as owned is left out of it. Nothing
is kept for whoever was shown it: of two that ask for one number, one gets it.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from trunkline.api.answer import Answer, json_answer
from trunkline.api.arguments import Arguments, with_plus
from trunkline.api.errors import invalid, not_found
from trunkline.api.freshness import lag_header
from trunkline.api.paging import page_answer, requested_page
from trunkline.api.request import Handler, Request
from trunkline.api.services import ApiServices
from trunkline.domain.inventory import (
    COUNTRIES,
    Area,
    NumberType,
    Wanted,
    area_of,
    pattern_of,
    search,
    types_in,
)
from trunkline.domain.number import is_e164
from trunkline.replica.queries import Place

MILES_DEFAULT: Final = 25
MILES_MAX: Final = 500
CODES_IN: Final = frozenset({"US", "CA"})
"""Where a search by area code, or near a number, finds anything."""

_CAPABILITIES: Final[Mapping[str, bool]] = {"voice": True, "sms": True, "mms": True, "fax": False}
# Taken and without effect, as no number here is new to the platform or asks for an address: Beta,
# ExcludeAllAddressRequired, ExcludeForeignAddressRequired, ExcludeLocalAddressRequired.
_BY_CAPABILITY: Final[Mapping[str, str]] = {
    "VoiceEnabled": "voice",
    "SmsEnabled": "sms",
    "MmsEnabled": "mms",
    "FaxEnabled": "fax",
}

_WORDS: Final[Mapping[NumberType, tuple[str, str]]] = {
    NumberType.LOCAL: ("local", "Local"),
    NumberType.MOBILE: ("mobile", "Mobile"),
    NumberType.TOLL_FREE: ("toll_free", "TollFree"),
}
"""The name among `subresource_uris`, and the word of the path."""


class CountryJson(msgspec.Struct, frozen=True):
    """Every property of the published schema."""

    country_code: str
    country: str
    uri: str
    beta: bool
    subresource_uris: dict[str, str]


class AvailableJson(msgspec.Struct, frozen=True):
    """Every property of the published schema."""

    friendly_name: str
    phone_number: str
    lata: str | None
    locality: str | None
    rate_center: str | None
    latitude: float | None
    longitude: float | None
    region: str | None
    postal_code: str | None
    iso_country: str
    address_requirements: str
    beta: bool
    capabilities: Mapping[str, bool]


async def _countries(request: Request, services: ApiServices) -> Answer:
    del services
    account = request.account.sid
    content = {
        "countries": [country_json(account, code) for code in COUNTRIES],
        "uri": _place(account, None),
    }
    return json_answer(200, content)


async def _country(request: Request, services: ApiServices) -> Answer:
    del services
    return json_answer(200, country_json(request.account.sid, _code(request)))


def country_json(account: str, code: str) -> CountryJson:
    """The country as the API shows it, with the types of number that are there."""
    return CountryJson(
        country_code=code,
        country=COUNTRIES[code],
        uri=_place(account, code),
        beta=False,
        subresource_uris={
            _WORDS[type_][0]: _place(account, f"{code}/{_WORDS[type_][1]}")
            for type_ in types_in(code)
        },
    )


async def _list(request: Request, services: ApiServices, type_: NumberType) -> Answer:
    code = _code(request)
    if type_ not in types_in(code):
        raise not_found(request.path)
    page = requested_page(request.arguments)
    # A place in this list is how far the search had come, so that what is owned meanwhile moves none.
    start = 0 if page.behind is None else _position(page.behind)
    numbered = enumerate(_found(request.arguments, code, type_), start=1)
    free = (
        (position, area, number)
        for position, (area, number) in itertools.islice(numbered, start, None)
        if services.replica.number_by_phone(number) is None
    )
    rows = list(itertools.islice(free, page.rows_max))
    shown = rows[: page.size]
    last = Place(float(shown[-1][0]), shown[-1][2]) if len(rows) > page.size else None
    items: list[object] = [available_json(area, number, code) for _, area, number in shown]
    return page_answer(request, page, items, last=last, headers=lag_header(services.replica))


def _position(behind: Place) -> int:
    # A token may come from anywhere; beyond the end there is nothing.
    return max(0, min(int(behind.created_at), 1_000_000))


def _found(arguments: Arguments, country: str, type_: NumberType) -> Iterator[tuple[Area, str]]:
    """All that matches, owned or not."""
    wanted = _wanted(arguments, country)
    able = (
        arguments.flag(name) in (None, _CAPABILITIES[capability])
        for name, capability in _BY_CAPABILITY.items()
    )
    if not all(able) or wanted is None:
        return iter(())
    return search(country, type_, wanted)


def _wanted(arguments: Arguments, country: str) -> Wanted | None:
    """What is searched for; `None` where nothing can be that. Raises `ApiError`."""
    contains = arguments.text("Contains")
    pattern = None if contains is None else pattern_of(with_plus(contains))
    if contains is not None and pattern is None:
        raise invalid(
            "Contains",
            "it must be 2 to 16 digits, letters or '*', with '+', '%' or '$' at its ends",
        )
    miles = arguments.integer("Distance")
    if miles is not None and not 0 <= miles <= MILES_MAX:
        raise invalid("Distance", f"it must be 0 to {MILES_MAX} miles")
    code, near_number = arguments.integer("AreaCode"), arguments.text("NearNumber")
    if country not in CODES_IN and (code is not None or near_number is not None):
        return None
    near = _near(arguments.text("NearLatLong"))
    if near_number is not None:
        area = area_of(near_number)
        if area is None or area.latitude is None or area.longitude is None:
            return None
        near = (area.latitude, area.longitude)
    return Wanted(
        code=None if code is None else str(code),
        contains=pattern,
        locality=_same(arguments.text("InLocality"), lambda area: area.locality),
        region=_same(arguments.text("InRegion"), lambda area: area.region),
        postal_code=_same(arguments.text("InPostalCode"), lambda area: area.postal_code),
        lata=_same(arguments.text("InLata"), lambda area: area.lata),
        rate_center=_same(arguments.text("InRateCenter"), lambda area: area.rate_center),
        near=near,
        miles=MILES_DEFAULT if miles is None else miles,
    )


def _same(text: str | None, part_of: Callable[[Area], str | None]) -> str | None:
    """What the part of an area must be: as given, or as it is where the given number is. Of a number
    that is nowhere it is the number, which is the name of nothing."""
    if text is None or not is_e164(with_plus(text)):
        return text
    area = area_of(with_plus(text))
    return (None if area is None else part_of(area)) or text


def _near(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        latitude, longitude = (float(part) for part in text.split(","))
    except ValueError:
        latitude, longitude = 91.0, 0.0
    # Written so that what is no number at all is outside, too.
    if not (-90.0 <= latitude <= 90.0 and -180.0 <= longitude <= 180.0):
        raise invalid("NearLatLong", "it must be a latitude and a longitude, like 37.84,-122.25")
    return latitude, longitude


def available_json(area: Area, number: str, country: str) -> AvailableJson:
    """A number as the API offers it."""
    return AvailableJson(
        friendly_name=_friendly(number),
        phone_number=number,
        lata=area.lata,
        locality=area.locality,
        rate_center=area.rate_center,
        latitude=area.latitude,
        longitude=area.longitude,
        region=area.region,
        postal_code=area.postal_code,
        iso_country=country,
        address_requirements="none",
        beta=False,
        capabilities=_CAPABILITIES,
    )


def _friendly(number: str) -> str:
    """A number of North America as people write it; others as they are."""
    return f"({number[2:5]}) {number[5:8]}-{number[8:]}" if number.startswith("+1") else number


def _code(request: Request) -> str:
    code = request.words[1].upper()
    if code not in COUNTRIES:
        raise not_found(request.path)
    return code


def _place(account: str, rest: str | None) -> str:
    place = f"/2010-04-01/Accounts/{account}/AvailablePhoneNumbers"
    return f"{place}.json" if rest is None else f"{place}/{rest}.json"


def _list_of(type_: NumberType) -> Handler:
    async def run(request: Request, services: ApiServices) -> Answer:
        return await _list(request, services, type_)

    return Handler(run)


LIST_COUNTRIES: Final = Handler(_countries)
FETCH_COUNTRY: Final = Handler(_country)
LIST_LOCAL: Final = _list_of(NumberType.LOCAL)
LIST_MOBILE: Final = _list_of(NumberType.MOBILE)
LIST_TOLL_FREE: Final = _list_of(NumberType.TOLL_FREE)
