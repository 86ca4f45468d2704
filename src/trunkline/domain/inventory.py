"""A simulated inventory of phone numbers: where they are, which they are, and how one searches them.

Numbers come from ranges that their countries keep for fiction, so that nothing done to them can reach
anybody: 555-0100 to 555-0199 of an area code in North America, Ofcom's numbers for drama in the United
Kingdom, ARCEP's in France. Of toll-free numbers in North America only 800-555-0199 is kept so; there the
others are made the same way, and are answered by nobody but this simulation either. An area has a
hundred numbers, always in the same order.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NUMBERS_MAX: Final = 100
"""Numbers in one area."""

EARTH_RADIUS_MILES: Final = 3_958.8

_TOLL_FREE_CODES: Final = frozenset({"800", "833", "844", "855", "866", "877", "888"})
_KEYPAD: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "22233344455566677778889999")
_PATTERN: Final = re.compile(r"\+?%?[0-9A-Z*]{2,16}%?\$?\Z")
_META: Final[Mapping[str, str]] = {"*": "[0-9]", "%": "[0-9]*", "$": "$", "+": r"\+"}


class NumberType(StrEnum):
    """What a number is. The API's words for `type`."""

    LOCAL = "local"
    MOBILE = "mobile"
    TOLL_FREE = "toll-free"


