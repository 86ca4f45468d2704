"""Conversations: what applications are asked, and what their answers come to."""

import pytest

from trunkline.domain.events import MessageReceived, NumberOwned
from trunkline.domain.number import Number
from trunkline.messaging.accept import NewMessage
from trunkline.messaging.conversation import (
    Conversation,
    Document,
    Place,
    Prepared,
    conversation_of,
    params_of,
    read,
    reply_of,
    request_for,
)
from trunkline.protocols.twiml.messaging import Message, Redirect, Reply, TwimlError
from trunkline.webhooks.client import Answered, Unreachable

SID = "MM" + "1" * 32
ACCOUNT = "AC" + "2" * 32
OURS = "+15550001"
THEIRS = "+15550002"
HOME = Place("https://app.example/in/sms?x=1", "POST")


def number(**settings: str) -> Number:
    owned = NumberOwned(
        sid="PN" + "3" * 32, phone_number=OURS, friendly_name="front desk", **settings
    )
    return Number(account=ACCOUNT, settings=owned, created_at=0.0, updated_at=0.0)


def received(*media_urls: str) -> MessageReceived:
    return MessageReceived(
        sid=SID, sender=THEIRS, recipient=OURS, text="Hi 😀", media_urls=media_urls
    )


def conversation(**settings: str) -> Conversation:
    made = conversation_of(received(), number(**({"sms_url": HOME.url} | settings)), "token")
    assert made is not None
    return made


def prepared(message: Message) -> Prepared:
    is_ours = message.sender in {None, OURS, "+15550009"}
    return reply_of(conversation(), HOME, message, is_ours=is_ours)


def reply(message: Message) -> NewMessage | None:
    return prepared(message).reply


def test_a_number_without_a_url_asks_nobody() -> None:
    assert conversation_of(received(), number(), "token") is None


def test_an_application_is_told_all_about_the_message() -> None:
    made = conversation_of(
        received("https://carrier.example/1", "https://carrier.example/2"),
        number(sms_url=HOME.url, sms_method="get"),
        "token",
        media=(
            ("https://api.example/Media/ME1", "image/jpeg"),
            ("https://api.example/Media/ME2", "application/octet-stream"),
        ),
    )

    assert made is not None
    assert made.primary == Place(HOME.url, "GET")
    assert dict(params_of(made)) == {
        "MessageSid": SID,
        "SmsSid": SID,
        "SmsMessageSid": SID,
        "AccountSid": ACCOUNT,
        "From": THEIRS,
        "To": OURS,
        "Body": "Hi 😀",
        "NumMedia": "2",
        "NumSegments": "1",
        "MediaUrl0": "https://api.example/Media/ME1",
        "MediaContentType0": "image/jpeg",
        "MediaUrl1": "https://api.example/Media/ME2",
        "MediaContentType1": "application/octet-stream",
        "SmsStatus": "received",
        "ApiVersion": "2010-04-01",
        "FromCity": "",
        "FromState": "",
        "FromZip": "",
        "FromCountry": "",
        "ToCity": "",
        "ToState": "",
        "ToZip": "",
        "ToCountry": "",
    }


def test_the_fallback_is_told_what_went_wrong_and_where() -> None:
    asked = conversation(sms_fallback_url="https://spare.example/sms", sms_fallback_method="GET")
    assert asked.fallback is not None

    request = request_for(
        asked, asked.fallback, 0, instead_of=asked.primary, because=TwimlError(11205, "refused")
    )

    assert (request.url, request.method) == ("https://spare.example/sms", "GET")
    assert dict(request.params)["ErrorCode"] == "11205"
    assert dict(request.params)["ErrorUrl"] == HOME.url
    assert request.token != request_for(asked, asked.primary, 0).token


def test_the_same_document_is_asked_for_with_the_same_token() -> None:
    first, again = (request_for(conversation(), HOME, 0) for _ in range(2))

    assert first == again
    assert first.token != request_for(conversation(), HOME, 1).token


def test_an_answer_is_a_reply_or_an_error_with_its_code() -> None:
    assert read(Answered(204, "", b"")) == Reply()
    assert read(Answered(200, "text/plain", b"ok")) == Reply((Message("ok"),))
    for answer, code in (
        (Answered(500, "text/xml", b"<Response/>"), 11200),
        (Answered(200, "text/xml", b"<Response>"), 12100),
        (Unreachable("refused", 11205, is_unsent=True), 11205),
    ):
        error = read(answer)
        assert isinstance(error, TwimlError)
        assert error.code == code


def test_a_reply_goes_back_the_way_the_message_came() -> None:
    assert reply(Message("Thanks")) == NewMessage(
        account=ACCOUNT, sender=OURS, recipient=THEIRS, text="Thanks", direction="outbound-reply"
    )


def test_a_reply_may_go_elsewhere_from_another_number_of_the_account() -> None:
    answer = reply(Message("Alarm", recipient="+15550008", sender="+15550009"))

    assert isinstance(answer, NewMessage)
    assert (answer.sender, answer.recipient) == ("+15550009", "+15550008")


def test_urls_in_a_document_are_resolved_against_its_own() -> None:
    answer = reply(Message("x", media_urls=("/1.png", "2.png"), status_callback="../status?y=2"))

    assert isinstance(answer, NewMessage)
    assert answer.media_urls == ("https://app.example/1.png", "https://app.example/in/2.png")
    assert answer.status_callback == "https://app.example/status?y=2"


def test_the_older_action_attribute_is_a_status_callback() -> None:
    answer = reply(Message("x", action="/done"))

    assert isinstance(answer, NewMessage)
    assert answer.status_callback == "https://app.example/done"


def test_a_reply_that_cannot_be_sent_is_named_with_its_code() -> None:
    for message, code in (
        (Message("x", recipient="front desk"), 14101),
        (Message("x", sender="+15550777"), 14102),
        (Message("x" * 1601), 14103),
    ):
        answer = prepared(message)
        assert answer.reply is None
        assert [error.code for error in answer.warnings] == [code]


@pytest.mark.parametrize("url", ["mailto:me@app.example", "http://[nowhere", "http://"])
def test_a_reply_whose_callback_cannot_be_used_is_sent_without_it(url: str) -> None:
    answer = prepared(Message("x", status_callback=url))

    assert answer.reply is not None
    assert (answer.reply.text, answer.reply.status_callback) == ("x", None)
    assert [error.code for error in answer.warnings] == [14105]


def test_a_document_may_lead_to_another() -> None:
    leads_on = Document(HOME, Reply((Message("one"), Redirect("next", "GET"))))
    again = Document(HOME, Reply((Redirect(""),)))

    assert leads_on.next_place == Place("https://app.example/in/next", "GET")
    assert [message.text for message in leads_on.messages] == ["one"]
    assert again.next_place == HOME
    assert Document(HOME, Reply()).next_place is None


def test_a_url_that_cannot_be_read_fails_where_it_is_used() -> None:
    leads_on = Document(HOME, Reply((Redirect("http://[nowhere"),)))

    assert leads_on.next_place == Place("http://[nowhere", "POST")
    answer = reply(Message("x", media_urls=("http://[nowhere",)))
    assert answer is not None
    assert answer.media_urls == ("http://[nowhere",)
