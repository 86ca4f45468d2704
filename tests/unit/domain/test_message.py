"""The fold: one record from a message's events, whoever saw them, in whatever order, how often."""

import itertools
from functools import reduce
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.domain.events import (
    Ambiguous,
    Body,
    Canceled,
    Claimed,
    Deleted,
    HandedOver,
    KeyConflict,
    MediaKept,
    MediaRemoved,
    MessageCreated,
    MessageReceived,
    Receipt,
    Redacted,
    Refused,
    Returned,
    Told,
    Tombstone,
    Type,
)
from trunkline.domain.media import Piece, media_sid
from trunkline.domain.message import Link, Message, fold, link_of, merge
from trunkline.domain.optout import Keyword
from trunkline.domain.status import FINAL, Status, rank

SID = "SM" + "1" * 32
ACCOUNT = "AC" + "2" * 32


class Happened(NamedTuple):
    """One event, as the fold is given it."""

    body: Body
    at: float
    event_id: str
    position: int = 0
    link: Link | None = None


def folded(*history: Happened) -> Message:
    return reduce(_with, history, Message(account=ACCOUNT))


def _with(message: Message, event: Happened) -> Message:
    return fold(
        message,
        event.body,
        at=event.at,
        event_id=event.event_id,
        position=event.position,
        link=event.link,
    )


