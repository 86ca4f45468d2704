"""Numbers that a main account moves to its subaccounts, between them, and back."""

import itertools

import pytest
from tests.unit.api.api_world import ACCOUNT, HANDSET, OTHER_ACCOUNT, TOKEN, World
from tests.unit.api.test_accounts import As, at, opened

from trunkline.directory.records import Undecidable

pytestmark = pytest.mark.anyio

PHONE = "+15125550170"
NUMBERS = "IncomingPhoneNumbers"


@pytest.fixture
def main(world: World) -> As:
    return As(world, ACCOUNT, TOKEN)


def given(main: As, account: str = ACCOUNT) -> str:
    """The SID of a number that the account has."""
    name: str = main.world.give_number(account, PHONE)
    main.world.copy.catch_up()
    return name


async def seen(who: As, account: str) -> list[str]:
    listed = (await who.get(at(account, NUMBERS))).json["incoming_phone_numbers"]
    return [each["phone_number"] for each in listed if each["phone_number"] == PHONE]


async def test_a_number_moves_to_a_subaccount_to_another_and_back(main: As) -> None:
    shop, stall = await opened(main, "Shop"), await opened(main, "Stall")
    name = given(main)
    way = [ACCOUNT, shop.user, stall.user, ACCOUNT]

    for giver, taker in itertools.pairwise(way):
        moved = await main.post(at(giver, f"{NUMBERS}/{name}"), {"AccountSid": taker})

        assert (moved.status, moved.json["account_sid"]) == (200, taker)
        assert moved.json["sid"] == name
        assert moved.json["uri"] == at(taker, f"{NUMBERS}/{name}")
        assert await seen(main, taker) == [PHONE]
        assert await seen(main, giver) == []
        assert (await main.get(at(giver, f"{NUMBERS}/{name}"))).status == 404


async def test_who_has_it_now_sends_from_it_and_who_had_it_does_not(main: As) -> None:
    shop = await opened(main)
    name = given(main)
    form = {"To": HANDSET, "From": PHONE, "Body": "Hello"}

    await main.post(at(ACCOUNT, f"{NUMBERS}/{name}"), {"AccountSid": shop.user})

    assert (await shop.post(at(shop.user, "Messages"), form)).status == 201
    refused = await main.post(at(ACCOUNT, "Messages"), form)
    assert (refused.status, refused.code) == (400, 21659)


async def test_only_the_parent_moves_it_and_by_its_own_token(main: As) -> None:
    shop = await opened(main)
    name = given(main, shop.user)
    path = at(shop.user, f"{NUMBERS}/{name}")
    key = (await main.post(at(ACCOUNT, "Keys"))).json
    own = main.world.give_number(ACCOUNT, "+15125550171")
    main.world.copy.catch_up()

    by_itself = await shop.post(path, {"AccountSid": ACCOUNT})
    by_key = await As(main.world, key["sid"], key["secret"]).post(
        at(ACCOUNT, f"{NUMBERS}/{own}"), {"AccountSid": shop.user}
    )

    assert (by_itself.status, by_itself.code) == (400, 21474)
    assert (by_key.status, by_key.code) == (400, 21474)
    assert await seen(main, shop.user) == [PHONE]


async def test_it_moves_to_nobody_who_is_not_of_the_family_or_not_active(main: As) -> None:
    shop = await opened(main)
    await main.post(at(shop.user), {"Status": "suspended"})
    path = at(ACCOUNT, f"{NUMBERS}/{given(main)}")

    for taker, status, code in (
        (OTHER_ACCOUNT, 400, 21473),
        ("AC" + "9" * 32, 400, 21473),
        (shop.user, 403, 20005),
    ):
        refused = await main.post(path, {"AccountSid": taker})
        assert (refused.status, refused.code) == (status, code)
    assert await seen(main, ACCOUNT) == [PHONE]


async def test_its_applications_stay_and_the_rest_goes_with_it(main: As) -> None:
    shop = await opened(main)
    path = at(ACCOUNT, f"{NUMBERS}/{given(main)}")
    ours = (await main.post(at(ACCOUNT, "Applications"), {"FriendlyName": "ours"})).json["sid"]
    theirs = (await shop.post(at(shop.user, "Applications"), {"FriendlyName": "a"})).json["sid"]
    url = "https://app.example/sms"
    await main.post(path, {"SmsApplicationSid": ours, "VoiceApplicationSid": ours, "SmsUrl": url})

    refused = await main.post(path, {"AccountSid": shop.user, "SmsApplicationSid": ours})
    moved = await main.post(path, {"AccountSid": shop.user, "VoiceApplicationSid": theirs})

    assert (refused.status, refused.code) == (400, 21218)
    assert moved.json["sms_application_sid"] == ""
    assert moved.json["voice_application_sid"] == theirs
    assert moved.json["sms_url"] == url


async def test_while_nobody_can_tell_it_is_not_said_to_be_moved(main: As) -> None:
    shop = await opened(main)
    path = at(ACCOUNT, f"{NUMBERS}/{given(main)}")

    main.world.accounts.is_electing = True
    unknown = await main.post(path, {"AccountSid": shop.user})
    main.world.accounts.is_electing = False
    main.world.numbers.says = Undecidable("no leader")
    unsure = await main.post(path, {"AccountSid": shop.user})

    assert [(each.status, each.code) for each in (unknown, unsure)] == [(503, 20503)] * 2
