"""Owning phone numbers and finding them again."""

import pytest
from tests.unit.api.api_world import (
    ACCOUNT,
    HANDSET,
    NUMBERS,
    OTHER_ACCOUNT,
    OTHER_TOKEN,
    OUR_NUMBER,
    THEIR_NUMBER,
    World,
)

from trunkline.directory.records import Undecidable

pytestmark = pytest.mark.anyio


async def test_a_number_is_owned_with_what_to_do_when_something_arrives(world: World) -> None:
    form = {
        "PhoneNumber": "+15125550150",
        "SmsUrl": "http://localhost:5000/sms",
        "SmsMethod": "get",
        "VoiceUrl": "https://app.example/voice",
    }

    answered = await world.post(NUMBERS, form)

    assert answered.status == 201
    number = answered.json
    assert number["phone_number"] == "+15125550150"
    assert number["friendly_name"] == "(512) 555-0150"
    assert (number["sms_url"], number["sms_method"]) == ("http://localhost:5000/sms", "GET")
    assert number["capabilities"] == {"voice": True, "sms": True, "mms": True, "fax": False}
    assert world.numbers.owned["+15125550150"].account == ACCOUNT


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({}, 400, 20001),
        ({"PhoneNumber": "5125550150"}, 400, 21421),
        ({"PhoneNumber": THEIR_NUMBER}, 400, 21422),
        ({"PhoneNumber": OUR_NUMBER}, 400, 21422),
        ({"AreaCode": "12"}, 400, 21452),
        ({"AreaCode": "5a2"}, 400, 21452),
        ({"PhoneNumber": HANDSET, "SmsUrl": "app.example/sms"}, 400, 21402),
        ({"PhoneNumber": HANDSET, "SmsMethod": "PUT"}, 400, 20001),
        ({"PhoneNumber": HANDSET, "FriendlyName": "x" * 65}, 400, 20001),
        ({"PhoneNumber": HANDSET, "SmsApplicationSid": "AP" + "1" * 32}, 501, 20501),
        ({"PhoneNumber": HANDSET, "EmergencyStatus": "Active"}, 501, 20501),
    ],
)
async def test_a_number_that_cannot_be_owned_so_is_refused(
    world: World, form: dict[str, str], status: int, code: int
) -> None:
    answered = await world.post(NUMBERS, form)

    assert (answered.status, answered.code) == (status, code)
    assert world.numbers.owned == {}


async def test_an_area_code_gives_the_first_number_that_is_free(world: World) -> None:
    first = await world.post(NUMBERS, {"AreaCode": "512"})
    second = await world.post(NUMBERS, {"AreaCode": "512"})

    # +15125550100 is ours already, as the copy knows.
    assert first.json["phone_number"] == "+15125550101"
    assert second.json["phone_number"] == "+15125550102"


async def test_an_area_is_exhausted_after_a_hundred_numbers(world: World) -> None:
    for _ in range(100):
        assert (await world.post(NUMBERS, {"AreaCode": "303"})).status == 201

    answered = await world.post(NUMBERS, {"AreaCode": "303"})

    assert (answered.status, answered.code) == (400, 21452)


async def test_the_same_key_gives_the_same_number_however_often(world: World) -> None:
    headers = {"idempotency-key": "front-desk"}

    first = await world.post(NUMBERS, {"AreaCode": "212"}, headers)
    again = await world.post(NUMBERS, {"AreaCode": "212"}, headers)

    assert (first.status, again.status) == (201, 201)
    assert first.json["sid"] == again.json["sid"]
    assert len(world.numbers.owned) == 1


async def test_the_same_key_with_other_settings_is_422(world: World) -> None:
    headers = {"idempotency-key": "front-desk"}
    form = {"PhoneNumber": "+15125550150"}
    await world.post(NUMBERS, form, headers)

    other = await world.post(NUMBERS, form | {"SmsUrl": "https://app.example"}, headers)

    assert (other.status, other.code) == (422, 20422)


async def test_an_undecidable_owner_is_503_and_no_second_number_is_tried(world: World) -> None:
    world.numbers.says = Undecidable("no quorum")

    answered = await world.post(NUMBERS, {"AreaCode": "212"})

    assert (answered.status, answered.code) == (503, 20503)
    assert answered.headers["retry-after"] == "1"
    assert "+12125550100" in answered.json["message"]


async def test_a_number_is_fetched_by_its_owner_only(world: World) -> None:
    name = world.give_number(ACCOUNT, "+15125550160")
    world.copy.catch_up()
    path = NUMBERS.replace(".json", f"/{name}.json")

    ours = await world.get(path)
    theirs = await world.call(
        "GET", path.replace(ACCOUNT, OTHER_ACCOUNT), user=OTHER_ACCOUNT, token=OTHER_TOKEN
    )

    assert (ours.status, ours.json["phone_number"]) == (200, "+15125550160")
    assert ours.headers["x-trunkline-replica-lag-ms"] == "0"
    assert (theirs.status, theirs.code) == (404, 20404)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 3),
        ("PhoneNumber=%2B15125550100", 1),
        ("PhoneNumber=55501", 3),
        ("PhoneNumber=*0170", 1),
        ("FriendlyName=Front%20desk", 3),
        ("FriendlyName=Back", 0),
        ("Origin=hosted", 0),
    ],
)
async def test_numbers_are_listed_and_filtered(world: World, query: str, expected: int) -> None:
    world.give_number(ACCOUNT, "+15125550170")
    world.give_number(ACCOUNT, "+15125550171")
    world.copy.catch_up()

    page = (await world.get(f"{NUMBERS}?{query}")).json

    assert len(page["incoming_phone_numbers"]) == expected
    assert all(number["account_sid"] == ACCOUNT for number in page["incoming_phone_numbers"])


async def test_a_wildcard_in_the_middle_is_refused_and_not_misread(world: World) -> None:
    assert (await world.get(f"{NUMBERS}?PhoneNumber=512*0100")).status == 501


async def test_following_the_links_shows_every_number_once(world: World) -> None:
    for last in range(60, 65):
        world.give_number(ACCOUNT, f"+151255501{last}")
    world.copy.catch_up()

    seen: list[str] = []
    uri: str | None = f"{NUMBERS}?PageSize=2"
    while uri is not None:
        page = (await world.get(uri)).json
        seen += [number["phone_number"] for number in page["incoming_phone_numbers"]]
        uri = page["next_page_uri"]

    assert len(seen) == len(set(seen)) == 6
