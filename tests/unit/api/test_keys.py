"""API keys: made once, told once, good for their account and for no more."""

import hashlib
import hmac
from base64 import b64encode

import pytest
from tests.unit.api.api_world import ACCOUNT, HANDSET, OTHER_ACCOUNT, OUR_NUMBER, TOKEN, World
from tests.unit.api.test_accounts import ACCOUNTS, As, at, opened

from trunkline.api import auth
from trunkline.api.errors import ApiError
from trunkline.directory.records import Undecidable
from trunkline.domain.account import Account
from trunkline.domain.key import Key

pytestmark = pytest.mark.anyio

KEYS = at(ACCOUNT, "Keys")
SIGNING_KEYS = at(ACCOUNT, "SigningKeys")


@pytest.fixture
def main(world: World) -> As:
    return As(world, ACCOUNT, TOKEN)


async def made(main: As, path: str = KEYS) -> As:
    """A new key, in its holder's hands."""
    answered = await main.post(path, {"FriendlyName": "till"})
    assert answered.status == 201
    return As(main.world, answered.json["sid"], answered.json["secret"])


async def test_a_key_tells_its_secret_once_and_only_what_it_hashes_to_is_kept(main: As) -> None:
    answered = await main.post(KEYS, {"FriendlyName": "till"})

    key = answered.json
    assert (answered.status, key["friendly_name"]) == (201, "till")
    assert len(key["secret"]) == 32
    (kept,) = main.world.keys.made.values()
    assert kept.body.secret_digest == hashlib.sha256(key["secret"].encode()).hexdigest()
    assert key["secret"] not in str(kept)
    for path in (KEYS, at(ACCOUNT, f"Keys/{key['sid']}")):
        assert key["secret"] not in (await main.get(path)).body.decode()


async def test_a_repeat_of_a_key_s_create_tells_the_same_secret(main: As) -> None:
    first = await main.post(KEYS, {"FriendlyName": "till"}, key="till-1")
    again = await main.post(KEYS, {"FriendlyName": "till"}, key="till-1")
    other = await main.post(KEYS, {"FriendlyName": "other"}, key="till-1")
    next_one = await main.post(KEYS, {"FriendlyName": "till"}, key="till-2")

    assert again.json == first.json
    assert (other.status, other.code) == (422, 20422)
    assert next_one.json["secret"] != first.json["secret"]
    await main.world.call("DELETE", at(ACCOUNT, f"Keys/{first.json['sid']}"))
    spent = await main.post(KEYS, {"FriendlyName": "till"}, key="till-1")
    assert (spent.status, spent.code) == (409, 20409)


async def test_keys_are_the_same_under_both_paths(main: As) -> None:
    till = await made(main, SIGNING_KEYS)

    renamed = await main.post(at(ACCOUNT, f"Keys/{till.user}"), {"FriendlyName": "desk"})
    fetched = await main.get(at(ACCOUNT, f"SigningKeys/{till.user}"))

    assert renamed.json["friendly_name"] == fetched.json["friendly_name"] == "desk"
    assert [each["sid"] for each in (await main.get(KEYS)).json["keys"]] == [till.user]
    assert len((await main.get(SIGNING_KEYS)).json["signing_keys"]) == 1
    assert (await till.get(at(ACCOUNT, "Messages"))).status == 200


async def test_keys_are_listed_newest_first_page_by_page(main: As) -> None:
    keys = []
    for _ in range(3):
        await main.world.clock.advance(1.0)
        keys.append((await made(main)).user)

    page = (await main.get(f"{KEYS}?PageSize=2")).json
    rest = (await main.get(page["next_page_uri"])).json

    assert [each["sid"] for each in page["keys"] + rest["keys"]] == keys[::-1]


async def test_a_key_sends_for_its_account(main: As) -> None:
    till = await made(main)

    answered = await till.post(
        at(ACCOUNT, "Messages"), {"To": HANDSET, "From": OUR_NUMBER, "Body": "Hello"}
    )

    assert (answered.status, answered.json["account_sid"]) == (201, ACCOUNT)


