"""The simulator's wire, as bytes."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.protocols import simulated as wire

SUBMISSION = wire.Submission(
    reference="MS1:1", sender="+15550001111", recipient="+15550002222", text="hello"
)


def test_submissions_come_out_as_they_went_in() -> None:
    flagged = wire.Submission(
        reference="MS2:2",
        sender="+15550001111",
        recipient="+15550002222",
        text="📨",
        media_urls=("https://example.com/a.png",),
        possible_duplicate=True,
    )

    body = wire.encode_submissions([SUBMISSION, flagged])

    assert wire.decode_submissions(body) == (SUBMISSION, flagged)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b'[{"reference":"x"}]', b"\xff", b'["\xff"]', b"[1]", b"[" * 5000],
)
def test_a_body_that_is_no_array_of_submissions_is_refused(body: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode_submissions(body)


def test_more_submissions_than_the_bound_are_refused() -> None:
    body = wire.encode_submissions([SUBMISSION] * (wire.SUBMISSIONS_MAX + 1))

    with pytest.raises(wire.WireError, match="257 submissions"):
        wire.decode_submissions(body)


ANSWERS = st.lists(
    st.one_of(
        st.builds(wire.Accepted, reference=st.text(), message_id=st.text()),
        st.builds(
            wire.Refused,
            reference=st.text(),
            error_code=st.integers(0, 99_999),
            reason=st.text(),
            returned=st.booleans(),
            retry_after_s=st.floats(0, 60),
        ),
    )
)


@given(answers=ANSWERS, cuts=st.lists(st.integers(0, 4_000)))
def test_answers_are_read_however_the_stream_is_cut(
    answers: list[wire.Answer], cuts: list[int]
) -> None:
    stream = wire.encode_answers(answers)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]

    reader = wire.AnswerReader()
    read = [
        answer for start, end in pairwise(edges) for answer in reader.receive(stream[start:end])
    ]

    assert read == answers


@given(st.binary(max_size=200))
def test_hostile_bytes_are_a_wire_error_and_nothing_else(data: bytes) -> None:
    for read in (wire.decode_submissions, wire.decode_items, wire.decode_item_ids):
        with suppress(wire.WireError):
            read(data)
    with suppress(wire.WireError):
        wire.AnswerReader().receive(data + b"\n")


def test_an_endless_line_is_refused() -> None:
    reader = wire.AnswerReader()

    with pytest.raises(wire.WireError):
        reader.receive(b"x" * (wire.ANSWER_LINE_BYTES_MAX + 1))


def test_items_come_out_as_they_went_in() -> None:
    items: list[wire.Item] = [
        wire.Receipt(
            item_id="receipt-3",
            message_id="sim-1",
            reference="MS1:1",
            status="undelivered",
            error_code=30_003,
            done_date="2611251330",
        ),
        wire.Inbound(
            item_id="inbound-4",
            message_id="handset-4",
            sender="+15550002222",
            recipient="+15550001111",
            text="hi",
        ),
    ]

    assert list(wire.decode_items(wire.encode_items(items))) == items
