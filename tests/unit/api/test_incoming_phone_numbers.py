"""Owning phone numbers and finding them again."""

import pytest
from tests.unit.api.api_world import (
    ACCOUNT,
    APPLICATIONS,
    HANDSET,
    NUMBERS,
    OTHER_ACCOUNT,
    OTHER_TOKEN,
    OUR_NUMBER,
    THEIR_NUMBER,
    World,
)

from trunkline.directory.records import Spent, Undecidable
from trunkline.domain.events import Deleted, Kind, Type

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
        ({"AreaCode": "911"}, 400, 21452),
        ({"AreaCode": "876"}, 400, 21452),
        ({"PhoneNumber": HANDSET, "SmsUrl": "app.example/sms"}, 400, 21402),
        ({"PhoneNumber": HANDSET, "SmsMethod": "PUT"}, 400, 20001),
        ({"PhoneNumber": HANDSET, "ApiVersion": "2008-08-01"}, 400, 20001),
        ({"PhoneNumber": HANDSET, "FriendlyName": "x" * 65}, 400, 20001),
        ({"PhoneNumber": HANDSET, "SmsApplicationSid": "AP" + "1" * 32}, 400, 21218),
        ({"PhoneNumber": HANDSET, "VoiceApplicationSid": "AP1"}, 400, 21218),
        ({"PhoneNumber": HANDSET, "TrunkSid": "TK" + "1" * 32}, 501, 20501),
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


async def test_a_wildcard_stands_for_one_digit(world: World) -> None:
    world.give_number(ACCOUNT, "+15125550170")
    world.copy.catch_up()

    async def found(part: str) -> int:
        page = (await world.get(f"{NUMBERS}?PhoneNumber={part}")).json
        return len(page["incoming_phone_numbers"])

    assert [await found(part) for part in ("512***01*0", "512*0100", "[0-9]", "5550?70")] == [
        2,
        0,
        0,
        0,
    ]


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


def show(world: World, phone_number: str) -> None:
    """Have the copy follow up with a number that was just owned."""
    settings = world.numbers.owned[phone_number].settings
    world.copy.put(Kind.NUMBER, Type.ORIGINAL, ACCOUNT, settings.sid, settings)
    world.copy.catch_up()


def path_of(name: str) -> str:
    return NUMBERS.replace(".json", f"/{name}.json")


async def test_an_update_changes_what_it_names_and_nothing_else(world: World) -> None:
    form = {"PhoneNumber": "+15125550150", "SmsUrl": "https://app.example/sms", "SmsMethod": "GET"}
    made = (await world.post(NUMBERS, form)).json
    show(world, "+15125550150")
    await world.clock.advance(60.0)

    renamed = await world.post(path_of(made["sid"]), {"FriendlyName": "Shop"})
    moved = await world.post(
        path_of(made["sid"]), {"VoiceUrl": "https://app.example/voice", "SmsUrl": ""}
    )

    assert (renamed.status, renamed.json["friendly_name"]) == (200, "Shop")
    assert renamed.json["sms_url"] == "https://app.example/sms"
    number = moved.json
    assert (number["sms_url"], number["sms_method"]) == ("", "GET")
    assert (number["voice_url"], number["friendly_name"]) == ("https://app.example/voice", "Shop")
    assert number["date_created"] == made["date_created"] != number["date_updated"]


