"""Searching for numbers that could be owned."""

from urllib.parse import urlencode

import pytest
from tests.unit.api.api_world import ACCOUNT, AVAILABLE, World, available

pytestmark = pytest.mark.anyio


async def found(world: World, rest: str, **query: str) -> list[str]:
    answered = await world.get(f"{available(rest)}?{urlencode(query | {'PageSize': '1000'})}")
    assert answered.status == 200, answered.json
    return [each["phone_number"] for each in answered.json["available_phone_numbers"]]


async def test_countries_name_the_types_they_have(world: World) -> None:
    countries = (await world.get(AVAILABLE)).json["countries"]
    alone = await world.get(available("GB"))

    assert [each["country_code"] for each in countries] == ["US", "CA", "FR", "GB"]
    assert alone.json == countries[-1]
    assert alone.json["subresource_uris"] == {
        "local": available("GB/Local"),
        "mobile": available("GB/Mobile"),
        "toll_free": available("GB/TollFree"),
    }
    assert set(countries[0]["subresource_uris"]) == {"local", "toll_free"}


async def test_every_link_of_a_country_leads_to_numbers(world: World) -> None:
    for country in (await world.get(AVAILABLE)).json["countries"]:
        for uri in country["subresource_uris"].values():
            answered = await world.get(uri)
            assert answered.json["available_phone_numbers"], uri


@pytest.mark.parametrize("rest", ["ZZ", "ZZ/Local", "US/Mobile"])
async def test_what_is_not_there_is_404(world: World, rest: str) -> None:
    answered = await world.get(available(rest))

    assert (answered.status, answered.code) == (404, 20404)


async def test_a_number_says_where_it_is(world: World) -> None:
    answered = await world.get(available("us/Local") + "?AreaCode=415")

    first = answered.json["available_phone_numbers"][0]
    assert first == {
        "friendly_name": "(415) 555-0100",
        "phone_number": "+14155550100",
        "lata": "722",
        "locality": "San Francisco",
        "rate_center": "SAN FRANCISCO",
        "latitude": 37.77,
        "longitude": -122.42,
        "region": "CA",
        "postal_code": "94103",
        "iso_country": "US",
        "address_requirements": "none",
        "beta": False,
        "capabilities": {"voice": True, "sms": True, "mms": True, "fax": False},
    }


@pytest.mark.parametrize(
    ("rest", "query", "count", "first"),
    [
        ("US/Local", {"AreaCode": "415"}, 100, "+14155550100"),
        ("US/Local", {"AreaCode": "907"}, 100, "+19075550100"),
        ("US/Local", {"AreaCode": "416"}, 0, None),
        ("CA/Local", {"AreaCode": "416"}, 100, "+14165550100"),
        ("US/Local", {"AreaCode": "12"}, 0, None),
        ("GB/Local", {"AreaCode": "207"}, 0, None),
        ("US/TollFree", {"AreaCode": "888"}, 100, "+18885550100"),
        ("US/Local", {"Contains": "4155550142"}, 1, "+14155550142"),
        ("US/Local", {"Contains": "+1415***014*"}, 10, "+14155550140"),
        ("US/Local", {"Contains": "415*55014$"}, 0, None),
        ("US/Local", {"Contains": "5550142$", "InRegion": "ca"}, 3, "+12135550142"),
        ("US/Local", {"InLocality": "austin"}, 98, "+15125550101"),
        ("US/Local", {"InPostalCode": "94103"}, 100, "+14155550100"),
        ("US/Local", {"InLata": "722"}, 200, "+14155550100"),
        ("US/Local", {"InRateCenter": "Oakland"}, 100, "+15105550100"),
        ("US/Local", {"NearNumber": "+15105550123"}, 200, "+14155550100"),
        ("US/Local", {"NearNumber": "+15105550123", "Distance": "5"}, 100, "+15105550100"),
        ("US/Local", {"NearNumber": "+19075550123"}, 0, None),
        ("US/Local", {"NearLatLong": "40.7,-74.0"}, 100, "+12125550100"),
        ("US/Local", {"NearLatLong": "0,0"}, 0, None),
        ("US/Local", {"InRegion": "+14155550123"}, 300, "+12135550100"),
        ("US/Local", {"InLocality": "+14155550123"}, 100, "+14155550100"),
        ("US/Local", {"InPostalCode": "14155550123"}, 0, None),
        (
            "US/Local",
            {"InLata": "+14155550123", "InRateCenter": "+15105550100"},
            100,
            "+15105550100",
        ),
        ("US/Local", {"InRegion": "+19075550123"}, 0, None),
        ("US/Local", {"Contains": "+1415%"}, 100, "+14155550100"),
        ("US/Local", {"Contains": "+%5123$"}, 0, None),
        ("US/Local", {"Contains": "+%415555012*$"}, 10, "+14155550120"),
        ("US/Local", {"Contains": " 1415"}, 100, "+14155550100"),
        ("US/Local", {"Contains": "1" * 16}, 0, None),
        ("GB/Mobile", {"SmsEnabled": "true", "VoiceEnabled": "true"}, 100, "+447700900000"),
        ("GB/Mobile", {"FaxEnabled": "true"}, 0, None),
        ("GB/Mobile", {"MmsEnabled": "false"}, 0, None),
        (
            "GB/TollFree",
            {"Beta": "true", "ExcludeAllAddressRequired": "true"},
            100,
            "+448081570000",
        ),
    ],
)
async def test_numbers_are_searched_for(
    world: World, rest: str, query: dict[str, str], count: int, first: str | None
) -> None:
    numbers = await found(world, rest, **query)

    assert len(numbers) == count
    assert (numbers[0] if numbers else None) == first


@pytest.mark.parametrize(
    "query",
    [
        {"Contains": "5"},
        {"Contains": "51(2"},
        {"Contains": "1" * 17},
        {"Contains": "5%1"},
        {"Distance": "501"},
        {"Distance": "-1"},
        {"NearLatLong": "here"},
        {"NearLatLong": "91,0"},
        {"NearLatLong": "nan,0"},
        {"AreaCode": "five"},
    ],
)
async def test_a_malformed_search_is_refused(world: World, query: dict[str, str]) -> None:
    answered = await world.get(f"{available('US/Local')}?{urlencode(query)}")

    assert (answered.status, answered.code) == (400, 20001)


async def test_what_somebody_owns_is_not_offered(world: World) -> None:
    before = await found(world, "US/Local", AreaCode="512")
    world.give_number(ACCOUNT, "+15125550101")
    world.copy.catch_up()

    after = await found(world, "US/Local", AreaCode="512")

    assert before[0] == "+15125550101"  # +15125550100 is owned from the beginning
    assert after == before[1:]


async def test_pages_show_every_number_once_although_some_are_owned_meanwhile(world: World) -> None:
    uri: str | None = f"{available('US/Local')}?AreaCode=415&PageSize=30"
    seen: list[str] = []
    while uri is not None:
        page = (await world.get(uri)).json
        seen += [each["phone_number"] for each in page["available_phone_numbers"]]
        world.give_number(ACCOUNT, seen[0])
        world.copy.catch_up()
        uri = page["next_page_uri"]

    assert seen == [f"+141555501{last:02}" for last in range(100)]
