"""A program written with the official SDK, unchanged but for where it points."""

from pathlib import Path
from typing import Any

import pytest
from tests.sdk.customer import HANDSET, Application, on_handset, text_from
from tests.system.running import Running, wait_until
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


def test_a_message_goes_its_whole_way_and_tells_every_step(
    host: Running, client: Client, application: Application
) -> None:
    message = client.messages.create(
        to=HANDSET,
        from_=host.facts["phone_number"],
        body="hello, handset",
        status_callback=f"{application.url}/status",
    )
    assert message.status == "queued"
    assert message.direction == "outbound-api"

    told = [application.next() for _ in range(3)]

    assert [each["MessageStatus"] for each in told] == ["sending", "sent", "delivered"]
    assert {each["MessageSid"] for each in told} == {message.sid}
    assert {each["signed"] for each in told} == {"True"}
    assert len({each["token"] for each in told}) == 3
    fetched = client.messages(message.sid).fetch()
    assert fetched.status == "delivered"
    assert fetched.date_sent is not None
    assert fetched.body == "hello, handset"
    (arrived,) = on_handset(host, HANDSET, "hello, handset")
    assert arrived["from"] == host.facts["phone_number"]


def test_a_new_message_is_found_by_its_sid_at_once(host: Running, client: Client) -> None:
    for number in range(20):
        message = client.messages.create(
            to=HANDSET, from_=host.facts["phone_number"], body=f"found at once {number}"
        )
        assert client.messages(message.sid).fetch().sid == message.sid


def test_an_inbound_message_is_answered_by_the_application(
    host: Running, client: Client, application: Application
) -> None:
    number = client.incoming_phone_numbers.create(
        phone_number="+12025550101", sms_url=f"{application.url}/sms"
    )

    text_from(host, HANDSET, to=number.phone_number, body="ping")

    asked = application.next()
    assert (asked["From"], asked["To"], asked["Body"]) == (HANDSET, number.phone_number, "ping")
    assert asked["signed"] == "True"
    assert asked["SmsStatus"] == "received"
    wait_until(lambda: on_handset(host, HANDSET, "you said ping"), "the answer on the handset")
    wait_until(
        lambda: (
            [m.direction for m in client.messages.list(from_=number.phone_number)]
            == ["outbound-reply"]
        ),
        "the reply in the list",
    )
    inbound = client.messages(asked["MessageSid"]).fetch()
    assert (inbound.direction, inbound.status, inbound.body) == ("inbound", "received", "ping")


def test_a_conversation_of_several_documents_is_had(
    host: Running, client: Client, application: Application
) -> None:
    number = client.incoming_phone_numbers.create(
        phone_number="+12025550104", sms_url=f"{application.url}/talk"
    )

    text_from(host, HANDSET, to=number.phone_number, body="ping")

    wait_until(lambda: on_handset(host, HANDSET, "two and a half"), "the last reply")
    wait_until(lambda: on_handset(host, HANDSET, "one"), "the first reply")
    told = [application.next() for _ in range(6)]
    assert {each["signed"] for each in told} == {"True"}
    talk, then, last = (each for each in told if each["path"] != "/status")
    assert [each["path"] for each in (talk, then, last)] == ["/talk", "/then", "/last"]
    assert talk["MessageSid"] == last["MessageSid"] != then["MessageSid"]
    assert then["MessageStatus"] == "sending"
    statuses = [each for each in told if each["path"] == "/status"]
    assert [each["MessageStatus"] for each in statuses] == ["sending", "sent", "delivered"]
    assert {each["MessageSid"] for each in statuses} == {then["MessageSid"]}
    assert client.messages(then["MessageSid"]).fetch().direction == "outbound-reply"
    assert not on_handset(host, HANDSET, "never")


def test_messages_are_listed_newest_first_page_by_page(host: Running, client: Client) -> None:
    recipient = "+12025550177"
    sent = [
        client.messages.create(to=recipient, from_=host.facts["phone_number"], body=f"page {n}").sid
        for n in range(7)
    ]
    wait_until(lambda: len(client.messages.list(to=recipient)) == 7, "all of them in the list")

    pages = [client.messages.page(to=recipient, page_size=3)]
    while (following := pages[-1].next_page()) is not None:
        pages.append(following)

    assert [[message.sid for message in page] for page in pages] == [
        sent[:3:-1],
        sent[3:0:-1],
        sent[:1],
    ]


def test_numbers_and_the_account_are_shown(host: Running, client: Client) -> None:
    number = client.incoming_phone_numbers.create(phone_number="+12025550102")
    wait_until(
        lambda: (
            host.facts["phone_number"]
            in [each.phone_number for each in client.incoming_phone_numbers.list()]
        ),
        "the first number in the list",
    )
    assert client.incoming_phone_numbers(number.sid).fetch().phone_number == "+12025550102"

    with pytest.raises(TwilioRestException) as refusal:
        client.incoming_phone_numbers.create(phone_number="+12025550102")

    assert refusal.value.code == 21422
    account = client.api.v2010.accounts(host.facts["account_sid"]).fetch()
    assert (account.sid, account.status) == (host.facts["account_sid"], "active")


def test_a_repeat_of_a_key_is_the_same_message(host: Running, client: Client) -> None:
    keyed = [
        client.messages.create(
            to=HANDSET,
            from_=host.facts["phone_number"],
            body="once",
            status_callback="http://127.0.0.1:9/unused#ik=order-42",
        )
        for _ in range(3)
    ]

    assert len({message.sid for message in keyed}) == 1
    with pytest.raises(TwilioRestException) as refusal:
        client.messages.create(
            to=HANDSET,
            from_=host.facts["phone_number"],
            body="something else",
            status_callback="http://127.0.0.1:9/unused#ik=order-42",
        )
    assert refusal.value.status == 422
    wait_until(lambda: on_handset(host, HANDSET, "once"), "it to arrive")
    assert len(on_handset(host, HANDSET, "once")) == 1


def test_the_banner_snippet_works_when_pasted(host: Running, tmp_path: Path) -> None:
    from trunkline.host.banner import snippet_of
    from trunkline.host.credentials import Credentials

    credentials = Credentials(
        host.facts["account_sid"], host.facts["auth_token"], host.facts["phone_number"]
    )
    pasted = snippet_of(host.facts["base_url"], credentials)

    names: dict[str, Any] = {}
    exec(compile(pasted, "pasted", "exec"), names)  # noqa: S102 - that is what a reader does with it

    wait_until(lambda: on_handset(host, HANDSET), "the snippet's message")


def test_bad_credentials_are_told_as_such(host: Running) -> None:
    stranger = Client(host.facts["account_sid"], "0" * 32)
    stranger.api.base_url = host.facts["base_url"]

    with pytest.raises(TwilioRestException) as refusal:
        stranger.messages("SM" + "0" * 32).fetch()

    assert (refusal.value.status, refusal.value.code) == (401, 20003)
