"""Conversations: what applications are asked, and what their answers come to."""

import pytest
from msgspec.structs import replace

from trunkline.domain.events import MessageReceived, NumberOwned
from trunkline.domain.number import Number
from trunkline.messaging.accept import NewMessage
from trunkline.messaging.conversation import (
    Asking,
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
from trunkline.messaging.replies import Dropped, Taken
from trunkline.protocols.twiml.messaging import Message, Redirect, Reply, TwimlError
from trunkline.webhooks.client import Answered, Unreachable

SID = "MM" + "1" * 32
ACCOUNT = "AC" + "2" * 32
OURS = "+15550001"
THEIRS = "+15550002"
HOME = Place("https://app.example/in/sms?x=1", "POST")


def number(**settings: str) -> Number:
    bare = NumberOwned(sid="PN" + "3" * 32, phone_number=OURS, friendly_name="front desk")
    owned = replace(bare, **settings)
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


def reply(message: Message) -> NewMessage | TwimlError:
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
        asked,
        Asking(asked.primary),
        0,
        instead=asked.fallback,
        because=TwimlError(11205, "refused"),
    )

    assert (request.url, request.method) == ("https://spare.example/sms", "GET")
    assert dict(request.params)["ErrorCode"] == "11205"
    assert dict(request.params)["ErrorUrl"] == HOME.url
    assert request.token != request_for(asked, Asking(asked.primary), 0).token


def test_the_same_document_is_asked_for_with_the_same_token() -> None:
    first, again = (request_for(conversation(), Asking(HOME), 0) for _ in range(2))

    assert first == again
    assert first.token != request_for(conversation(), Asking(HOME), 1).token


def test_an_answer_is_a_reply_or_an_error_with_its_code() -> None:
    assert read(Answered(204, "", b"")) == Reply()
    assert read(Answered(200, "text/plain", b"ok")) == Reply((Message("ok"),))
    for answer, code in (
        (Answered(500, "text/xml", b"<Response/>"), 11200),
        (Answered(200, "text/xml", b"<Response>"), 12100),
        (Answered(200, "text/xml", b"", is_chunked=True), 11770),
        (Answered(200, "text/xml", b"<Sms/>"), 12102),
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


def test_an_action_is_told_every_status_too_where_nobody_else_is() -> None:
    alone = reply(Message("x", action="/done"))
    beside = reply(Message("x", action="/done", status_callback="/status"))

    assert isinstance(alone, NewMessage)
    assert alone.status_callback == "https://app.example/done"
    assert isinstance(beside, NewMessage)
    assert beside.status_callback == "https://app.example/status"


def test_an_action_is_told_what_came_of_its_message() -> None:
    document = Document(HOME, Reply())
    message = Message("x", action="done?y=1", method="GET")

    for came, said in (
        (Taken("SM9"), ("SM9", "sending", None)),
        (TwimlError(14101, "no number"), ("", "invalid", "14101")),
        (Dropped(21610), ("", "failed", "21610")),
    ):
        asking = document.action_of(message, came)
        assert asking is not None
        request = request_for(conversation(), asking, 1)
        params = dict(request.params)
        assert (request.url, request.method) == ("https://app.example/in/done?y=1", "GET")
        assert (params["MessageSid"], params["MessageStatus"], params.get("ErrorCode")) == said
        assert params["SmsSid"] == params["SmsMessageSid"] == params["MessageSid"]
        assert (params["SmsStatus"], params["From"]) == (params["MessageStatus"], THEIRS)
        assert len(params) == len(request.params)


def test_an_action_that_is_the_status_callback_leads_nowhere() -> None:
    document = Document(HOME, Reply())

    assert document.action_of(Message("x"), Taken("SM9")) is None
    both = Message("x", action="/status", status_callback="/status")
    assert document.action_of(both, Taken("SM9")) is None


def test_a_reply_that_cannot_be_sent_is_named_with_its_code() -> None:
    for message, code in (
        (Message("x", recipient="front desk"), 14101),
        (Message("x", sender="+15550777"), 14102),
        (Message("x" * 1601), 14103),
        (Message(""), 14103),
    ):
        answer = prepared(message)
        assert isinstance(answer.reply, TwimlError)
        assert answer.reply.code == code
        assert answer.warnings == ()


@pytest.mark.parametrize("url", ["mailto:me@app.example", "http://[nowhere", "http://"])
def test_a_reply_whose_callback_cannot_be_used_is_sent_without_it(url: str) -> None:
    answer = prepared(Message("x", status_callback=url))

    assert isinstance(answer.reply, NewMessage)
    assert (answer.reply.text, answer.reply.status_callback) == ("x", None)
    assert [error.code for error in answer.warnings] == [14105]


def test_a_document_may_lead_to_another() -> None:
    document = Document(HOME, Reply())

    assert document.behind(Redirect("next", "GET")) == Asking(
        Place("https://app.example/in/next", "GET")
    )
    assert document.behind(Redirect("")) == Asking(HOME)


def test_a_url_that_cannot_be_read_fails_where_it_is_used() -> None:
    leads_on = Document(HOME, Reply()).behind(Redirect("http://[nowhere"))

    assert leads_on.place == Place("http://[nowhere", "POST")
    answer = reply(Message("x", media_urls=("http://[nowhere",)))
    assert isinstance(answer, NewMessage)
    assert answer.media_urls == ("http://[nowhere",)
