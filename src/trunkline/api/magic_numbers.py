"""Numbers that stand for a refusal, so that a program can be tried against each (Twilio
documentation, "Test Credentials", magic input).

They lie in a range that is given to nobody. They are only known where the carrier is simulated: to
another carrier a number is a number.
"""

from collections.abc import Mapping
from typing import Final

from trunkline.domain.errors import Code
from trunkline.domain.inventory import Area, NumberType

ALWAYS_OURS: Final = "+15005550006"
"""A sender that every account may use."""

SENDERS: Final[Mapping[str, Code]] = {
    "+15005550001": Code.SENDER_INVALID,
    "+15005550007": Code.SENDER_NOT_CAPABLE,
    "+15005550008": Code.SENDER_QUEUE_FULL,
}
RECIPIENTS: Final[Mapping[str, Code]] = {
    "+15005550001": Code.RECIPIENT_INVALID,
    "+15005550002": Code.RECIPIENT_UNROUTABLE,
    "+15005550003": Code.REGION_NOT_PERMITTED,
    "+15005550004": Code.OPTED_OUT,
    "+15005550009": Code.RECIPIENT_NOT_MOBILE,
}

PURCHASES: Final[Mapping[str, Code]] = {
    "+15005550000": Code.NUMBER_TAKEN,
    "+15005550001": Code.NUMBER_INVALID,
}
AREA_CODES: Final[Mapping[str, Code]] = {"533": Code.NUMBER_NONE_IN_AREA}
AREA: Final = Area("US", NumberType.LOCAL, "+150055501", "500")
"""The area code that is of no place, and stands for success."""


def refusal_of_purchase(phone_number: str | None, area_code: str | None) -> Code | None:
    """The code with which owning the number, or one in the area, is refused; None where neither is
    magic."""
    if phone_number is not None:
        return PURCHASES.get(phone_number)
    return None if area_code is None else AREA_CODES.get(area_code)


def area_of(area_code: str) -> Area | None:
    """The area of a magic area code; None where it is not magic, or stands for a refusal."""
    return AREA if area_code == AREA.code else None


def refusal_of(sender: str, recipient: str) -> Code | None:
    """The code with which a message between them is refused; None where neither is magic."""
    return SENDERS.get(sender) or RECIPIENTS.get(recipient)
