"""Logs recorded by versions that were released or could have been, to be read by today's code.

`tests/fixtures/log-v*/log.jsonl` holds every message of a log, `records.json` what the copy of the
host that recorded it showed in the end. `scripts/record_log.py` makes them.
"""

from pathlib import Path
from typing import Final

import msgspec

from trunkline.domain.account import Account
from trunkline.domain.message import Message
from trunkline.domain.number import Number
from trunkline.log.interface import Stored

FIXTURES: Final = Path(__file__).parent.parent / "fixtures"
RECORDED: Final = sorted(path.name for path in FIXTURES.glob("log-v*"))


class Line(msgspec.Struct, frozen=True):
    """One message of a log."""

    shard: int
    sequence: int
    subject: str
    at: float
    payload: str


class Records(msgspec.Struct, frozen=True):
    """What a copy shows, in the order of SIDs."""

    messages: list[Message]
    numbers: list[Number]
    accounts: list[Account]


def stored(version: str) -> list[Stored]:
    """The messages of a recorded log, shard by shard."""
    text = (FIXTURES / version / "log.jsonl").read_bytes()
    lines = [msgspec.json.decode(line, type=Line) for line in text.splitlines()]
    return [
        Stored(line.shard, line.subject, line.sequence, line.at, line.payload.encode())
        for line in lines
    ]


def records(version: str) -> Records:
    """What it was folded into by the version that recorded it."""
    return msgspec.json.decode((FIXTURES / version / "records.json").read_bytes(), type=Records)


def as_then(version: str, message: Message) -> Message:
    """The record as that version would have made it: the first one knew nothing of links, and both
    nothing of when a message was first claimed."""
    then = msgspec.structs.replace(message, sending_at=None)
    return msgspec.structs.replace(then, link=None) if version == "log-v1" else then
