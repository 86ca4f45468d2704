"""What a message owes: when, how much, and once."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from trunkline.domain.events import (
    Ambiguous,
    Body,
    Canceled,
    Claimed,
    Deleted,
    HandedOver,
    MessageCreated,
    MessageReceived,
    Receipt,
    Redacted,
    Refused,
)
from trunkline.domain.message import Message, fold, merge
from trunkline.domain.price import (
    DAY_S,
    Category,
    Charge,
    Prices,
    charge_of,
    micros_of,
    price_of,
    written,
)

SID = "SM" + "1" * 32
DAY = 20_000
CREATED = MessageCreated(
    sid=SID, sender="+1555", recipient="+1777", text="hi", num_segments=3, price_micros=23_700
)
CLAIMED = Claimed(attempt=1, nonce="n", lease="l", carrier="c")
HANDED_OVER = HandedOver(attempt=1, carrier="c", carrier_message_id="1")
AMBIGUOUS = Ambiguous(attempt=1)
REFUSED = Refused(attempt=1, error_code=30_005)


def test_a_copy_that_was_folded_before_there_were_prices_learns_them_from_another() -> None:
    priced = folded(CREATED, HANDED_OVER)
    unpriced = folded(replace(CREATED, price_micros=None), HANDED_OVER)

    assert merge(unpriced, priced) == merge(priced, unpriced) == priced


def receipt(status: str) -> Receipt:
    return Receipt(status=status, carrier="c", carrier_message_id="1")


def folded(*bodies: Body) -> Message:
    message = Message(account="AC")
    for number, body in enumerate(bodies):
        at = DAY * DAY_S + number
        message = fold(message, body, at=at, event_id=str(number), position=0)
    return message


OWED = Charge(Category.SMS_OUTBOUND, DAY, 3, 23_700)


@pytest.mark.parametrize(
    ("bodies", "owed"),
    [
        ((CREATED,), None),
        ((CREATED, CLAIMED), None),
        ((CREATED, CLAIMED, AMBIGUOUS), None),
        ((CREATED, CLAIMED, REFUSED), None),
        ((CREATED, CLAIMED, HANDED_OVER), OWED),
        ((CREATED, CLAIMED, HANDED_OVER, receipt("delivered")), OWED),
        ((CREATED, CLAIMED, HANDED_OVER, receipt("undelivered")), OWED),
        ((CREATED, CLAIMED, HANDED_OVER, receipt("failed")), None),
        ((CREATED, CLAIMED, AMBIGUOUS, receipt("delivered")), OWED),
        ((CREATED, CLAIMED, AMBIGUOUS, HANDED_OVER, HANDED_OVER), OWED),
        ((CREATED, Canceled()), None),
        ((CREATED, CLAIMED, HANDED_OVER, receipt("delivered"), Redacted()), OWED),
        ((CREATED, CLAIMED, HANDED_OVER, receipt("delivered"), Deleted()), OWED),
    ],
)
def test_what_has_left_is_owed_and_nothing_else(
    bodies: tuple[Body, ...], owed: Charge | None
) -> None:
    assert charge_of(folded(*bodies)) == owed


@given(st.permutations(range(5)), st.lists(st.integers(0, 4)))
def test_a_history_owes_the_same_in_any_order_and_however_often_it_is_folded(
    order: list[int], repeats: list[int]
) -> None:
    history = (CREATED, CLAIMED, AMBIGUOUS, HANDED_OVER, receipt("delivered"))
    message = Message(account="AC")
    for number in itertools.chain(order, repeats):
        at = DAY * DAY_S + number
        message = fold(message, history[number], at=at, event_id=str(number), position=0)

    assert charge_of(message) == OWED


def test_a_received_message_is_owed_at_once() -> None:
    body = MessageReceived(
        sid=SID,
        sender="+1777",
        recipient="+1555",
        text="hi",
        media_urls=("u",),
        price_micros=10_000,
    )

    assert charge_of(folded(body)) == Charge(Category.MMS_INBOUND, DAY, 1, 10_000)
    assert price_of(folded(body)) == "-0.01000"
    for erased in (Redacted(), Deleted()):
        assert charge_of(folded(body, erased)) == charge_of(folded(erased, body))
        assert charge_of(folded(body, erased)) == charge_of(folded(body))


def test_the_price_is_shown_as_a_debit_once_it_is_owed() -> None:
    assert price_of(folded(CREATED)) is None
    assert price_of(folded(CREATED, CLAIMED, HANDED_OVER)) == "-0.02370"


def test_a_message_from_before_prices_counts_and_costs_nothing() -> None:
    old = MessageCreated(sid=SID, sender="+1555", recipient="+1777", text="hi")

    assert charge_of(folded(old, HANDED_OVER)) == Charge(Category.SMS_OUTBOUND, DAY, 1, 0)
    assert price_of(folded(old, HANDED_OVER)) is None


def test_a_text_is_quoted_by_the_segment_and_media_as_a_whole() -> None:
    prices = Prices()

    assert prices.outbound(segments=3, has_media=False) == 23_700
    assert prices.outbound(segments=3, has_media=True) == 20_000


@pytest.mark.parametrize(
    ("micros", "places", "text"),
    [(-7_900, 5, "-0.00790"), (0, 2, "0.00"), (12_345_678, 2, "12.345678"), (-1, 5, "-0.000001")],
)
def test_an_amount_is_written_exactly(micros: int, places: int, text: str) -> None:
    assert written(micros, places=places) == text
    assert micros_of(text) == micros


@pytest.mark.parametrize("text", ["free", "1,5", "0.0000001", "NaN", "Infinity"])
def test_what_is_no_amount_of_whole_millionths_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        micros_of(text)
