"""The simulated inventory: fictional numbers, one area each, and no two alike."""

import phonenumbers
import pytest

from trunkline.domain.inventory import (
    AREAS,
    COUNTRIES,
    PREFIXES,
    US_CODES,
    NumberType,
    Wanted,
    area_of,
    local_area,
    pattern_of,
    search,
    type_of,
)
from trunkline.domain.number import is_e164


def test_every_number_is_well_formed_of_its_type_and_in_its_country() -> None:
    for area in AREAS:
        first = next(area.numbers())
        parsed = phonenumbers.parse(first)
        assert is_e164(first)
        assert phonenumbers.is_possible_number(parsed)
        assert type_of(first) is area.type
        codes = phonenumbers.region_codes_for_country_code(parsed.country_code or 0)
        assert area.country in codes
        assert area.country in COUNTRIES


def test_no_number_stands_in_two_areas_of_a_country() -> None:
    for country in COUNTRIES:
        numbers = [number for area in AREAS if area.country == country for number in area.numbers()]
        assert len(numbers) == len(set(numbers))


def test_a_search_gives_the_same_in_the_same_order() -> None:
    wanted = Wanted(contains=pattern_of("014"))

    assert list(search("US", NumberType.LOCAL, wanted)) == list(
        search("US", NumberType.LOCAL, wanted)
    )


def test_no_type_begins_as_another_does() -> None:
    every = [prefix for prefixes in PREFIXES.values() for prefix in prefixes]

    for prefix in every:
        assert [other for other in every if other.startswith(prefix)] == [prefix]


@pytest.mark.parametrize(
    ("country", "code", "place"),
    [
        ("US", "512", "Austin"),
        ("US", "907", None),
        ("CA", "416", "Toronto"),
    ],
)
def test_an_area_code_is_somewhere(country: str, code: str, place: str | None) -> None:
    area = local_area(country, code)

    assert area is not None
    assert (area.locality, area.prefix) == (place, f"+1{code}55501")


@pytest.mark.parametrize(
    ("country", "code"),
    [
        ("US", "416"),
        ("US", "613"),
        ("US", "876"),
        ("US", "787"),
        ("US", "211"),
        ("US", "911"),
        ("US", "555"),
        ("US", "500"),
        ("US", "700"),
        ("US", "900"),
        ("US", "800"),
        ("US", "112"),
        ("US", ""),
        ("CA", "907"),
        ("GB", "207"),
    ],
)
def test_what_is_no_area_code_of_the_country_is_nowhere(country: str, code: str) -> None:
    assert local_area(country, code) is None


def test_every_area_code_of_the_united_states_that_the_numbering_plan_knows_is_one_here() -> None:
    local = (phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE,)
    known: dict[str, str | None] = {}
    for code in map(str, range(200, 1000)):
        number = phonenumbers.parse(f"+1{code}2345678")
        if phonenumbers.number_type(number) in local:
            known[code] = phonenumbers.region_code_for_number(number)

    assert {code for code, country in known.items() if country == "US"} <= US_CODES
    assert not {code for code, country in known.items() if country != "US"} & US_CODES


def test_a_number_beside_the_inventory_is_where_its_area_code_is() -> None:
    area = area_of("+15129990000")

    assert area is not None
    assert area.locality == "Austin"
    assert area_of("+4915112345678") is None


def test_letters_mean_what_is_on_the_keypad() -> None:
    pattern = pattern_of("desk")

    assert pattern is not None
    assert pattern.search("+1512" + "3375" + "00")
    assert not pattern.search("+15125550100")
