"""How the carrier treats a message: settings for everybody, or for one recipient.

The defaults are a perfect carrier that answers at once; every fault has to be asked for.
"""

import re
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

LATENCY_MS_MAX: Final = 60_000
RECEIPT_DELAY_MS_MAX: Final = 86_400_000
RECEIPT_COPIES_MAX: Final = 10
RATE_PER_S_MAX: Final = 1_000_000


class Outcome(StrEnum):
    """What becomes of a submission. `silent` takes and delivers it but withholds the answer;
    `lose` does neither deliver nor answer."""

    ACCEPT = "accept"
    REFUSE = "refuse"
    THROTTLE = "throttle"
    SILENT = "silent"
    LOSE = "lose"


class ReceiptStatus(StrEnum):
    """What the receipt says. `none` delivers without one."""

    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    FAILED = "failed"
    NONE = "none"


class Behaviour(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False
):
    """One set of rules. `rate_per_s` is a bucket that holds one second's worth."""

    latency_ms: Annotated[float, Meta(ge=0, le=LATENCY_MS_MAX)] = 0.0
    receipt_delay_ms: Annotated[float, Meta(ge=0, le=RECEIPT_DELAY_MS_MAX)] = 0.0
    outcome: Outcome = Outcome.ACCEPT
    error_code: Annotated[int, Meta(ge=1, le=99_999)] = 30_005
    retry_after_ms: Annotated[float, Meta(ge=0, le=LATENCY_MS_MAX)] = 250.0
    receipt_status: ReceiptStatus = ReceiptStatus.DELIVERED
    receipt_error_code: Annotated[int, Meta(ge=1, le=99_999)] | None = None
    receipt_copies: Annotated[int, Meta(ge=1, le=RECEIPT_COPIES_MAX)] = 1
    receipt_before_answer: bool = False
    rate_per_s: Annotated[float, Meta(gt=0, le=RATE_PER_S_MAX)] | None = None
    loss_probability: Annotated[float, Meta(ge=0, le=1)] = 0.0
    polls_turned_away: bool = False
    """Whoever asks for receipts and texts is answered 503. Of everybody's behaviour alone."""


PERFECT: Final = Behaviour()

# Twilio documentation, "Error and Warning Dictionary": 30003 unreachable handset, 30008 unknown.
_RECEIPT_ERROR_CODES: Final = {ReceiptStatus.UNDELIVERED: 30_003, ReceiptStatus.FAILED: 30_008}

# msgspec names the field as "unknown field `x`" or as "at `$.x`".
_FIELD: Final = re.compile(r"field `([^`]+)`|at `\$\.([^`]+)`")


class BadBehaviour(Exception):
    """Not a behaviour. `field` is the one at fault, empty when it is the whole."""

    def __init__(self, reason: str, field: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field


def parse_behaviour(body: bytes) -> Behaviour:
    """Raises `BadBehaviour`, which names the field. An empty object is the perfect carrier."""
    try:
        return msgspec.json.decode(body, type=Behaviour)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        found = _FIELD.search(str(error))
        field = (found.group(1) or found.group(2)) if found else ""
        raise BadBehaviour(str(error), field) from error


def receipt_error_code(behaviour: Behaviour) -> int | None:
    """The code that goes with the receipt's status, unless the behaviour names another."""
    return behaviour.receipt_error_code or _RECEIPT_ERROR_CODES.get(behaviour.receipt_status)


class Bucket:
    """The tokens of one behaviour with a rate, as a function of time."""

    __slots__ = ("_at", "_capacity", "_rate_per_s", "_tokens")

    def __init__(self, rate_per_s: float, *, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._capacity = max(1.0, rate_per_s)
        self._tokens = self._capacity
        self._at = now

    def take(self, *, now: float) -> float:
        """0.0 when there was a token, else the seconds until there is one."""
        grown = self._tokens + (now - self._at) * self._rate_per_s
        self._tokens = min(self._capacity, grown)
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate_per_s