async def test_a_key_manages_neither_accounts_nor_keys(main: As) -> None:
    till, shop = await made(main), await opened(main)

    for path in (ACCOUNTS, at(ACCOUNT), at(shop.user), KEYS, at(ACCOUNT, f"Keys/{till.user}")):
        for answered in (await till.get(path), await till.post(path, {"FriendlyName": "mine"})):
            assert (answered.status, answered.code) == (401, 20003), path
    gone = await main.world.call(
        "DELETE", at(ACCOUNT, f"Keys/{till.user}"), user=till.user, token=till.token
    )
    assert (gone.status, gone.code) == (401, 20003)
    assert len(main.world.keys.made) == 1


async def test_a_key_acts_on_its_own_account_alone(main: As) -> None:
    till, shop = await made(main), await opened(main)
    of_shop = await made(main, at(shop.user, "Keys"))

    for who, account in ((till, shop.user), (till, OTHER_ACCOUNT), (of_shop, ACCOUNT)):
        answered = await who.get(at(account, "Messages"))
        assert (answered.status, answered.code) == (401, 20003)
    assert (await of_shop.get(at(shop.user, "Messages"))).status == 200
    assert (await main.get(at(ACCOUNT, f"Keys/{of_shop.user}"))).status == 404


async def test_a_deleted_key_is_refused_at_once(main: As) -> None:
    till = await made(main)
    assert (await till.get(at(ACCOUNT, "Messages"))).status == 200

    gone = await main.world.call("DELETE", at(ACCOUNT, f"Keys/{till.user}"))

    assert gone.status == 204
    assert (await till.get(at(ACCOUNT, "Messages"))).status == 401
    assert (await main.get(at(ACCOUNT, f"Keys/{till.user}"))).status == 404
    assert (await main.world.call("DELETE", at(ACCOUNT, f"Keys/{till.user}"))).status == 404


async def test_the_keys_of_a_suspended_account_are_refused_and_no_new_one_is_made(
    main: As,
) -> None:
    shop = await opened(main)
    till = await made(main, at(shop.user, "Keys"))

    await main.post(at(shop.user), {"Status": "suspended"})

    assert (await till.get(at(shop.user, "Messages"))).status == 401
    assert (await main.post(at(shop.user, "Keys"))).status == 401
    assert len((await main.get(at(shop.user, "Keys"))).json["keys"]) == 1
    deleted = await main.world.call("DELETE", at(shop.user, f"Keys/{till.user}"))
    assert deleted.status == 204


async def test_a_key_of_which_nobody_knows_is_said_to_be_unsure(main: As) -> None:
    main.world.keys.says = Undecidable("no leader")
    main.world.keys.is_electing = True
    path = at(ACCOUNT, "Keys/SK" + "0" * 32)

    for answered in (
        await main.post(KEYS),
        await main.get(path),
        await main.post(path, {"FriendlyName": "x"}),
        await main.world.call("DELETE", path),
    ):
        assert (answered.status, answered.code) == (503, 20503)


class Watched:
    """What is known, and how often somebody looks."""

    def __init__(self, world: World) -> None:
        self._replica = world.copy.replica
        self.looks: list[str] = []

    def account(self, sid: str) -> Account | None:
        self.looks.append("account")
        return self._replica.account(sid)

    def key(self, sid: str) -> Key | None:
        self.looks.append("key")
        return self._replica.key(sid)

    def version(self) -> bytes:
        return b""


@pytest.mark.parametrize("kind", ["AC", "SK"])
async def test_wrong_and_unknown_credentials_are_told_apart_neither_by_answer_nor_by_work(
    main: As, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    till = await made(main)
    known = ACCOUNT if kind == "AC" else till.user
    compared: list[object] = []

    def compare(one: object, two: object) -> bool:
        compared.append(one)
        return one == two

    monkeypatch.setattr(hmac, "compare_digest", compare)

    seen = []
    for user in (known, kind + "0" * 32):
        watched = Watched(main.world)
        compared.clear()
        header = "Basic " + b64encode(f"{user}:wrong".encode()).decode()
        with pytest.raises(ApiError) as refusal:
            auth.authenticate(header.encode(), watched)
        seen.append((refusal.value.answer().body, tuple(watched.looks), len(compared)))

    assert seen[0] == seen[1]
    assert seen[0][2] == 1
