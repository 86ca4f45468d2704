"""An account, as its owner sees it."""

import pytest
from tests.unit.api.api_world import ACCOUNT, OTHER_ACCOUNT, TOKEN, World

pytestmark = pytest.mark.anyio


async def test_an_account_shows_itself_and_where_its_resources_are(world: World) -> None:
    answered = await world.get(f"/2010-04-01/Accounts/{ACCOUNT}.json")

    assert answered.status == 200
    account = answered.json
    assert (account["sid"], account["owner_account_sid"]) == (ACCOUNT, ACCOUNT)
    assert (account["status"], account["type"]) == ("active", "Full")
    assert account["auth_token"] == TOKEN
    messages = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    assert account["subresource_uris"]["messages"] == messages


async def test_an_account_does_not_see_another(world: World) -> None:
    answered = await world.get(f"/2010-04-01/Accounts/{OTHER_ACCOUNT}.json")

    assert (answered.status, answered.code) == (404, 20404)
