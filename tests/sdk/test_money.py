"""STOP and START, prices, usage and balance, as a program with the official SDK meets them."""

from decimal import Decimal
from typing import Any

import pytest
from tests.sdk.customer import on_handset, text_from
from tests.system.running import Running, put_json, wait_until
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from trunkline.domain.optout import REPLIES, Keyword

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

OPENING = "25.00"
SETTLED = frozenset({"delivered", "undelivered", "failed", "canceled", "received"})
EURO_SIGN_AND_MORE = "€" * 100
"""200 septets: two segments."""


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"TRUNKLINE_PRICES_OPENING_BALANCE": OPENING}


def bodies_on(host: Running, handset: str) -> list[str]:
    return [each["body"] for each in on_handset(host, handset)]


def send(client: Client, host: Running, to: str, body: str = "hello") -> Any:
    return client.messages.create(to=to, from_=host.facts["phone_number"], body=body)


def refusal(client: Client, host: Running, to: str) -> int:
    with pytest.raises(TwilioRestException) as refused:
        send(client, host, to)
    assert refused.value.status == 400
    return int(refused.value.code)


def test_stop_is_answered_and_ends_all_messages_until_start(host: Running, client: Client) -> None:
    handset = "+12025550141"

    text_from(host, handset, body="Stop")
    wait_until(lambda: bodies_on(host, handset) == [REPLIES[Keyword.STOP]], "the answer to STOP")
    assert refusal(client, host, handset) == 21610

    text_from(host, handset, body="help")
    wait_until(lambda: bodies_on(host, handset)[-1] == REPLIES[Keyword.HELP], "the answer to HELP")
    assert refusal(client, host, handset) == 21610

    text_from(host, handset, body="start")
    wait_until(lambda: bodies_on(host, handset)[-1] == REPLIES[Keyword.START], "that to START")
    assert send(client, host, handset).status == "queued"
    wait_until(lambda: bodies_on(host, handset)[-1] == "hello", "the message after START")


def test_a_key_is_answered_the_same_after_a_stop(host: Running, client: Client) -> None:
    handset = "+12025550142"
    keyed = {"status_callback": "http://127.0.0.1:9/unused#ik=before-the-stop"}
    ours = host.facts["phone_number"]
    first = client.messages.create(to=handset, from_=ours, body="once", **keyed)
    text_from(host, handset, body="STOP")
    wait_until(lambda: REPLIES[Keyword.STOP] in bodies_on(host, handset), "the answer to STOP")

    again = client.messages.create(to=handset, from_=ours, body="once", **keyed)

    assert again.sid == first.sid
    assert refusal(client, host, handset) == 21610


def test_what_is_sent_has_a_price_and_the_sums_and_the_balance_agree(
    host: Running, client: Client
) -> None:
    handset = "+12025550143"
    before = _total(client)
    created = send(client, host, handset, EURO_SIGN_AND_MORE)
    assert (created.num_segments, created.price) == ("2", None)
    sid = created.sid
    wait_until(lambda: client.messages(sid).fetch().status == "delivered", "its receipt")

    message = client.messages(sid).fetch()
    assert (message.price, message.price_unit) == ("-0.01580", "USD")
    after = _total(client)
    assert after - before == Decimal("0.0158")
    balance = client.balance.fetch()
    assert (Decimal(balance.balance), balance.currency) == (Decimal(OPENING) - after, "USD")


def test_what_the_carrier_refuses_costs_nothing(host: Running, client: Client) -> None:
    handset = "+12025550144"
    behaviour = {"outcome": "refuse", "error_code": 30006}
    put_json(f"{host.facts['simulator_url']}/v1/behaviour/{handset}", behaviour)
    before = _total(client)
    sid = send(client, host, handset).sid

    wait_until(lambda: client.messages(sid).fetch().status == "failed", "its refusal")

    failed = client.messages(sid).fetch()
    assert (failed.error_code, failed.price) == (30006, None)
    assert _total(client) == before


def test_every_list_of_usage_is_there(client: Client) -> None:
    records = client.usage.records
    lists = (
        *(records, records.all_time, records.daily, records.last_month, records.monthly),
        *(records.this_month, records.today, records.yearly, records.yesterday),
    )
    for each in lists:
        found = each.list(category="sms", limit=3)
        assert [one.category for one in found] == ["sms"] * len(found)
        assert found
    (today,) = records.today.list(category="sms-outbound")
    assert int(today.count) > 0
    assert today.start_date == today.end_date


@pytest.mark.parametrize(
    ("sender", "recipient", "code"),
    [
        ("+15005550001", "+12025550145", 21212),
        ("+15005550008", "+12025550145", 21611),
        ("+15005550006", "+15005550009", 21614),
        ("+15005550006", "+15005550004", 21610),
    ],
)
def test_magic_numbers_are_refused_as_they_stand_for(
    client: Client, sender: str, recipient: str, code: int
) -> None:
    with pytest.raises(TwilioRestException) as refused:
        client.messages.create(to=recipient, from_=sender, body="hello")

    assert refused.value.code == code


def test_the_magic_sender_reaches_a_handset(host: Running, client: Client) -> None:
    handset = "+12025550146"

    client.messages.create(to=handset, from_="+15005550006", body="from everybody")

    wait_until(lambda: bodies_on(host, handset) == ["from everybody"], "it to arrive")


def _total(client: Client) -> Decimal:
    """When nothing is under way any more: what an earlier test sent may be priced at any moment until
    then."""
    wait_until(
        lambda: all(each.status in SETTLED for each in client.messages.list()), "all to have ended"
    )
    (total,) = client.usage.records.all_time.list(category="totalprice")
    return Decimal(total.usage)
