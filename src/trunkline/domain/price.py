"""What a message costs: quoted before it is sent, owed once it has left.

The quote stands in the message's original, so that it is written down before anything is done and
no later setting changes it. Whether it is owed is a function of the folded message: one message is
one charge, however often its events are folded and however many attempts it took. Amounts are whole
millionths of the currency, because fractions of a binary float do not add up.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

from trunkline.domain.message import Message
from trunkline.domain.status import Status

CURRENCY: Final = "USD"
MICROS: Final = 1_000_000
DAY_S: Final = 86_400


class Category(StrEnum):
    """What usage is counted under; every charge belongs to exactly one."""

    SMS_OUTBOUND = "sms-outbound"
    SMS_INBOUND = "sms-inbound"
    MMS_OUTBOUND = "mms-outbound"
    MMS_INBOUND = "mms-inbound"


@dataclass(frozen=True, slots=True)
class Prices:
    """The rate table, in millionths: a text costs by the segment, a message with media as a whole.

    The defaults are of the size that such messages cost in the United States.
    """

    sms_outbound: int = 7_900
    sms_inbound: int = 7_900
    mms_outbound: int = 20_000
    mms_inbound: int = 10_000

    def outbound(self, *, segments: int, has_media: bool) -> int:
        """The quote for a message to a handset."""
        return self.mms_outbound if has_media else self.sms_outbound * segments

    def inbound(self, *, segments: int, has_media: bool) -> int:
        """The quote for a message from a handset."""
        return self.mms_inbound if has_media else self.sms_inbound * segments


DEFAULT_PRICES: Final = Prices()


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What a message owes. `day` counts from the epoch, in UTC; `micros` is 0 for a message of a time
    before prices."""

    category: Category
    day: int
    segments: int
    micros: int


def charge_of(message: Message) -> Charge | None:
    """What `message` owes as far as it is known; None for one that has not left, or has failed.

    An ambiguous attempt owes nothing until a carrier's answer or receipt says that it arrived.
    """
    if message.received is not None:
        received = message.received
        inbound = Category.MMS_INBOUND if received.media_urls else Category.SMS_INBOUND
        day, quote = int(message.created_at // DAY_S), received.price_micros or 0
        return Charge(inbound, day, received.num_segments, quote)
    original, at = message.original, _left_at(message)
    if original is None or at is None:
        return None
    outbound = Category.MMS_OUTBOUND if original.media_urls else Category.SMS_OUTBOUND
    quote = original.price_micros or 0
    return Charge(outbound, int(at // DAY_S), original.num_segments, quote)


def _left_at(message: Message) -> float | None:
    """When the carrier took it. One that has failed was never taken, whatever else is said of it."""
    if message.open_status is not Status.SENT or message.status is Status.FAILED:
        return None
    if message.sent_at is not None:
        return message.sent_at
    # Its receipt came before the carrier's answer was written down.
    return message.ending.at if message.ending is not None else message.updated_at


def price_of(message: Message) -> str | None:
    """The price as clients know it, a debit: `-0.00790`; None where nothing is owed or was quoted."""
    content = message.original or message.received
    charge = charge_of(message)
    if content is None or content.price_micros is None or charge is None:
        return None
    return written(-charge.micros, places=5)


def written(micros: int, *, places: int) -> str:
    """An amount with so many decimal places at least, and no more than it needs beyond them."""
    exact = f"{Decimal(micros) / MICROS:.6f}"
    whole, _, fraction = exact.partition(".")
    return f"{whole}.{fraction[:places]}{fraction[places:].rstrip('0')}"


def micros_of(amount: str) -> int:
    """`0.0079` as 7900. Raises `ValueError` for what is no amount of whole millionths."""
    try:
        micros = Decimal(amount) * MICROS
        whole = int(micros)
    except (ArithmeticError, ValueError) as error:
        raise ValueError(amount) from error
    if whole != micros:
        raise ValueError(amount)
    return whole
