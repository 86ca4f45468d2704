"""Accounts: what a main account and its subaccounts may do, and what a change of status does."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.unit.api.api_world import (
    ACCOUNT,
    HANDSET,
    OTHER_ACCOUNT,
    OTHER_TOKEN,
    OUR_NUMBER,
    TOKEN,
    Answered,
    World,
)

from trunkline.directory.records import Undecidable

pytestmark = pytest.mark.anyio

ACCOUNTS = "/2010-04-01/Accounts.json"


def at(account: str, what: str = "") -> str:
    return f"/2010-04-01/Accounts/{account}{what and '/'}{what}.json"


@dataclass
class As:
    """Somebody with credentials of their own."""

    world: World
    user: str
    token: str

    async def get(self, path: str) -> Answered:
        return await self.world.call("GET", path, user=self.user, token=self.token)

    async def post(
        self, path: str, form: dict[str, str] | None = None, key: str | None = None
    ) -> Answered:
        headers = {} if key is None else {"idempotency-key": key}
        body = urlencode(form or {}).encode()
        return await self.world.call(
            "POST", path, body=body, headers=headers, user=self.user, token=self.token
        )


@pytest.fixture
def main(world: World) -> As:
    return As(world, ACCOUNT, TOKEN)


async def opened(main: As, name: str = "Shop") -> As:
    """A new subaccount, with its own credentials."""
    answered = await main.post(ACCOUNTS, {"FriendlyName": name})
    assert answered.status == 201
    return As(main.world, answered.json["sid"], answered.json["auth_token"])


async def test_an_account_shows_itself_and_where_its_resources_are(world: World) -> None:
    answered = await world.get(at(ACCOUNT))

    assert answered.status == 200
    account = answered.json
    assert (account["sid"], account["owner_account_sid"]) == (ACCOUNT, ACCOUNT)
    assert (account["status"], account["type"]) == ("active", "Full")
    assert account["auth_token"] == TOKEN
    assert account["subresource_uris"]["messages"] == at(ACCOUNT, "Messages")


async def test_an_account_does_not_see_another(world: World) -> None:
    answered = await world.get(at(OTHER_ACCOUNT))

    assert (answered.status, answered.code) == (401, 20003)
    assert answered.headers["www-authenticate"] == 'Basic realm="Twilio API"'


async def test_a_subaccount_is_opened_with_a_name_and_a_token_of_its_own(main: As) -> None:
    answered = await main.post(ACCOUNTS, {"FriendlyName": "Shop"})
    nameless = await main.post(ACCOUNTS)

    account = answered.json
    assert (answered.status, account["friendly_name"]) == (201, "Shop")
    assert (account["owner_account_sid"], account["status"]) == (ACCOUNT, "active")
    assert len(account["auth_token"]) == 32
    assert nameless.json["friendly_name"] == "SubAccount Created at 2023-11-14 10:13 pm"
    assert nameless.json["auth_token"] != account["auth_token"]


async def test_a_repeat_of_a_key_opens_no_second_account(main: As) -> None:
    first = await main.post(ACCOUNTS, key="shop-1")
    await main.world.clock.advance(3600.0)
    again = await main.post(ACCOUNTS, key="shop-1")
    other = await main.post(ACCOUNTS, {"FriendlyName": "Other"}, key="shop-1")

    assert again.json["sid"] == first.json["sid"]
    assert again.json["auth_token"] == first.json["auth_token"]
    assert (other.status, other.code) == (422, 20422)


async def test_an_account_that_may_have_been_opened_is_said_to_be_so(main: As) -> None:
    main.world.accounts.says = Undecidable("no leader")

    answered = await main.post(ACCOUNTS)

    assert (answered.status, answered.code) == (503, 20503)
    assert "repeat with the same Idempotency-Key" in answered.json["message"]


async def test_a_subaccount_opens_no_accounts(main: As) -> None:
    shop = await opened(main)

    answered = await shop.post(ACCOUNTS, {"FriendlyName": "Stall"})

    assert (answered.status, answered.code) == (403, 20006)
    assert "www-authenticate" not in answered.headers


async def test_accounts_are_listed_newest_first_and_found_by_name_and_status(main: As) -> None:
    shops = {}
    for name in ("One", "Two", "Three"):
        await main.world.clock.advance(1.0)
        shops[name] = await opened(main, name)
    await main.post(at(shops["Three"].user), {"Status": "suspended"})

    async def names(query: str = "") -> list[str]:
        answered = await main.get(ACCOUNTS + query)
        return [each["friendly_name"] for each in answered.json["accounts"]]

    assert await names() == ["Three", "Two", "One", "An account"]
    assert await names("?FriendlyName=Two") == ["Two"]
    assert await names("?Status=suspended") == ["Three"]
    assert await names("?Status=active&PageSize=2") == ["Two", "One"]
    page = (await main.get(f"{ACCOUNTS}?PageSize=3")).json
    assert [each["sid"] for each in (await main.get(page["next_page_uri"])).json["accounts"]] == [
        ACCOUNT
    ]
    assert (await main.get(f"{ACCOUNTS}?Status=asleep")).status == 400


async def test_a_subaccount_is_alone_in_its_list(main: As) -> None:
    shop, stall = await opened(main, "Shop"), await opened(main, "Stall")

    answered = await shop.get(ACCOUNTS)

    assert [each["sid"] for each in answered.json["accounts"]] == [shop.user]
    assert stall.user not in answered.body.decode()


async def test_a_main_account_acts_on_a_subaccount_in_whose_name_things_are_then(main: As) -> None:
    shop = await opened(main)
    main.world.give_number(shop.user, "+15125550170")
    main.world.copy.catch_up()

    sent = await main.post(
        at(shop.user, "Messages"), {"To": HANDSET, "From": "+15125550170", "Body": "Hello"}
    )
    with_ours = await main.post(
        at(shop.user, "Messages"), {"To": HANDSET, "From": OUR_NUMBER, "Body": "Hello"}
    )
    main.world.copy.catch_up()

    assert (sent.status, sent.json["account_sid"]) == (201, shop.user)
    assert main.world.acceptor.accepted[0][0].account == shop.user
    assert (with_ours.status, with_ours.code) == (400, 21659)
    assert len((await shop.get(at(shop.user, "Messages"))).json["messages"]) == 1
    assert (await main.get(at(ACCOUNT, "Messages"))).json["messages"] == []


async def test_a_subaccount_acts_on_nobody_but_itself(main: As) -> None:
    shop, stall = await opened(main, "Shop"), await opened(main, "Stall")
    other = As(main.world, OTHER_ACCOUNT, OTHER_TOKEN)

    for who, account in (
        (shop, ACCOUNT),
        (shop, stall.user),
        (other, shop.user),
        (main, OTHER_ACCOUNT),
    ):
        for what in ("", "Messages", "Applications", "Keys"):
            answered = await who.get(at(account, what))
            assert (answered.status, answered.code) == (401, 20003), (account, what)
    assert (await shop.get(at(shop.user, "Messages"))).status == 200


async def test_a_subaccount_that_the_copy_does_not_show_yet_is_acted_on_all_the_same(
    main: As,
) -> None:
    main.world.accounts.is_copy_behind = True
    answered = await main.post(ACCOUNTS)
    shop = answered.json["sid"]

    assert (await main.get(at(shop, "Messages"))).status == 200
    main.world.accounts.is_electing = True
    unsure = await main.get(at(shop, "Messages"))
    assert (unsure.status, unsure.code) == (503, 20503)


async def test_a_name_is_changed_by_the_account_and_by_its_parent(main: As) -> None:
    shop = await opened(main)

    by_itself = await shop.post(at(shop.user), {"FriendlyName": "Corner shop"})
    by_parent = await main.post(at(shop.user), {"FriendlyName": "Big shop"})
    own = await main.post(at(ACCOUNT), {"FriendlyName": "Head office"})
    long = await main.post(at(ACCOUNT), {"FriendlyName": "x" * 65})

    assert (by_itself.status, by_itself.json["friendly_name"]) == (200, "Corner shop")
    assert (by_parent.status, by_parent.json["friendly_name"]) == (200, "Big shop")
    assert own.json["friendly_name"] == "Head office"
    assert own.json["auth_token"] == TOKEN
    assert long.status == 400


async def test_only_the_parent_changes_a_status(main: As) -> None:
    shop = await opened(main)

    by_itself = await shop.post(at(shop.user), {"Status": "closed"})
    of_main = await main.post(at(ACCOUNT), {"Status": "suspended"})
    as_it_is = await shop.post(at(shop.user), {"Status": "active"})

    assert (by_itself.status, by_itself.code) == (403, 20006)
    assert (of_main.status, of_main.code) == (400, 20001)
    assert (as_it_is.status, as_it_is.json["status"]) == (200, "active")


async def test_a_suspended_account_s_credentials_are_good_for_nothing(main: As) -> None:
    shop = await opened(main)

    changed = await main.post(at(shop.user), {"Status": "suspended"})

    assert (changed.status, changed.json["status"]) == (200, "suspended")
    for answered in (
        await shop.get(at(shop.user)),
        await shop.get(at(shop.user, "Messages")),
        await shop.post(at(shop.user, "Messages"), {"To": HANDSET}),
    ):
        assert (answered.status, answered.code) == (401, 20003)
    wrong = await As(main.world, shop.user, "wrong").get(at(shop.user))
    assert wrong.json["message"] == (await shop.get(at(shop.user))).json["message"]

    again = await main.post(at(shop.user), {"Status": "active"})
    assert again.json["status"] == "active"
    assert (await shop.get(at(shop.user, "Messages"))).status == 200


async def test_a_parent_sees_a_suspended_account_and_makes_nothing_for_it(main: As) -> None:
    shop = await opened(main)
    main.world.give_number(shop.user, "+15125550170")
    main.world.copy.catch_up()
    await main.post(at(shop.user), {"Status": "suspended"})

    sent = await main.post(
        at(shop.user, "Messages"), {"To": HANDSET, "From": "+15125550170", "Body": "Hello"}
    )

    assert (sent.status, sent.code) == (403, 20005)
    assert "www-authenticate" not in sent.headers
    assert main.world.acceptor.accepted == []
    assert (await main.get(at(shop.user, "Messages"))).status == 200
    numbers = (await main.get(at(shop.user, "IncomingPhoneNumbers"))).json
    assert len(numbers["incoming_phone_numbers"]) == 1


async def test_a_closed_account_gives_its_numbers_back_and_stays_closed(main: As) -> None:
    shop = await opened(main)
    for last in range(170, 190):
        main.world.give_number(shop.user, f"+15125550{last}")
    main.world.copy.catch_up()

    closed = await main.post(at(shop.user), {"Status": "closed"})
    again = await main.post(at(shop.user), {"Status": "closed"})
    reopened = await main.post(at(shop.user), {"Status": "active"})
    renamed = await main.post(at(shop.user), {"FriendlyName": "Ghost"})

    assert (closed.status, closed.json["status"], again.status) == (200, "closed", 200)
    assert (reopened.status, reopened.code) == (400, 20001)
    assert renamed.status == 400
    left: Any = (await main.get(at(shop.user, "IncomingPhoneNumbers"))).json
    assert left["incoming_phone_numbers"] == []
    assert len(main.world.numbers.released) == 20
    assert (await shop.get(at(shop.user))).status == 401
    assert (await main.get(at(shop.user))).json["status"] == "closed"


async def test_a_closing_that_cannot_free_every_number_says_so_and_is_repeated(main: As) -> None:
    shop = await opened(main)
    main.world.give_number(shop.user, "+15125550170")
    main.world.copy.catch_up()
    main.world.numbers.says = Undecidable("no leader")

    answered = await main.post(at(shop.user), {"Status": "closed"})
    main.world.numbers.says = None
    again = await main.post(at(shop.user), {"Status": "closed"})

    assert (answered.status, answered.code) == (503, 20503)
    assert "closed, and some of its numbers" in answered.json["message"]
    assert again.status == 200
    assert main.world.numbers.released == {"+15125550170"}
