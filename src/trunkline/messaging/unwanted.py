"""Messages that are not to be sent any more, or never can be, and what they end with."""

from collections.abc import Callable
from typing import Final

from trunkline.log.clock_check import Ages
from trunkline.log.interface import Unreadable
from trunkline.messaging.work import HasOptedOut, OwnsSender, Work

ACCOUNT_INACTIVE: Final = 30002
VALIDITY_EXPIRED: Final = 30036
OPTED_OUT: Final = 21610
SENDER_NOT_OWNED: Final = 21659
"""Twilio's codes."""

IsActive = Callable[[str], bool | Unreadable]
"""Whether an account may send; must not raise."""


def why_unwanted(
    work: Work,
    *,
    is_active: IsActive,
    has_opted_out: HasOptedOut,
    owns_sender: OwnsSender,
    ages: Ages,
) -> tuple[int, str] | Unreadable | None:
    """The code and the reason; `None` for what may be sent."""
    message = work.message
    may_send = is_active(work.event.account)
    if isinstance(may_send, Unreadable):
        return may_send
    if not may_send:
        return ACCOUNT_INACTIVE, "its account is not active"
    if work.unsendable is not None:
        return work.unsendable.error_code, work.unsendable.reason
    if work.is_past_validity(ages):
        return VALIDITY_EXPIRED, f"its validity period of {message.validity_s} s is over"
    if message.send_at is not None:
        # It may have waited for weeks; what was to go out at once is not asked about once more.
        age_s = ages.age_s(work.delivery.stored.at)
        owns = owns_sender(work.event.account, message.sender, age_s)
        if owns is not True:
            return owns or (SENDER_NOT_OWNED, "its sender is a number of this account no more")
    if message.is_automatic:
        return None
    answer = has_opted_out(work.event.account, message.sender, message.recipient)
    if isinstance(answer, Unreadable):
        return answer
    return (OPTED_OUT, "the recipient has opted out since it was accepted") if answer else None
