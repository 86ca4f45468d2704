"""Accounts and keys, as a program with the official SDK opens, uses, suspends and closes them."""

import json
from typing import Any

import pytest
from tests.sdk.customer import HANDSET, Application, text_from
from tests.system.running import Running, wait_until
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.rest import Client

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

REFUSED = (401, 20003)


def as_(host: Running, user: str, password: str, account: str | None = None) -> Client:
    client = Client(user, password, account)
    client.api.base_url = host.facts["base_url"]
    return client


@pytest.fixture
def main(host: Running) -> Client:
    return as_(host, host.facts["account_sid"], host.facts["auth_token"])


def refusal(act: Any, *arguments: Any, **named: Any) -> tuple[int, int]:
    with pytest.raises(TwilioException) as raised:
        act(*arguments, **named)
    if isinstance(raised.value, TwilioRestException):
        return raised.value.status, raised.value.code
    response = raised.value.args[1]  # what a list gives, in place of an exception of its own
    return response.status_code, json.loads(response.text)["code"]


def test_a_subaccount_has_numbers_and_messages_of_its_own(host: Running, main: Client) -> None:
    shop = main.api.accounts.create(friendly_name="Shop")
    theirs = as_(host, shop.sid, shop.auth_token)
    number = main.api.accounts(shop.sid).incoming_phone_numbers.create(phone_number="+12025550160")

    by_parent = main.api.accounts(shop.sid).messages.create(
        to=HANDSET, from_=number.phone_number, body="by the parent"
    )
    by_itself = theirs.messages.create(to=HANDSET, from_=number.phone_number, body="by itself")
    third = as_(host, main.username, main.password, shop.sid)

    assert by_parent.account_sid == by_itself.account_sid == shop.sid
    assert shop.owner_account_sid == main.username
    wait_until(
        lambda: {by_parent.sid, by_itself.sid} == {each.sid for each in theirs.messages.list()},
        "both messages to be listed",
    )
    wait_until(lambda: third.messages(by_itself.sid).fetch().status == "delivered", "a receipt")
    assert by_itself.sid not in [each.sid for each in main.messages.list()]
    assert refusal(main.messages.create, to=HANDSET, from_=number.phone_number, body="x") == (
        400,
        21659,
    )
    assert refusal(theirs.api.accounts(main.username).messages.list) == REFUSED
    assert refusal(theirs.api.accounts.create) == (403, 20006)
    listed = main.api.accounts.list(friendly_name="Shop")
    assert [each.sid for each in listed] == [shop.sid]
    assert main.api.accounts(shop.sid).update(friendly_name="Corner").friendly_name == "Corner"
    assert theirs.api.accounts(shop.sid).fetch().friendly_name == "Corner"


def test_a_number_moves_to_a_subaccount_and_back(host: Running, main: Client) -> None:
    shop = main.api.accounts.create(friendly_name="Mover")
    theirs = as_(host, shop.sid, shop.auth_token)
    number = main.incoming_phone_numbers.create(phone_number="+12025550164")

    moved = main.incoming_phone_numbers(number.sid).update(account_sid=shop.sid)

    assert (moved.account_sid, moved.sid) == (shop.sid, number.sid)
    assert theirs.messages.create(to=HANDSET, from_=number.phone_number, body="ours now").sid
    assert [each.sid for each in theirs.incoming_phone_numbers.list()] == [number.sid]
    assert refusal(main.incoming_phone_numbers(number.sid).fetch) == (404, 20404)
    mine = theirs.incoming_phone_numbers(number.sid)
    assert refusal(mine.update, account_sid=main.username) == (400, 21474)
    back = main.api.accounts(shop.sid).incoming_phone_numbers(number.sid)
    assert back.update(account_sid=main.username).account_sid == main.username
    assert theirs.incoming_phone_numbers.list() == []


def test_a_suspended_account_is_silent_until_it_is_active_again(
    host: Running, main: Client, application: Application
) -> None:
    shop = main.api.accounts.create(friendly_name="Late with the rent")
    theirs = as_(host, shop.sid, shop.auth_token)
    number = theirs.incoming_phone_numbers.create(
        phone_number="+12025550161", sms_url=f"{application.url}/sms"
    )

    suspended = main.api.accounts(shop.sid).update(status="suspended")

    assert suspended.status == "suspended"
    assert refusal(theirs.messages.list) == REFUSED
    assert refusal(
        main.api.accounts(shop.sid).messages.create,
        to=HANDSET,
        from_=number.phone_number,
        body="not now",
    ) == (403, 20005)
    text_from(host, HANDSET, to=number.phone_number, body="are you there?")
    wait_until(
        lambda: main.api.accounts(shop.sid).messages.list(to=number.phone_number) != [],
        "the message to be kept",
    )

    main.api.accounts(shop.sid).update(status="active")
    text_from(host, HANDSET, to=number.phone_number, body="and now?")
    assert application.next()["Body"] == "and now?"
    assert theirs.messages.create(to=HANDSET, from_=number.phone_number, body="yes").sid


def test_a_closed_account_stays_closed_and_has_no_number(host: Running, main: Client) -> None:
    shop = main.api.accounts.create(friendly_name="Gone")
    theirs = as_(host, shop.sid, shop.auth_token)
    number = theirs.incoming_phone_numbers.create(phone_number="+12025550162")

    assert main.api.accounts(shop.sid).update(status="closed").status == "closed"

    assert refusal(theirs.messages.list) == REFUSED
    assert refusal(main.api.accounts(shop.sid).update, status="active") == (400, 20001)
    assert main.api.accounts(shop.sid).incoming_phone_numbers.list() == []
    assert main.incoming_phone_numbers.create(phone_number=number.phone_number).sid != number.sid
    assert shop.sid in [each.sid for each in main.api.accounts.list(status="closed")]


def test_a_program_with_a_key_and_its_secret_sends_until_the_key_is_deleted(
    host: Running, main: Client
) -> None:
    made = main.new_keys.create(friendly_name="till")
    till = as_(host, made.sid, made.secret, main.username)

    sent = till.messages.create(to=HANDSET, from_=host.facts["phone_number"], body="by key")

    assert sent.account_sid == main.username
    assert refusal(till.keys.list) == REFUSED
    assert refusal(till.api.accounts(main.username).fetch) == REFUSED
    assert refusal(as_(host, made.sid, "wrong", main.username).messages.list) == REFUSED
    assert main.keys(made.sid).fetch().friendly_name == "till"
    assert main.keys(made.sid).update(friendly_name="desk").friendly_name == "desk"
    assert [each.friendly_name for each in main.keys.list()] == ["desk"]
    assert main.keys(made.sid).delete() is True
    assert refusal(till.messages.list) == REFUSED


def test_a_signing_key_is_a_key(host: Running, main: Client) -> None:
    made = main.new_signing_keys.create(friendly_name="tokens")
    client = as_(host, made.sid, made.secret, main.username)

    assert client.messages.list(limit=1) is not None
    assert main.signing_keys(made.sid).fetch().sid == made.sid
    assert main.signing_keys(made.sid).update(friendly_name="jwt").friendly_name == "jwt"
    assert made.sid in [each.sid for each in main.signing_keys.list()]
    assert main.signing_keys(made.sid).delete() is True
    assert refusal(client.messages.list) == REFUSED