async def test_papers_and_applications_are_kept(world: World) -> None:
    application = (await world.post(APPLICATIONS, {"FriendlyName": "desk"})).json["sid"]
    name = world.give_number(ACCOUNT, "+15125550160")
    world.copy.catch_up()
    form = {
        "SmsApplicationSid": application,
        "VoiceApplicationSid": application,
        "AddressSid": "AD" + "1" * 32,
        "BundleSid": "BU" + "1" * 32,
        "IdentitySid": "RI" + "1" * 32,
        "AccountSid": ACCOUNT,
        "EmergencyStatus": "Inactive",
        "VoiceReceiveMode": "voice",
    }

    number = (await world.post(path_of(name), form)).json

    assert number["sms_application_sid"] == number["voice_application_sid"] == application
    assert number["address_sid"] == form["AddressSid"]
    assert (number["bundle_sid"], number["identity_sid"]) == (
        form["BundleSid"],
        form["IdentitySid"],
    )
    cleared = (await world.post(path_of(name), {"SmsApplicationSid": ""})).json
    assert (cleared["sms_application_sid"], cleared["voice_application_sid"]) == ("", application)


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({"SmsUrl": "app.example"}, 400, 21402),
        ({"SmsApplicationSid": "AP" + "9" * 32}, 400, 21218),
        ({"TrunkSid": "TK" + "1" * 32}, 501, 20501),
        ({"EmergencyStatus": "Active"}, 501, 20501),
        ({"VoiceReceiveMode": "fax"}, 501, 20501),
        ({"VoiceCallerIdLookup": "true"}, 501, 20501),
        ({"AccountSid": OTHER_ACCOUNT}, 400, 21473),
        ({"FriendlyName": "x" * 65}, 400, 20001),
        ({"ApiVersion": "2008-08-01"}, 400, 20001),
    ],
)
async def test_an_update_that_cannot_be_honoured_changes_nothing(
    world: World, form: dict[str, str], status: int, code: int
) -> None:
    name = world.give_number(ACCOUNT, "+15125550160")
    world.copy.catch_up()

    answered = await world.post(path_of(name), {"FriendlyName": "renamed"} | form)

    assert (answered.status, answered.code) == (status, code)
    assert (await world.get(path_of(name))).json["friendly_name"] == "Front desk"


async def test_another_accounts_application_is_none_of_ours(world: World) -> None:
    theirs = APPLICATIONS.replace(ACCOUNT, OTHER_ACCOUNT)
    made = await world.call("POST", theirs, user=OTHER_ACCOUNT, token=OTHER_TOKEN)

    answered = await world.post(
        NUMBERS, {"PhoneNumber": "+15125550150", "SmsApplicationSid": made.json["sid"]}
    )

    assert (answered.status, answered.code) == (400, 21218)


async def test_a_number_that_was_deleted_is_free_for_anybody(world: World) -> None:
    name = world.give_number(ACCOUNT, "+15125550160")
    world.copy.catch_up()

    deleted = await world.call("DELETE", path_of(name))

    assert (deleted.status, deleted.body) == (204, b"")
    assert "content-length" not in deleted.headers
    assert (await world.get(path_of(name))).status == 404
    assert (await world.call("DELETE", path_of(name))).status == 404
    assert (await world.post(path_of(name), {"FriendlyName": "ghost"})).status == 404
    theirs = await world.call(
        "POST",
        NUMBERS.replace(ACCOUNT, OTHER_ACCOUNT),
        body=b"PhoneNumber=%2B15125550160",
        user=OTHER_ACCOUNT,
        token=OTHER_TOKEN,
    )
    assert (theirs.status, theirs.json["account_sid"]) == (201, OTHER_ACCOUNT)


async def test_another_accounts_number_can_be_neither_changed_nor_deleted(world: World) -> None:
    name = world.give_number(OTHER_ACCOUNT, "+15125550160")
    world.copy.catch_up()

    assert (await world.post(path_of(name), {"FriendlyName": "mine"})).status == 404
    assert (await world.call("DELETE", path_of(name))).status == 404
    assert world.copy.replica.number(name) is not None


async def test_a_number_the_copy_does_not_show_yet_is_waited_for(world: World) -> None:
    name = world.give_number(ACCOUNT, "+15125550160")

    assert (await world.get(path_of(name))).status == 200
    assert world.numbers.caught_up == 1
    world.numbers.is_electing = True
    unknown = await world.get(path_of("PN" + "9" * 32))
    assert (unknown.status, unknown.code) == (503, 20503)
    assert (await world.get(path_of("PN9"))).status == 404


async def test_what_cannot_be_decided_is_503(world: World) -> None:
    name = world.give_number(ACCOUNT, "+15125550160")
    world.copy.catch_up()
    world.numbers.says = Undecidable("no quorum")

    changed = await world.post(path_of(name), {"FriendlyName": "Shop"})
    deleted = await world.call("DELETE", path_of(name))

    assert [(each.status, each.code) for each in (changed, deleted)] == [(503, 20503)] * 2


