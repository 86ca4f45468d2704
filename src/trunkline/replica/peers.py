"""What the copies of a cluster's hosts ask each other, whatever it travels on.

A peer that does not give what it is asked for is no fault: another one is asked, or the same one
later. The shapes here are also the wire's: JSON, and MessagePack for records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from trunkline.domain.message import Message
from trunkline.kernel import Deadline

PART_BYTES_MAX: Final = 4 * 1024 * 1024
"""How much of a snapshot is asked for at once: it is held in memory, and asked for again alone."""

RECORDS_AT_ONCE_MAX: Final = 64
"""Records in one answer: some 50 KiB."""


class Offer(msgspec.Struct, frozen=True):
    """A snapshot that a peer has, checked. `cursors` has a sequence for each shard it has seen
    anything of; `sha256` is that of the whole file, as hexadecimal digits."""

    name: str
    bytes: int
    sha256: str
    schema: int
    cluster: str
    cursors: dict[int, int]


@dataclass(frozen=True, slots=True)
class Preparing:
    """It is being made. Ask again in a second or so."""


@dataclass(frozen=True, slots=True)
class NotGiven:
    """There is no answer to be had from this peer now; the text says why."""

    reason: str


class Part(msgspec.Struct, frozen=True):
    """The finished messages whose digits begin with `prefix`, that were created at `since` or later,
    and of which nothing has been heard since `until`. Times are seconds since the epoch."""

    prefix: str
    since: float
    until: float


class Digest(msgspec.Struct, frozen=True):
    """What a copy holds of a part: how many records, and one hash over all of them. `lag_ms` is how
    old the copy itself is; `None`: nobody knows."""

    records: int
    sha256: str
    lag_ms: float | None = None


class Peers(Protocol):
    """The other hosts. Whom to ask is named by one of `urls`; no method raises for what a network
    or another host can do."""

    def urls(self) -> Sequence[str]:
        """Those that are there now, as far as this host knows."""

    async def offer(self, peer: str, *, deadline: Deadline) -> Offer | Preparing | NotGiven:
        """A snapshot of its copy that is worth having."""

    async def part_of(
        self, peer: str, offer: Offer, *, start: int, deadline: Deadline
    ) -> bytes | NotGiven:
        """The next bytes of it, `PART_BYTES_MAX` or all that are left behind `start`."""

    async def digest(self, peer: str, part: Part, *, deadline: Deadline) -> Digest | NotGiven: ...

    async def records(
        self, peer: str, part: Part, *, deadline: Deadline
    ) -> Sequence[Message] | NotGiven:
        """Its records of the part, at most `RECORDS_AT_ONCE_MAX`."""
