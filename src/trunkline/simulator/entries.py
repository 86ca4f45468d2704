"""What the simulator writes down: one JSON object a line, numbered without gaps in time order.

The lines are also the simulator's whole state: it starts by reading them again. Fields may only be
added, with defaults, so that an old file is read by new code.
"""

from typing import Final

import msgspec

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
    """A host handed this over; `outcome` is what was decided, `message_id` empty if not taken."""

    bind: str
    reference: str
    sender: str
    recipient: str
    body: str
    outcome: str
    message_id: str = ""
    media_urls: tuple[str, ...] = ()
    possible_duplicate: bool = False


class Delivered(Entry, frozen=True, kw_only=True, tag="delivered"):
    """The handset `recipient` has it."""

    message_id: str
    reference: str
    sender: str
    recipient: str
    body: str
    media_urls: tuple[str, ...] = ()
    possible_duplicate: bool = False


class Answered(Entry, frozen=True, kw_only=True, tag="answered"):
    """The answer is on its way to the host. `result` is accepted, refused or throttled."""

    reference: str
    result: str
    message_id: str = ""
    error_code: int = 0


class Withheld(Entry, frozen=True, kw_only=True, tag="withheld"):
    """There will be no answer."""

    reference: str
    message_id: str = ""


class ReceiptOwed(Entry, frozen=True, kw_only=True, tag="receipt-owed"):
    """A receipt to be offered from `due_at` on, until it is acknowledged."""

    item_id: str
    message_id: str
    reference: str
    status: str
    due_at: float
    error_code: int | None = None


class ReceiptOffered(Entry, frozen=True, kw_only=True, tag="receipt-offered"):
    """A receipt was given to a bind."""

    item_id: str
    bind: str


class ReceiptAcked(Entry, frozen=True, kw_only=True, tag="receipt-acked"):
    """The host has the receipt."""

    item_id: str


class InboundSent(Entry, frozen=True, kw_only=True, tag="inbound-sent"):
    """A handset sent a message; it is offered until acknowledged."""

    item_id: str
    message_id: str
    sender: str
    recipient: str
    body: str
    media_urls: tuple[str, ...] = ()


class InboundOffered(Entry, frozen=True, kw_only=True, tag="inbound-offered"):
    """A handset's message was given to a bind."""

    item_id: str
    bind: str


class InboundAcked(Entry, frozen=True, kw_only=True, tag="inbound-acked"):
    """The host has the handset's message."""

    item_id: str


class BehaviourSet(Entry, frozen=True, kw_only=True, tag="behaviour"):
    """The behaviour towards `number` changed; towards everybody if that is empty. `None` resets."""

    number: str = ""
    behaviour: Behaviour | None = None


AnyEntry = (
    Started
    | Submitted
    | Delivered
    | Answered
    | Withheld
    | ReceiptOwed
    | ReceiptOffered
    | ReceiptAcked
    | InboundSent
    | InboundOffered
    | InboundAcked
    | BehaviourSet
)

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final[msgspec.json.Decoder[AnyEntry]] = msgspec.json.Decoder(AnyEntry)


class UnreadableEntry(Exception):
    """A line that is no entry; the text says why."""


def encode_entry(entry: AnyEntry) -> bytes:
    """The line, with its end."""
    return _ENCODER.encode(entry) + b"\n"


def decode_entry(line: bytes) -> AnyEntry:
    """Raises `UnreadableEntry`."""
    try:
        return _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableEntry(str(error)) from error