async def test_a_repeat_is_the_same_create_although_it_was_changed_meanwhile(world: World) -> None:
    headers = {"idempotency-key": "front-desk"}
    form = {"PhoneNumber": "+15125550150"}
    made = (await world.post(NUMBERS, form, headers)).json
    show(world, "+15125550150")
    await world.post(path_of(made["sid"]), {"FriendlyName": "Shop"})

    again = await world.post(NUMBERS, form, headers)
    other = await world.post(NUMBERS, form | {"FriendlyName": "Desk"}, headers)

    assert (again.status, again.json["sid"]) == (201, made["sid"])
    assert again.json["friendly_name"] == "Shop"
    assert (other.status, other.code) == (422, 20422)


async def test_a_repeat_by_area_code_stays_with_its_number_when_one_before_it_is_free(
    world: World,
) -> None:
    headers = {"idempotency-key": "front-desk"}
    first = world.give_number(OTHER_ACCOUNT, "+12125550100")
    world.copy.catch_up()
    made = (await world.post(NUMBERS, {"AreaCode": "212"}, headers)).json
    world.copy.put(Kind.NUMBER, Type.DELETED, OTHER_ACCOUNT, first, Deleted())
    world.copy.catch_up()

    again = await world.post(NUMBERS, {"AreaCode": "212"}, headers)
    world.numbers.is_electing = True
    unsure = await world.post(NUMBERS, {"AreaCode": "212"}, headers)

    assert made["phone_number"] == "+12125550101"
    assert (again.status, again.json["sid"]) == (201, made["sid"])
    assert (unsure.status, unsure.code) == (503, 20503)
    assert list(world.numbers.owned) == ["+12125550101"]


async def test_a_repeat_that_overtakes_the_first_request_owns_the_same_number(
    world: World,
) -> None:
    headers = {"idempotency-key": "front-desk"}
    first: list[str] = []

    async def land_at_last(asked: str) -> None:
        if asked != "+12125550199" or first:
            return
        first.append("")  # once
        made = (await world.post(NUMBERS, {"AreaCode": "212"}, headers)).json
        first[0] = made["sid"]
        show(world, made["phone_number"])

    world.numbers.when_asked = land_at_last
    again = await world.post(NUMBERS, {"AreaCode": "212"}, headers)

    assert (again.status, [again.json["sid"]]) == (201, first)
    assert list(world.numbers.owned) == ["+12125550100"]


async def test_a_key_whose_number_in_an_area_was_deleted_owns_no_other(world: World) -> None:
    headers = {"idempotency-key": "front-desk"}
    first = world.give_number(OTHER_ACCOUNT, "+12125550100")
    world.copy.catch_up()
    made = (await world.post(NUMBERS, {"AreaCode": "212"}, headers)).json
    show(world, made["phone_number"])
    await world.call("DELETE", NUMBERS.replace(".json", f"/{made['sid']}.json"))
    world.copy.put(Kind.NUMBER, Type.DELETED, OTHER_ACCOUNT, first, Deleted())
    world.copy.catch_up()

    again = await world.post(NUMBERS, {"AreaCode": "212"}, headers)

    assert (again.status, again.code) == (409, 20409)
    assert world.numbers.owned == {}


async def test_a_key_whose_number_was_deleted_is_spent(world: World) -> None:
    world.numbers.says = Spent()

    answered = await world.post(
        NUMBERS, {"PhoneNumber": "+15125550150"}, {"idempotency-key": "front-desk"}
    )

    assert (answered.status, answered.code) == (409, 20409)


@pytest.mark.parametrize(
    ("word", "ours", "others"),
    [
        ("Local", "+15125550150", "+18005550150"),
        ("Mobile", "+447700900123", "+15125550150"),
        ("TollFree", "+18005550150", "+447700900123"),
    ],
)
async def test_numbers_are_owned_and_listed_by_type(
    world: World, word: str, ours: str, others: str
) -> None:
    path = NUMBERS.replace(".json", f"/{word}.json")

    made = await world.post(path, {"PhoneNumber": ours})
    refused = await world.post(path, {"PhoneNumber": others})
    missing = await world.post(path, {})

    assert (made.status, made.json["phone_number"]) == (201, ours)
    assert "type" not in made.json
    assert [(each.status, each.code) for each in (refused, missing)] == [(400, 20001)] * 2
    world.give_number(ACCOUNT, ours)
    world.give_number(ACCOUNT, others)
    world.copy.catch_up()
    listed = (await world.get(path)).json["incoming_phone_numbers"]
    assert ours in [number["phone_number"] for number in listed]
    assert others not in [number["phone_number"] for number in listed]
