"""What the witnesses write down, one record a line, and the history that they add up to.

Times are seconds of this machine's monotonic clock unless a field says otherwise. Every message that
a drill sends has a text of its own, so the text names the message wherever it is seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """What one request to create a message came to, for the one who sent it."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """Surely not accepted: the answer said so, or no connection came about."""
    UNKNOWN = "unknown"


class Create(msgspec.Struct, frozen=True, omit_defaults=True, tag="create"):
    """One request to create a message. Repeats under one key are records of their own.

    `due` is when the load wanted it sent for the first time; `http` is 0 where no answer came.
    """

    due: float
    at: float
    until: float
    text: str
    recipient: str
    host: str
    outcome: Outcome
    key: str = ""
    http: int = 0
    sid: str = ""


class Read(msgspec.Struct, frozen=True, omit_defaults=True, tag="read"):
    """One answered request for a message by its SID."""

    at: float
    until: float
    host: str
    sid: str
    http: int
    status: str = ""
    error_code: int = 0
    ambiguous: int = 0
    """Attempts of which the host says that nobody knows whether the carrier took them."""


class Submission(msgspec.Struct, frozen=True, omit_defaults=True, tag="submission"):
    """What the carrier was given once. `at` is the wall clock of the carrier's own file."""

    n: int
    at: float
    text: str
    recipient: str
    outcome: str
    reference: str = ""
    bind: str = ""
    is_marked_repeat: bool = False

    @property
    def is_taken(self) -> bool:
        """Whether it may have had an effect; the others were surely turned away."""
        return self.outcome not in {"refuse", "throttle"}


class TurnedAway(msgspec.Struct, frozen=True, omit_defaults=True, tag="turned-away"):
    """A host asked the carrier for receipts and was answered with an error. `attempt` is 1 for a
    question, and more for a repeat of it."""

    n: int
    at: float
    bind: str
    attempt: int = 1


class Arrival(msgspec.Struct, frozen=True, tag="arrival"):
    """What a handset received once."""

    n: int
    at: float
    text: str
    recipient: str


class Text(msgspec.Struct, frozen=True, omit_defaults=True, tag="text"):
    """What a handset sent to us. `is_acked`: a host told the carrier that it has it."""

    item_id: str
    text: str
    is_acked: bool = False


class Callback(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request to the application: about a status, or a text that came in (`status` is then
    `received` and `text` is there)."""

    at: float
    sid: str
    status: str
    token: str
    is_signed: bool
    answer: int
    sequence: int = 0
    text: str = ""


class Shown(msgspec.Struct, frozen=True, omit_defaults=True, tag="shown"):
    """One message as one host lists it at the end."""

    host: str
    sid: str
    text: str
    direction: str
    status: str
    error_code: int = 0
    price: str = ""


class Summed(msgspec.Struct, frozen=True, tag="summed"):
    """What one host says at the end that all texts sent came to; in millionths."""

    host: str
    messages: int
    micros: int


class Debit(msgspec.Struct, frozen=True, omit_defaults=True):
    """One booking for one message, as one host shows it."""

    sid: str
    micros: int
    host: str = ""


ClientRecord = Create | Read | Shown | Summed
CarrierRecord = Submission | TurnedAway
HandsetRecord = Arrival | Text


@dataclass(frozen=True, slots=True)
class History:
    """Everything that was seen from outside. `debits` is None where nobody was asked what is billed."""

    creates: Sequence[Create] = ()
    reads: Sequence[Read] = ()
    submissions: Sequence[Submission] = ()
    turned_away: Sequence[TurnedAway] = ()
    arrivals: Sequence[Arrival] = ()
    texts: Sequence[Text] = ()
    callbacks: Sequence[Callback] = ()
    shown: Sequence[Shown] = ()
    hosts: Sequence[str] = ()
    """Those that `shown` was asked of."""
    debits: Sequence[Debit] | None = field(default=None)
    sums: Sequence[Summed] = ()
