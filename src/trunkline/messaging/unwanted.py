"""Messages that are not to be sent any more, and what they end with."""

from collections.abc import Callable
from typing import Final, TypeAlias

from trunkline.log.clock_check import Ages
from trunkline.messaging.work import Work

ACCOUNT_INACTIVE: Final = 30002
VALIDITY_EXPIRED: Final = 30036
"""Twilio's codes."""

IsActive: TypeAlias = Callable[[str], bool]
"""Whether an account may send."""


def why_unwanted(work: Work, *, is_active: IsActive, ages: Ages) -> tuple[int, str] | None:
    """A code and a reason; `None` for what may be sent."""
    if not is_active(work.event.account):
        return ACCOUNT_INACTIVE, "its account is not active"
    wanted_since = max(work.delivery.stored.at, work.message.send_at or 0.0)
    if ages.age_s(wanted_since) > work.message.validity_s:
        return VALIDITY_EXPIRED, f"its validity period of {work.message.validity_s} s is over"
    return None
