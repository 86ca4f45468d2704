"""The wire between a host and the simulator: JSON over HTTP, as structs and bytes, without I/O.

A post of submissions is answered by lines, one for each submission as it is decided, in any order.
A submission that got no line before the response ended is unknown: that is how silence looks here.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

SUBMISSIONS_PATH: Final = "/wire/v1/submissions"
DELIVERIES_PATH: Final = "/wire/v1/deliveries"
ACKNOWLEDGEMENTS_PATH: Final = "/wire/v1/acknowledgements"
MEDIA_PATH: Final = "/v1/media"
"""Of the inspection API, which handsets send their media to as well: they come one by one."""

SUBMISSIONS_MAX: Final = 256
"""In one post. With texts of 1,600 characters and ten media URLs each it stays under the bytes."""
ITEMS_MAX: Final = 1_000
"""In one answer to a poll, and in one acknowledgement."""
WIRE_BODY_BYTES_MAX: Final = 8 * 1024 * 1024
ANSWER_LINE_BYTES_MAX: Final = 64 * 1024
"""A line longer than this is not an answer."""
TRIES_MAX: Final = 1_000
"""The highest number of a try that a poll may say it is."""
WAIT_MS_MAX: Final = 30_000
"""The longest a poll may be left hanging."""


class WireError(Exception):
    """The peer sent something that is not this protocol; the text says what."""


class Media(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A piece of media, whose bytes the carrier has: by their SHA-256, and of this type."""

    sha256: str
    content_type: str


class Submission(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One hand-over. The carrier does not look whether it saw `reference` before."""

    reference: str
    sender: str
    recipient: str
    text: str
    media_urls: tuple[str, ...] = ()
    possible_duplicate: bool = False
    media: tuple[Media, ...] = ()


class Accepted(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="accepted", tag_field="result"
):
    """The carrier took it."""

    reference: str
    message_id: str


class Refused(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    tag="refused",
    tag_field="result",
):
    """The carrier did not take it; with `returned` it may be tried again after `retry_after_s`."""

    reference: str
    error_code: int = 0
    reason: str = ""
    returned: bool = False
    retry_after_s: float = 0.0


Answer = Accepted | Refused


class Receipt(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    tag="receipt",
    tag_field="item",
):
    """What became of a message. `status` is delivered, undelivered or failed; `done_date` is when, in
    UTC, as YYMMDDhhmm."""

    item_id: str
    message_id: str
    reference: str
    status: str
    error_code: int | None = None
    done_date: str = ""


class Inbound(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    tag="inbound",
    tag_field="item",
):
    """A message that a handset sent."""

    item_id: str
    message_id: str
    sender: str
    recipient: str
    text: str
    media_urls: tuple[str, ...] = ()


Item = Receipt | Inbound

_ENCODER: Final = msgspec.json.Encoder()
_SUBMISSIONS: Final = msgspec.json.Decoder(tuple[Submission, ...])
_ANSWER: Final[msgspec.json.Decoder[Answer]] = msgspec.json.Decoder(Accepted | Refused)
_ITEMS: Final[msgspec.json.Decoder[tuple[Item, ...]]] = msgspec.json.Decoder(
    tuple[Receipt | Inbound, ...]
)
_ITEM_IDS: Final = msgspec.json.Decoder(tuple[str, ...])


def encode_submissions(submissions: Sequence[Submission]) -> bytes:
    return _ENCODER.encode(submissions)


def decode_submissions(body: bytes) -> tuple[Submission, ...]:
    """Raises `WireError` when it is no array of submissions, or an empty or too long one."""
    try:
        submissions = _SUBMISSIONS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"not an array of submissions: {error}") from error
    if not 1 <= len(submissions) <= SUBMISSIONS_MAX:
        raise WireError(
            f"{len(submissions)} submissions in one post; 1 to {SUBMISSIONS_MAX} may be"
        )
    return submissions


def encode_answers(answers: Sequence[Answer]) -> bytes:
    """A line for each, with its end."""
    return _ENCODER.encode_lines(answers)


class AnswerReader:
    """Puts the lines of an answer together again from chunks cut anywhere."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def receive(self, data: bytes) -> list[Answer]:
        """The answers completed by `data`. Raises `WireError` for a line that is none."""
        lines, _, self._tail = (self._tail + data if self._tail else data).rpartition(b"\n")
        if len(self._tail) > ANSWER_LINE_BYTES_MAX:
            raise WireError(f"an answer's line is over {ANSWER_LINE_BYTES_MAX} bytes")
        if not lines:
            return []
        try:
            return _ANSWER.decode_lines(lines)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise WireError(f"not an answer: {error}") from error


def encode_items(items: Sequence[Item]) -> bytes:
    return _ENCODER.encode(items)


def decode_items(body: bytes) -> tuple[Item, ...]:
    """Raises `WireError` when it is no array of items."""
    try:
        return _ITEMS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"not an array of items: {error}") from error


def encode_item_ids(item_ids: Sequence[str]) -> bytes:
    return _ENCODER.encode(item_ids)


def decode_item_ids(body: bytes) -> tuple[str, ...]:
    """Raises `WireError` when it is no array of ids, or too long a one."""
    try:
        item_ids = _ITEM_IDS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"not an array of item ids: {error}") from error
    if len(item_ids) > ITEMS_MAX:
        raise WireError(f"{len(item_ids)} item ids in one acknowledgement; at most {ITEMS_MAX}")
    return item_ids