def _in_chain(body: Body, at: float, number: int) -> Happened:
    """An event that may stand in a chain, of which there should be one and may be two."""
    event_id = f"event-{number}"
    link = link_of(event_id, Type.CLAIM, body, shard=number % 2, sequence=10 + number // 2)
    return Happened(body, at, event_id, link=link)


def created(text: str = "hello") -> MessageCreated:
    return MessageCreated(sid=SID, sender="+15550001", recipient="+15550002", text=text)


def scheduled(send_at: float) -> MessageCreated:
    return msgspec.structs.replace(created(), send_at=send_at)


def receipt(status: str, error_code: int | None = None) -> Receipt:
    return Receipt(
        status=status, carrier="acme", carrier_message_id="acme-1", error_code=error_code
    )


def kept(count: int, digit: str = "1") -> MediaKept:
    """`count` pieces, as some host fetched them."""
    pieces = [
        Piece(
            sid=media_sid("original", index),
            index=index,
            sha256=digit * 64,
            content_type="image/png",
            size_bytes=7,
        )
        for index in range(count)
    ]
    return MediaKept(pieces=tuple(pieces))


# One original in each of three shards, as a diverted create may leave them: the register of a
# position holds one original, so what differs between copies goes with the position.
ORIGINALS = [
    Happened(created(f"copy {position}"), 100.0 + 7.0 * position, f"original-{position}", position)
    for position in range(3)
]

_ATTEMPTS = st.integers(1, 3)
_LATER: st.SearchStrategy[Body] = st.one_of(
    st.builds(
        Claimed, attempt=_ATTEMPTS, nonce=st.just("n"), lease=st.just("l"), carrier=st.just("acme")
    ),
    st.builds(
        HandedOver,
        attempt=_ATTEMPTS,
        carrier=st.just("acme"),
        carrier_message_id=st.sampled_from(["acme-1", "acme-2"]),
    ),
    st.builds(Refused, attempt=_ATTEMPTS, error_code=st.sampled_from([30003, 30008])),
    st.builds(Returned, attempt=_ATTEMPTS),
    st.builds(Ambiguous, attempt=_ATTEMPTS, is_held=st.booleans()),
    st.builds(
        receipt,
        st.sampled_from(["sent", "delivered", "undelivered", "failed"]),
        st.sampled_from([None, 30003, 30005]),
    ),
    st.builds(Told, status=st.sampled_from(["sending", "sent", "delivered"]), attempts=st.just(1)),
    st.builds(Tombstone, for_shard=st.just(3)),
    st.builds(Canceled),
    st.builds(Redacted),
    st.builds(Deleted),
    st.builds(
        KeyConflict,
        kept=st.just("f1"),
        dropped=st.sampled_from(["f2", "f3"]),
        dropped_in_shard=st.just(3),
    ),
    st.builds(kept, st.integers(1, 3), st.sampled_from(["1", "2"])),
    st.builds(MediaRemoved, media=st.sampled_from([(), ("ME1",), (media_sid("original", 0),)])),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Happened]:
    """Events of one message. Hosts' clocks differ, so times may tie and contradict the order."""
    bodies = draw(st.lists(_LATER, max_size=8))
    times = draw(st.lists(st.integers(90, 120), min_size=len(bodies), max_size=len(bodies)))
    later = [
        _in_chain(body, float(at), number)
        for number, (body, at) in enumerate(zip(bodies, times, strict=True))
    ]
    return [*draw(st.lists(st.sampled_from(ORIGINALS), unique=True)), *later]


@st.composite
def histories_seen_twice(draw: st.DrawFn) -> tuple[list[Happened], list[Happened]]:
    """One history as two hosts may see it: in other orders, each event once or more."""
    history = draw(histories())
    repeats = draw(st.lists(st.sampled_from(history), max_size=6)) if history else []
    return history, draw(st.permutations([*history, *repeats]))


@given(histories_seen_twice())
def test_hosts_that_saw_events_in_any_order_and_any_number_of_times_agree(
    seen: tuple[list[Happened], list[Happened]],
) -> None:
    one, other = seen

    assert folded(*one) == folded(*other)


def test_a_copy_of_a_time_before_done_dates_does_not_take_one_away() -> None:
    dated = msgspec.structs.replace(receipt("delivered"), done_date="2611251330")
    ours = folded(ORIGINALS[0], Happened(dated, 104.0, "receipt"))
    theirs = folded(ORIGINALS[0], Happened(receipt("delivered"), 104.0, "receipt"))

    assert merge(ours, theirs) == merge(theirs, ours) == ours


@given(histories_seen_twice(), st.integers(0, 20))
def test_copies_that_saw_parts_of_a_history_merge_into_the_whole(
    seen: tuple[list[Happened], list[Happened]], cut: int
) -> None:
    history, other = seen
    one, two = folded(*other[:cut]), folded(*other[cut // 2 :])

    assert merge(one, two) == merge(two, one) == folded(*history)


@given(histories(), st.sampled_from([Redacted(), Deleted()]), st.integers(0, 20))
def test_what_is_erased_is_in_no_record_that_is_joined_with_it_later(
    history: list[Happened], wish: Body, cut: int
) -> None:
    erased = folded(*history[:cut], Happened(wish, 110.0, "wish"))
    whole = [*history, *ORIGINALS]

    for message in (
        reduce(_with, whole, erased),
        merge(erased, folded(*whole)),
        merge(folded(*whole), erased),
    ):
        assert message.original is not None
        assert message.original.text == ""
        assert message.is_deleted >= isinstance(wish, Deleted)


@given(histories())
def test_a_status_never_goes_back_and_a_final_one_stays_final(history: list[Happened]) -> None:
    message = Message(account=ACCOUNT)
    for event in history:
        earlier, message = message, _with(message, event)

        if earlier.status in FINAL:
            assert message.status in FINAL
        else:
            assert message.status in FINAL or rank(message.status) >= rank(earlier.status)
        assert message.told >= earlier.told
        assert message.ambiguous >= earlier.ambiguous
        assert message.attempts >= earlier.attempts


def test_an_accepted_message_is_queued() -> None:
    message = folded(ORIGINALS[0])

    assert (message.sid, message.status, message.is_known) == (SID, Status.QUEUED, True)
    assert (message.created_at, message.updated_at, message.sent_at) == (100.0, 100.0, None)


def test_a_message_for_later_is_scheduled_until_it_is_claimed() -> None:
    later = Happened(scheduled(send_at=200.0), 100.0, "a")
    claim = Happened(Claimed(attempt=1, nonce="n", lease="l", carrier="acme"), 201.0, "b")

    assert folded(later).status is Status.SCHEDULED
    assert folded(later, claim).status is Status.SENDING
    assert folded(claim, later) == folded(later, claim)


def test_a_message_for_later_may_end_without_ever_being_sent() -> None:
    later = Happened(scheduled(send_at=200.0), 100.0, "a")
    refusal = Happened(Refused(attempt=0, error_code=30036), 150.0, "b")

    assert folded(later, refusal).status is Status.FAILED
    assert folded(refusal, later) == folded(later, refusal)


def test_a_message_whose_time_was_past_when_it_was_accepted_is_queued() -> None:
    assert folded(Happened(scheduled(send_at=99.0), 100.0, "a")).status is Status.QUEUED


def test_a_message_goes_through_its_life() -> None:
    claim = Claimed(attempt=1, nonce="n", lease="l", carrier="acme")
    outcome = HandedOver(attempt=1, carrier="acme", carrier_message_id="acme-1")
    life = [
        ORIGINALS[0],
        Happened(claim, 101.0, "b"),
        Happened(outcome, 102.0, "c"),
        Happened(receipt("delivered"), 103.0, "d"),
    ]

    statuses = [folded(*life[: count + 1]).status for count in range(len(life))]

    assert statuses == [Status.QUEUED, Status.SENDING, Status.SENT, Status.DELIVERED]
    message = folded(*life)
    assert (message.sent_at, message.updated_at) == (102.0, 103.0)
    assert (message.carrier, message.carrier_message_id) == ("acme", "acme-1")


def test_the_copy_earliest_in_the_order_is_the_one_that_is_kept() -> None:
    message = folded(ORIGINALS[2], ORIGINALS[0], ORIGINALS[1])

    assert message.original == created("copy 0")
    assert (message.position, message.created_at) == (0, 100.0)


def test_the_earliest_of_two_endings_wins() -> None:
    message = folded(
        ORIGINALS[0],
        Happened(receipt("undelivered", 30003), 105.0, "late"),
        Happened(receipt("delivered"), 104.0, "early"),
    )

    assert message.status is Status.DELIVERED


def test_a_receipt_may_overtake_the_answer_it_belongs_to() -> None:
    outcome = HandedOver(attempt=1, carrier="acme", carrier_message_id="acme-1")

    message = folded(
        Happened(receipt("delivered"), 104.0, "receipt"),
        ORIGINALS[0],
        Happened(outcome, 105.0, "outcome"),
    )

    assert (message.status, message.sent_at) == (Status.DELIVERED, 105.0)


def test_a_carrier_that_reports_a_failure_had_taken_the_message() -> None:
    message = folded(ORIGINALS[0], Happened(receipt("failed", 30008), 104.0, "receipt"))

    assert (message.status, message.open_status) == (Status.FAILED, Status.SENT)
    assert message.sent_at is None  # when it took it is not known


def test_a_key_conflict_is_shown_once_however_often_it_was_noted() -> None:
    conflict = KeyConflict(kept="f1", dropped="f2", dropped_in_shard=3)

    message = folded(Happened(conflict, 101.0, "a"), ORIGINALS[0], Happened(conflict, 102.0, "b"))

    assert (message.key_conflicts, message.status) == (frozenset({"f2"}), Status.QUEUED)


def test_later_events_without_an_original_are_kept_and_not_shown() -> None:
    message = folded(Happened(receipt("delivered"), 104.0, "receipt"))

    assert not message.is_known


def test_an_inbound_message_is_received() -> None:
    body = MessageReceived(sid=SID, sender="+15550002", recipient="+15550001", text="hi")

    message = folded(Happened(body, 100.0, "a"))

    assert (message.status, message.is_known, message.sid) == (Status.RECEIVED, True, SID)


def test_a_status_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="vanished"):
        folded(Happened(receipt("vanished"), 100.0, "a"))


def test_media_are_counted_as_accepted_until_they_are_kept_and_then_without_the_removed() -> None:
    urls = ("https://media.example/1.png", "https://media.example/2.png")
    original = Happened(msgspec.structs.replace(created(), media_urls=urls), 100.0, "original")
    stored = Happened(kept(2), 101.0, "kept")
    removed = Happened(MediaRemoved(media=(media_sid("original", 0),)), 102.0, "removed")

    assert folded(original).media_count == 2
    assert [piece.index for piece in folded(original, stored).pieces] == [0, 1]
    assert folded(removed, stored, original).media_count == 1
    assert [piece.index for piece in folded(stored, original, removed).pieces] == [1]


def test_of_two_hosts_that_kept_the_media_the_earlier_counts_whole() -> None:
    first, second = Happened(kept(2, "1"), 101.0, "b"), Happened(kept(2, "2"), 102.0, "a")

    assert {piece.sha256 for piece in folded(second, first).pieces} == {"1" * 64}
    assert folded(second, first).media == folded(first, second).media


def test_a_canceled_message_has_ended_without_an_error() -> None:
    message = folded(
        Happened(scheduled(1000.0), 100.0, "a"), _in_chain(Canceled(), at=200.0, number=1)
    )

    assert message.status is Status.CANCELED
    assert message.ending is not None
    assert message.ending.error_code is None
    assert message.link is not None


@pytest.mark.parametrize("erased", [Redacted(), Deleted()], ids=["redacted", "deleted"])
@pytest.mark.parametrize("is_last", [True, False])
def test_what_was_erased_is_gone_whichever_event_comes_last(erased: Body, is_last: bool) -> None:
    original = msgspec.structs.replace(created("secret"), media_urls=("https://example.org/a",))
    history = [Happened(original, 100.0, "a"), Happened(erased, 200.0, "b")]

    message = folded(*(history if is_last else reversed(history)))

    assert b"secret" not in msgspec.msgpack.encode(message)
    assert (b"example.org" in msgspec.msgpack.encode(message)) == isinstance(erased, Redacted)
    assert message.original is not None
    assert message.original.recipient == original.recipient


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_a_deleted_message_has_no_media_and_a_redacted_one_keeps_its_own(
    order: tuple[int, ...],
) -> None:
    original = msgspec.structs.replace(created(), media_urls=("https://example.org/a",))
    for erased, count in ((Redacted(), 1), (Deleted(), 0)):
        history = [
            Happened(original, 100.0, "original"),
            Happened(kept(1), 101.0, "b"),
            Happened(erased, 200.0, "c"),
        ]

        message = folded(*(history[index] for index in order))

        assert len(message.pieces) == count
        assert (message.media is None) == (count == 0)
        joined = merge(folded(*history[:2]), folded(history[2]))
        assert len(joined.pieces) == count


@pytest.mark.parametrize("erased", [Redacted(), Deleted()], ids=["redacted", "deleted"])
def test_what_was_asked_for_in_a_word_is_known_also_when_the_word_is_erased(erased: Body) -> None:
    said = MessageReceived(sid=SID, sender="+15550002", recipient="+15550001", text=" Stop ")
    history = [Happened(said, 100.0, "a"), Happened(erased, 200.0, "b")]

    ours, theirs = folded(*history), folded(*reversed(history))

    assert ours == theirs
    assert ours.erased_keyword is Keyword.STOP
    assert merge(folded(history[0]), folded(history[1])) == ours
    assert ours.received is not None
    assert ours.received.text == ""


def test_a_copy_that_did_not_hear_of_it_brings_nothing_back() -> None:
    original = Happened(created("secret"), 100.0, "a")
    ours = folded(original, Happened(Deleted(), 200.0, "b"))

    for merged in (merge(ours, folded(original)), merge(folded(original), ours)):
        assert merged == ours
        assert merged.is_deleted


def test_the_text_of_an_inbound_message_can_be_erased() -> None:
    received = MessageReceived(sid=SID, sender="+15550002", recipient="+15550001", text="secret")

    message = folded(Happened(received, 100.0, "a"), Happened(Redacted(), 200.0, "b"))

    assert message.received is not None
    assert (message.received.text, message.status) == ("", Status.RECEIVED)
