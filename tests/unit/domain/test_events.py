"""Events as data: what was written once is read for as long as the log lives."""

import msgspec
import pytest

from trunkline.domain.events import Body, Kind, MessageCreated, NumberOwned, Type, body_type


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("type_", Type)
def test_every_kind_and_type_of_event_has_a_body(kind: Kind, type_: Type) -> None:
    assert issubclass(body_type(kind, type_), Body)


def test_originals_differ_by_kind() -> None:
    assert len({body_type(kind, Type.ORIGINAL) for kind in Kind}) == len(Kind)


def test_a_body_survives_being_written() -> None:
    body = MessageCreated(
        sid="SM" + "1" * 32,
        sender="+15550001",
        recipient="+15550002",
        text="schön \N{GRINNING FACE}",
        media_urls=("https://media.example/1.jpg",),
        status_callback="https://app.example/status",
    )

    assert msgspec.json.decode(msgspec.json.encode(body), type=MessageCreated) == body


def test_what_an_older_program_left_out_reads_as_its_default() -> None:
    old = b'{"sid": "PN1", "phone_number": "+15550001", "friendly_name": "desk"}'

    number = msgspec.json.decode(old, type=NumberOwned)

    assert (number.sms_url, number.sms_method) == ("", "POST")


def test_what_a_newer_program_added_is_passed_over() -> None:
    new = b'{"sid": "PN1", "phone_number": "+15550001", "friendly_name": "desk", "colour": "red"}'

    assert msgspec.json.decode(new, type=NumberOwned).friendly_name == "desk"


def test_a_body_without_what_it_needs_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"sid": "SM1"}', type=MessageCreated)
