"""What the simulator writes down: one JSON object a line, numbered without gaps in time order.

The lines are also the simulator's whole state: it starts by reading them again. Fields may only be
added, with defaults, so that an old file is read by new code.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from trunkline.protocols.simulated import Media
from trunkline.simulator.behaviour import Behaviour

_RENAME: Final = {"sender": "from", "recipient": "to"}


class Entry(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    tag_field="event",
    rename=_RENAME,
):
    """One line. `at` is the wall clock, in seconds since the epoch."""

    n: int
    at: float


class Started(Entry, frozen=True, kw_only=True, tag="started"):
    """A process took the file up."""

    pid: int


class Submitted(Entry, frozen=True, kw_only=True, tag="submitted"):
    """A host handed this over, and this became of it at the same moment.

    `outcome` is what was decided, `message_id` empty if it was not taken. `delivered`: the handset
    `recipient` has it. `receipt` is the status of the receipts owed, empty if there is none: they
    are `receipt_copies`, due `receipt_delay_s` after `at`, and named by `receipt_ids`. `answered`:
    the answer left with this line; a later `Answered` says so otherwise.
    """

    bind: str
    reference: str
    sender: str
    recipient: str
    body: str
    outcome: str
    message_id: str = ""
    media_urls: tuple[str, ...] = ()
    possible_duplicate: bool = False
    media: tuple[Media, ...] = ()
    delivered: bool = False
    receipt: str = ""
    receipt_copies: int = 1
    receipt_delay_s: float | None = None
    receipt_error_code: int | None = None
    answered: bool = False


class Answered(Entry, frozen=True, kw_only=True, tag="answered"):
    """Answers that had been held back are on their way to the host."""

    references: tuple[str, ...]


class Offered(Entry, frozen=True, kw_only=True, tag="offered"):
    """Receipts and handsets' messages were given to a bind."""

    bind: str
    item_ids: tuple[str, ...]


class TurnedAway(Entry, frozen=True, kw_only=True, tag="turned-away"):
    """A bind asked for receipts and texts and was answered 503. `attempt` is which of its tries at
    the same question it says that this was."""

    bind: str
    attempt: int = 1


class Acked(Entry, frozen=True, kw_only=True, tag="acked"):
    """The host has these receipts and handsets' messages."""

    item_ids: tuple[str, ...]


class InboundSent(Entry, frozen=True, kw_only=True, tag="inbound-sent"):
    """A handset sent a message; it is offered until acknowledged."""

    item_id: str
    message_id: str
    sender: str
    recipient: str
    body: str
    media_urls: tuple[str, ...] = ()


class BehaviourSet(Entry, frozen=True, kw_only=True, tag="behaviour"):
    """The behaviour towards `number` changed; towards everybody if that is empty. `None` resets."""

    number: str = ""
    behaviour: Behaviour | None = None


AnyEntry = (
    Submitted | Answered | Offered | TurnedAway | Acked | InboundSent | BehaviourSet | Started
)

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final[msgspec.json.Decoder[AnyEntry]] = msgspec.json.Decoder(AnyEntry)


class UnreadableEntry(Exception):
    """A line that is no entry; the text says why."""


def receipt_ids(submitted: Submitted) -> list[str]:
    """The item ids of the receipts that a submission is owed."""
    if not submitted.receipt:
        return []
    first = f"receipt-{submitted.n}"
    return [first, *(f"{first}.{copy}" for copy in range(2, submitted.receipt_copies + 1))]


def encode_entries(entries: Sequence[AnyEntry]) -> bytes:
    """The lines, each with its end."""
    return _ENCODER.encode_lines(entries)


def decode_entries(lines: bytes) -> list[AnyEntry]:
    """Raises `UnreadableEntry` if any line is none."""
    try:
        return _DECODER.decode_lines(lines)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableEntry(str(error)) from error
