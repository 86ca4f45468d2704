"""What dispatch works on: a message in hand, the turn it is at, and what becomes of the unsure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from trunkline.domain.events import MessageCreated
from trunkline.domain.media import Piece
from trunkline.domain.ports import Counter
from trunkline.kernel import Deadline
from trunkline.log.clock_check import Ages
from trunkline.log.event import Event
from trunkline.log.interface import Delivery


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


@dataclass(frozen=True, slots=True)
class Work:
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


@dataclass(frozen=True, slots=True)
class Turn:
    """An attempt to be made behind a record of the chain (0: behind the original alone).
    `is_resend`: an earlier one is ambiguous."""

    attempt: int
    behind: int
    is_resend: bool


FIRST: Final = Turn(1, 0, is_resend=False)
"""What most messages need, and the only one that a batch takes."""
