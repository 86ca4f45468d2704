"""Messaging TwiML: the answers applications give, good and hostile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.twiml.messaging_response import MessagingResponse

from trunkline.protocols.twiml.messaging import (
    WARNINGS_MAX,
    Message,
    Redirect,
    Reply,
    TwimlError,
    parse,
)

XML = "text/xml"


def codes(answer: Reply | TwimlError) -> list[int]:
    assert isinstance(answer, Reply)
    return [warning.code for warning in answer.warnings]


def test_what_the_official_library_writes_is_what_we_read() -> None:
    response = MessagingResponse()
    response.message("Grüße <&> 😀")
    picture = response.message(
        to="+15550001", from_="+15550002", action="/act", method="GET", status_callback="/status"
    )
    picture.body("Look")
    picture.media("https://a.example/1.jpg")
    picture.media("/2.jpg")
    response.redirect("next?x=1&y=2", method="GET")

    answer = parse(str(response).encode(), "application/xml; charset=utf-8")

    assert answer == Reply(
        (
            Message("Grüße <&> 😀"),
            Message(
                "Look",
                ("https://a.example/1.jpg", "/2.jpg"),
                recipient="+15550001",
                sender="+15550002",
                action="/act",
                method="GET",
                status_callback="/status",
            ),
            Redirect("next?x=1&y=2", "GET"),
        )
    )


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        (b"", ""),
        (b"  \n", "application/octet-stream"),
        (b"<Response/>", "text/html"),
        (b"<?xml version='1.0'?>\n<Response>\n  <!-- quiet -->\n</Response>", XML),
    ],
)
def test_an_answer_with_nothing_in_it_is_no_reply_and_no_error(
    document: bytes, content_type: str
) -> None:
    assert parse(document, content_type) == Reply()


def test_plain_text_is_the_body_of_one_message() -> None:
    assert parse("Grüße\n".encode(), "text/plain; charset=UTF-8") == Reply((Message("Grüße"),))
    assert parse("Grüße".encode("latin-1"), "Text/Plain;charset=iso-8859-1") == Reply(
        (Message("Grüße"),)
    )


def test_the_header_decides_the_encoding_of_a_document_and_then_the_document_itself() -> None:
    document = (
        "<?xml version='1.0' encoding='iso-8859-1'?><Response><Message>ü</Message></Response>"
    )

    assert parse(document.encode("utf-8"), "text/xml; charset=utf-8") == Reply((Message("ü"),))
    assert parse(document.encode("latin-1"), "text/xml") == Reply((Message("ü"),))


def test_a_blank_line_before_the_declaration_is_forgiven() -> None:
    document = b"\n<?xml version='1.0'?><Response><Message>hi</Message></Response>"

    assert parse(document, XML) == Reply((Message("hi"),))
    assert parse(document, "text/xml; charset=utf-8") == Reply((Message("hi"),))


def test_nothing_behind_a_redirect_is_reached() -> None:
    answer = parse(b"<Response><Redirect>/a</Redirect><Message>never</Message></Response>", XML)

    assert answer == Reply((Redirect("/a"),))


@pytest.mark.parametrize(
    ("document", "content_type", "code"),
    [
        (b"<Response><Message>hi</Response>", XML, 12100),
        (b"<Answer/>", XML, 12102),
        (b"no markup at all", XML, 12100),
        (b"<Response>" + b"<a>" * 20 + b"</a>" * 20 + b"</Response>", XML, 12100),
        (b"\xff\xfe<Response/>", "text/xml; charset=utf-8", 12100),
        (b'{"reply": "hi"}', "application/json", 12300),
        (b"<Response/>", "", 12300),
        (b"<Response>" + b" " * 65_536 + b"</Response>", XML, 11750),
    ],
)
def test_what_cannot_be_read_is_named_with_its_code(
    document: bytes, content_type: str, code: int
) -> None:
    answer = parse(document, content_type)

    assert isinstance(answer, TwimlError)
    assert answer.code == code


@pytest.mark.parametrize(
    "declaration",
    [
        b'<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        b'<!DOCTYPE r [<!ENTITY b SYSTEM "file:///etc/hostname">]>',
        b'<!DOCTYPE r SYSTEM "http://127.0.0.1:1/evil.dtd">',
    ],
)
def test_entities_and_document_types_are_refused(declaration: bytes) -> None:
    answer = parse(declaration + b"<Response><Message>&b;</Message></Response>", XML)

    assert isinstance(answer, TwimlError)
    assert answer.code == 12100


def test_what_is_partly_right_is_read_as_far_as_it_goes() -> None:
    answer = parse(
        b"<Response version='2'>words<Say>hello</Say><Message lang='en'>one<Emoji/></Message>"
        b"<Message/><Message method='PUT'>two</Message></Response>",
        XML,
    )

    assert isinstance(answer, Reply)
    assert [message.text for message in answer.instructions if isinstance(message, Message)] == [
        "one",
        "",
        "two",
    ]
    assert codes(answer) == [12200, 12200, 12200, 12200, 12200, 14104]


def test_several_bodies_are_one_text() -> None:
    answer = parse(
        b"<Response><Message><Body>one </Body><Body>two</Body></Message></Response>", XML
    )

    assert answer == Reply((Message("one two"),))


def test_a_document_of_nothing_but_faults_is_not_told_at_length() -> None:
    answer = parse(b"<Response>" + b"<a/>" * 1000 + b"</Response>", XML)

    assert isinstance(answer, Reply)
    assert len(answer.warnings) == WARNINGS_MAX


def test_media_behind_the_tenth_are_left_out() -> None:
    media = b"".join(b"<Media>/%d.png</Media>" % number for number in range(12))

    answer = parse(b"<Response><Message>" + media + b"</Message></Response>", XML)

    assert isinstance(answer, Reply)
    message = answer.instructions[0]
    assert isinstance(message, Message)
    assert len(message.media_urls) == 10
    assert codes(answer) == [12200]


@given(st.binary(max_size=300), st.text(max_size=60))
def test_no_bytes_whatever_make_the_parser_raise(document: bytes, content_type: str) -> None:
    for kind in (XML, "text/plain", content_type):
        assert isinstance(parse(document, kind), Reply | TwimlError)
