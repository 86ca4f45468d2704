"""The life of a message after its create, with the official SDK: later, canceled, redacted, deleted."""

import datetime as dt
import time
from typing import Any

import pytest
from tests.sdk.customer import HANDSET, on_handset
from tests.system.running import Running, wait_until
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client
from twilio.rest.api.v2010.account.message import MessageInstance

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

SOON_S = 3.0


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"TRUNKLINE_MESSAGES_SEND_AT_MIN_S": "0"}


def test_a_message_with_a_time_is_sent_then_and_not_before(host: Running, client: Client) -> None:
    due = at(SOON_S)

    made = create(host, client, "not before", send_at=due, schedule_type="fixed")
    assert made.status == "scheduled"
    assert made.date_sent is None

    wait_until(lambda: on_handset(host, HANDSET, "not before"), "it to arrive")
    (message,) = on_handset(host, HANDSET, "not before")
    assert message["at"] >= due.timestamp()
    wait_until(lambda: client.messages(made.sid).fetch().status == "delivered", "its receipt")
    sent = client.messages(made.sid).fetch()
    assert sent.date_created < sent.date_sent


def test_a_canceled_message_stays_canceled(host: Running, client: Client) -> None:
    made = create(host, client, "never", send_at=at(3600.0), schedule_type="fixed")

    assert client.messages(made.sid).update(status="canceled").status == "canceled"

    assert client.messages(made.sid).update(status="canceled").status == "canceled"
    assert client.messages(made.sid).fetch().status == "canceled"
    assert on_handset(host, HANDSET, "never") == []


def test_what_was_sent_cannot_be_canceled(host: Running, client: Client) -> None:
    made = finished(host, client, "sent already")

    with pytest.raises(TwilioRestException) as refusal:
        client.messages(made.sid).update(status="canceled")

    assert (refusal.value.status, refusal.value.code) == (409, 30409)


def test_a_redacted_message_says_nothing_any_more(host: Running, client: Client) -> None:
    made = finished(host, client, "a secret")

    redacted = client.messages(made.sid).update(body="")

    assert (redacted.body, redacted.status) == ("", "delivered")
    assert client.messages(made.sid).fetch().body == ""
    assert "a secret" not in [each.body for each in client.messages.list(limit=100)]


def test_a_deleted_message_is_gone(host: Running, client: Client) -> None:
    made = finished(host, client, "gone")

    assert client.messages(made.sid).delete()

    assert made.sid not in [each.sid for each in client.messages.list(limit=100)]
    with pytest.raises(TwilioRestException) as refusal:
        client.messages(made.sid).fetch()
    assert (refusal.value.status, refusal.value.code) == (404, 20404)


def test_a_message_that_waits_cannot_be_deleted(host: Running, client: Client) -> None:
    made = create(host, client, "waits", send_at=at(3600.0), schedule_type="fixed")

    with pytest.raises(TwilioRestException) as refusal:
        client.messages(made.sid).delete()

    assert (refusal.value.status, refusal.value.code) == (409, 20009)


def test_a_time_that_is_past_is_refused(host: Running, client: Client) -> None:
    with pytest.raises(TwilioRestException) as refusal:
        create(host, client, "too late", send_at=at(-60.0), schedule_type="fixed")

    assert (refusal.value.status, refusal.value.code) == (400, 35114)


def test_lists_are_filtered_by_who_and_when(host: Running, client: Client) -> None:
    recipient, sender = "+12025550166", host.facts["phone_number"]
    made = create(host, client, "listed", to=recipient)
    wait_until(lambda: client.messages(made.sid).fetch().date_sent, "it to be sent")
    sent_at = client.messages(made.sid).fetch().date_sent
    before, behind = sent_at - dt.timedelta(hours=1), sent_at + dt.timedelta(hours=1)

    def found(**wanted: Any) -> list[str]:
        return [each.sid for each in client.messages.list(to=recipient, **wanted)]

    assert found() == found(from_=sender) == [made.sid]
    for day in (sent_at, sent_at.date(), f"{sent_at:%Y-%m-%d}"):
        assert found(date_sent=day) == [made.sid]
    assert found(date_sent=sent_at.date() - dt.timedelta(days=1)) == []
    assert found(date_sent_after=before, date_sent_before=behind) == [made.sid]
    for nothing in ({"date_sent_after": behind}, {"date_sent_before": before}):
        assert found(**nothing) == []
    assert found(from_="+12025550199") == []


def test_every_property_of_a_message_has_its_type(host: Running, client: Client) -> None:
    made = finished(host, client, "x" * 161)

    message = client.messages(made.sid).fetch()

    assert (message.num_segments, message.num_media) == ("2", "0")
    for moment in (message.date_created, message.date_updated, message.date_sent):
        assert isinstance(moment, dt.datetime)
        assert moment.tzinfo is not None
    assert (message.error_code, message.error_message) == (None, None)
    assert (message.direction, message.api_version) == ("outbound-api", "2010-04-01")
    assert message.subresource_uris["media"].endswith(f"/{made.sid}/Media.json")


def at(ahead_s: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(time.time() + ahead_s) + 1, dt.UTC)  # noqa: TID251 - a client's clock


def create(
    host: Running, client: Client, body: str, *, to: str = HANDSET, **more: Any
) -> MessageInstance:
    return client.messages.create(to=to, from_=host.facts["phone_number"], body=body, **more)


def finished(host: Running, client: Client, body: str) -> MessageInstance:
    made = create(host, client, body)
    wait_until(lambda: client.messages(made.sid).fetch().status == "delivered", "its receipt")
    return made
