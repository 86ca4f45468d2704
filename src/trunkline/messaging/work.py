"""What dispatch works on: a message in hand, the turn it is at, and what becomes of the unsure."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from trunkline.domain.events import MessageCreated
from trunkline.domain.media import Piece
from trunkline.domain.ports import Counter
from trunkline.kernel import Deadline
from trunkline.log.clock_check import Ages
from trunkline.log.event import Event
from trunkline.log.interface import Delivery, Unreadable
from trunkline.messaging.carrier import Submission, reference_of

RETRY_LATER_MAX_S: Final = 60.0


class OnAmbiguous(StrEnum):
    """A route's policy for an attempt of which nobody knows whether it arrived."""

    HOLD = "hold"
    RESEND = "resend"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Counters:
    """What an operator watches."""

    handed_over: Counter
    refused: Counter
    returned: Counter
    ambiguous: Counter
    held: Counter


@dataclass(frozen=True, slots=True)
class Unsendable:
    """Why a message can never leave, with Twilio's code for it."""

    error_code: int
    reason: str


class Work(msgspec.Struct, frozen=True):
    """One delivery of one original, which is the true copy. `media` are what the carrier has of it
    already; with `unsendable` no attempt is made, and that is its end."""

    delivery: Delivery
    event: Event
    message: MessageCreated
    deadline: Deadline
    media: tuple[Piece, ...] = ()
    unsendable: Unsendable | None = None

    def is_past_validity(self, ages: Ages) -> bool:
        """Whether nobody wants it to be sent any more."""
        wanted_since = max(self.delivery.stored.at, self.message.send_at or 0.0)
        return ages.age_s(wanted_since) > self.message.validity_s


class Turn(msgspec.Struct, frozen=True, gc=False):
    """An attempt to be made behind a record of the chain (0: behind the original alone).
    `is_resend`: an earlier one is ambiguous."""

    attempt: int
    behind: int
    is_resend: bool


HasOptedOut = Callable[[str, str, str], bool | Unreadable]
"""Whether the handset (last) has asked the account's number (second) to stop; must not raise."""


OwnsSender = Callable[[str, str, float], bool | Unreadable]
"""Whether the number (second) is the account's, of a message that was accepted so many seconds ago;
must not raise."""


LooksAgain = Callable[[Work, float], None]
"""Have a message looked at again after so many seconds, as if it had been delivered here."""


def nobody_has(account: str, phone_number: str, handset: str) -> bool:
    """For a dispatcher without anybody to ask."""
    del account, phone_number, handset
    return False


def everybody_does(account: str, phone_number: str, age_s: float) -> bool:
    """The same, of numbers."""
    del account, phone_number, age_s
    return True


FIRST: Final = Turn(1, 0, is_resend=False)
"""What most messages need, and the only one that a batch takes."""


def submission_of(work: Work, turn: Turn) -> Submission:
    """What a carrier is handed."""
    return Submission(
        reference=reference_of(
            work.event.account, work.event.sid, turn.attempt, work.delivery.stored.shard
        ),
        sender=work.message.sender,
        recipient=work.message.recipient,
        text=work.message.text,
        media_urls=work.message.media_urls,
        media=work.media,
        is_possible_duplicate=turn.is_resend,
    )


def growing_s(base_s: float, attempt: int) -> float:
    """The wait after the n-th attempt that came to nothing: doubled each time, up to a minute."""
    return float(min(RETRY_LATER_MAX_S, base_s * 2.0 ** min(attempt - 1, 16)))
