"""What a copy holds of one part of the finished messages, as a hash, and as the records themselves.

A message's digits are as good as random, so a prefix of them is a part of a known share, found in
one range of the table. Time decides what counts: of a message that something was heard of lately,
one host may know more than another, and nothing is wrong with either.
"""

import contextlib
import hashlib
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from trunkline.domain.message import Message
from trunkline.replica import schema
from trunkline.replica.old_records import DONE
from trunkline.replica.peers import Digest, Part

DIGITS: Final = "0123456789abcdef"

ROWS_AT_ONCE: Final = 64
ROWS_PAUSE_S: Final = 0.002
"""A row takes ten microseconds of the interpreter; then others get their turn."""

_BEHIND_ALL: Final = "g"
_DECODER: Final = msgspec.msgpack.Decoder(Message)
# Sets have no order of their own, and each process has its own.
_CANONICAL: Final = msgspec.msgpack.Encoder(order="deterministic")


def digest_of(copy: Path, part: Part) -> Digest:
    """Of the copy at `copy`; a record that cannot be read is not counted. Belongs into a thread.
    Raises `sqlite3.Error`."""
    count, found = 0, hashlib.sha256()
    for message in _messages(copy, part):
        # As a tuple: whether an empty set is left out of a record depends on where it came from.
        found.update(_CANONICAL.encode(msgspec.structs.astuple(message)))
        count += 1
    return Digest(count, found.hexdigest())


def records_of(copy: Path, part: Part, *, items_max: int) -> list[Message]:
    """The first `items_max` records. Belongs into a thread. Raises `sqlite3.Error`."""
    return list(itertools.islice(_messages(copy, part), items_max))


def records_named(copy: Path, names: Sequence[str]) -> dict[str, Message]:
    """The records with these digits, finished or not; one that cannot be read is left out. Belongs
    into a thread. Raises `sqlite3.Error`."""
    found: dict[str, Message] = {}
    with contextlib.closing(schema.open_for_reading(copy)) as database:
        for digits in names:
            row = database.execute(
                "SELECT state FROM message WHERE digits = ?", (digits,)
            ).fetchone()
            message = None if row is None else decoded(row[0])
            if message is not None:
                found[digits] = message
    return found


def counts(message: Message, part: Part) -> bool:
    """Whether the message belongs to the part."""
    return (
        message.is_known
        and message.status in DONE
        and message.created_at >= part.since
        and message.updated_at < part.until
    )


def _messages(copy: Path, part: Part) -> Iterator[Message]:
    with contextlib.closing(schema.open_for_reading(copy)) as database:
        rows = database.execute(
            "SELECT state FROM message WHERE digits >= ? AND digits < ? ORDER BY digits",
            (part.prefix, part.prefix + _BEHIND_ALL),
        )
        while some := rows.fetchmany(ROWS_AT_ONCE):
            for (state,) in some:
                message = decoded(state)
                if message is not None and counts(message, part):
                    yield message
            time.sleep(ROWS_PAUSE_S)


def decoded(state: bytes) -> Message | None:
    """The record, or `None` for bytes that are none."""
    try:
        return _DECODER.decode(state)
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
        return None