@dataclass(frozen=True, slots=True)
class Area:
    """Where numbers are. `prefix` is all of a number but its last two digits, from the plus sign on;
    `code` is the area code, where the country has such."""

    country: str
    type: NumberType
    prefix: str
    code: str = ""
    locality: str | None = None
    region: str | None = None
    postal_code: str | None = None
    lata: str | None = None
    latitude: float | None = None
    longitude: float | None = None

    @property
    def rate_center(self) -> str | None:
        return None if self.lata is None or self.locality is None else self.locality.upper()

    def numbers(self) -> Iterator[str]:
        """All of them, in E.164 form."""
        return (f"{self.prefix}{last:02}" for last in range(NUMBERS_MAX))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Every given part must match. `contains` is a pattern of `pattern_of`; `near` is a place of which
    an area must be within `miles`."""

    code: str | None = None
    contains: re.Pattern[str] | None = None
    locality: str | None = None
    region: str | None = None
    postal_code: str | None = None
    lata: str | None = None
    rate_center: str | None = None
    near: tuple[float, float] | None = None
    miles: float = 0.0

    def has(self, area: Area) -> bool:
        """Whether the area is one of those."""
        return (
            self.code in (None, area.code)
            and _is_same(self.locality, area.locality)
            and _is_same(self.region, area.region)
            and _is_same(self.postal_code, area.postal_code)
            and _is_same(self.lata, area.lata)
            and _is_same(self.rate_center, area.rate_center)
            and (self.near is None or _miles(self.near, area) <= self.miles)
        )


def search(country: str, type_: NumberType, wanted: Wanted) -> Iterator[tuple[Area, str]]:
    """The numbers that match, with where they are; always in the same order."""
    areas = [area for area in AREAS if (area.country, area.type) == (country, type_)]
    if wanted.code is not None and type_ is NumberType.LOCAL:
        unlisted = local_area(country, wanted.code)
        areas += [unlisted] if unlisted is not None and unlisted not in areas else []
    for area in areas:
        if not wanted.has(area):
            continue
        for number in area.numbers():
            if wanted.contains is None or wanted.contains.search(number):
                yield area, number


def local_area(country: str, code: str) -> Area | None:
    """The area of an area code; in the United States also of one that is not listed in `AREAS`. `None`
    for what is no area code of the country."""
    listed = _BY_CODE.get(code)
    if listed is not None:
        return listed if listed.country == country else None
    if country != "US" or code not in US_CODES:
        return None
    return Area("US", NumberType.LOCAL, f"+1{code}55501", code)


def area_of(phone_number: str) -> Area | None:
    """Where a number of the inventory, or another one of a listed area code, is."""
    listed = _BY_PREFIX.get(phone_number[:-2])
    return listed or (_BY_CODE.get(phone_number[2:5]) if phone_number.startswith("+1") else None)


def type_of(phone_number: str) -> NumberType:
    """What any E.164 number is, as far as its first digits say."""
    for type_, prefixes in PREFIXES.items():
        if phone_number.startswith(prefixes):
            return type_
    return NumberType.LOCAL


def pattern_of(text: str) -> re.Pattern[str] | None:
    """What a search for part of a number means: digits, letters as on a keypad, `*` for any digit, `%`
    at an end for any number of them, a `+` before the first and a `$` behind the last. `None` if it
    is none of that, or too short."""
    upper = text.upper()
    if _PATTERN.match(upper) is None:
        return None
    return re.compile("".join(_META.get(each, each) for each in upper.translate(_KEYPAD)))


def _is_same(wanted: str | None, there: str | None) -> bool:
    return wanted is None or (there is not None and wanted.casefold() == there.casefold())


def _miles(place: tuple[float, float], area: Area) -> float:
    """The way to an area along the earth (the haversine formula)."""
    if area.latitude is None or area.longitude is None:
        return math.inf
    here, there = math.radians(place[0]), math.radians(area.latitude)
    across = math.radians(area.longitude - place[1])
    half = (
        math.sin((there - here) / 2) ** 2
        + math.cos(here) * math.cos(there) * math.sin(across / 2) ** 2
    )
    return 2 * EARTH_RADIUS_MILES * math.asin(math.sqrt(min(1.0, half)))


_US_CODES: Final = """
201 202 203 205 206 207 208 209 210 212 213 214 215 216 217 218 219 220 223 224 225 227 228
229 231 234 235 239 240 248 251 252 253 254 256 260 262 267 269 270 272 274 276 279 281 283
301 302 303 304 305 307 308 309 310 312 313 314 315 316 317 318 319 320 321 323 324 325 326
327 329 330 331 332 334 336 337 339 341 346 347 350 351 352 353 357 360 361 363 364 369 380
385 386
401 402 404 405 406 407 408 409 410 412 413 414 415 417 419 423 424 425 430 432 434 435 436
440 442 443 445 447 448 457 458 463 464 465 469 470 471 472 475 478 479 480 483 484
501 502 503 504 505 507 508 509 510 512 513 515 516 517 518 520 530 531 534 539 540 541 551
557 559 561 562 563 564 567 570 571 572 573 574 575 580 582 585 586
601 602 603 605 606 607 608 609 610 612 614 615 616 617 618 619 620 621 623 624 626 628 629
630 631 636 640 641 645 646 650 651 656 657 659 660 661 662 667 669 678 679 680 681 682 686
689
701 702 703 704 706 707 708 712 713 714 715 716 717 718 719 720 724 725 726 727 728 730 731
732 734 737 738 740 743 747 748 754 757 760 762 763 765 769 770 771 772 773 774 775 779 781
785 786
801 802 803 804 805 806 808 810 812 813 814 815 816 817 818 820 821 826 828 830 831 832 835
838 839 840 843 845 847 848 850 854 856 857 858 859 860 861 862 863 864 865 870 872 878
901 903 904 906 907 908 909 910 912 913 914 915 916 917 918 919 920 925 928 929 930 931 934
936 937 938 940 941 943 945 947 948 949 951 952 954 956 959 970 971 972 973 975 978 979 980
983 984 985 986 989
"""

US_CODES: Final = frozenset(_US_CODES.split())
"""The area codes of places in the fifty states and in Washington, also those that are announced and
not in use yet. So neither services (211, 911), nor what belongs to no place (toll-free, 500, 900), nor
the other countries and territories that share +1."""

COUNTRIES: Final[Mapping[str, str]] = {
    "US": "United States",
    "CA": "Canada",
    "FR": "France",
    "GB": "United Kingdom",
}
"""Where there are numbers, by ISO code."""

PREFIXES: Final[Mapping[NumberType, tuple[str, ...]]] = {
    NumberType.TOLL_FREE: (
        *(f"+1{code}" for code in _TOLL_FREE_CODES),
        "+44800",
        "+44808",
        "+3380",
    ),
    NumberType.MOBILE: (*(f"+447{digit}" for digit in "12345789"), "+336", "+337"),
}
"""How numbers of a type begin; all others are local."""

# Area code, place, region, postal code, LATA, latitude, longitude.
_NORTH_AMERICA: Final = (
    ("US", "512", "Austin", "TX", "78701", "558", 30.27, -97.74),
    ("US", "202", "Washington", "DC", "20001", "236", 38.91, -77.04),
    ("US", "206", "Seattle", "WA", "98101", "674", 47.61, -122.33),
    ("US", "212", "New York", "NY", "10001", "132", 40.71, -74.01),
    ("US", "213", "Los Angeles", "CA", "90001", "730", 34.05, -118.24),
    ("US", "303", "Denver", "CO", "80202", "656", 39.74, -104.99),
    ("US", "305", "Miami", "FL", "33101", "460", 25.76, -80.19),
    ("US", "312", "Chicago", "IL", "60601", "358", 41.88, -87.63),
    ("US", "404", "Atlanta", "GA", "30303", "438", 33.75, -84.39),
    ("US", "415", "San Francisco", "CA", "94103", "722", 37.77, -122.42),
    ("US", "510", "Oakland", "CA", "94601", "722", 37.80, -122.27),
    ("US", "617", "Boston", "MA", "02108", "128", 42.36, -71.06),
    ("CA", "416", "Toronto", "ON", "M5H", "888", 43.65, -79.38),
    ("CA", "514", "Montreal", "QC", "H2Y", "888", 45.50, -73.57),
    ("CA", "604", "Vancouver", "BC", "V6B", "888", 49.28, -123.12),
)

_BRITAIN: Final = (
    ("20794600", "London", "England", 51.51, -0.13),
    ("11349600", "Leeds", "England", 53.80, -1.55),
    ("12149600", "Birmingham", "England", 52.48, -1.90),
    ("13149600", "Edinburgh", "Scotland", 55.95, -3.19),
    ("14149600", "Glasgow", "Scotland", 55.86, -4.25),
    ("16149600", "Manchester", "England", 53.48, -2.24),
)


def _areas() -> Iterator[Area]:
    local, mobile, free = NumberType.LOCAL, NumberType.MOBILE, NumberType.TOLL_FREE
    for country, code, locality, region, postal_code, lata, latitude, longitude in _NORTH_AMERICA:
        prefix = f"+1{code}55501"
        yield Area(
            country, local, prefix, code, locality, region, postal_code, lata, latitude, longitude
        )
    for digits, locality, region, latitude, longitude in _BRITAIN:
        yield Area(
            "GB",
            local,
            f"+44{digits}",
            locality=locality,
            region=region,
            latitude=latitude,
            longitude=longitude,
        )
    yield Area(
        "FR",
        local,
        "+331990000",
        locality="Paris",
        region="Ile-de-France",
        latitude=48.86,
        longitude=2.35,
    )
    yield Area("GB", mobile, "+4477009000")
    yield Area("FR", mobile, "+336399800")
    for country in ("US", "CA"):
        for code in sorted(_TOLL_FREE_CODES):
            yield Area(country, free, f"+1{code}55501", code)
    yield Area("GB", free, "+4480815700")


AREAS: Final = tuple(_areas())

_BY_CODE: Final[Mapping[str, Area]] = {
    area.code: area for area in AREAS if area.code and area.type is NumberType.LOCAL
}
_BY_PREFIX: Final[Mapping[str, Area]] = {area.prefix: area for area in AREAS}


def types_in(country: str) -> tuple[NumberType, ...]:
    """Which types of number a country has here."""
    there = {area.type for area in AREAS if area.country == country}
    return tuple(type_ for type_ in NumberType if type_ in there)
