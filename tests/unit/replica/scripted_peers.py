"""Peers by script: other hosts' copies in files, handed over without a network, and failing as told."""

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from trunkline.domain.message import Message
from trunkline.kernel import Deadline
from trunkline.replica import schema
from trunkline.replica.digest import digest_of, records_of
from trunkline.replica.peers import (
    PART_BYTES_MAX,
    RECORDS_AT_ONCE_MAX,
    Digest,
    NotGiven,
    Offer,
    Part,
    Preparing,
)


def offer_of(snapshot: Path) -> Offer:
    """What a peer would say of this file."""
    content = snapshot.read_bytes()
    with closing(sqlite3.connect(snapshot)) as database:
        cursors = schema.cursors(database)
    return Offer(
        name=snapshot.name,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        schema=schema.SCHEMA_VERSION,
        cluster="test",
        cursors=cursors,
    )


@dataclass
class ScriptedPeer:
    """One of them. `breaks_at` is the byte from which on nothing comes."""

    snapshot: Path | None = None
    copy: Path | None = None
    offer: Offer | None = None
    preparing: int = 0
    breaks_at: float = float("inf")
    spoil: Callable[[bytes], bytes] = bytes
    lag_ms: float | None = 0.0
    asked: list[str] = field(default_factory=list)


@dataclass
class ScriptedPeers:
    """Implements `Peers`."""

    hosts: dict[str, ScriptedPeer] = field(default_factory=dict)

    def urls(self) -> Sequence[str]:
        return list(self.hosts)

    async def offer(self, peer: str, *, deadline: Deadline) -> Offer | Preparing | NotGiven:
        assert not deadline.has_passed()
        assert not deadline.has_passed()
        host = self.hosts[peer]
        host.asked.append("offer")
        if host.preparing:
            host.preparing -= 1
            return Preparing()
        if host.snapshot is None:
            return NotGiven("it has none")
        return host.offer or offer_of(host.snapshot)

    async def part_of(
        self, peer: str, offer: Offer, *, start: int, deadline: Deadline
    ) -> bytes | NotGiven:
        assert not deadline.has_passed()
        host = self.hosts[peer]
        host.asked.append(f"part at {start}")
        if start >= min(host.breaks_at, offer.bytes) or host.snapshot is None:
            return NotGiven("it is gone")
        content = host.snapshot.read_bytes()[start : start + PART_BYTES_MAX]
        return host.spoil(content)

    async def digest(self, peer: str, part: Part, *, deadline: Deadline) -> Digest | NotGiven:
        assert not deadline.has_passed()
        host = self.hosts[peer]
        host.asked.append(f"digest {part.prefix}")
        if host.copy is None:
            return NotGiven("it is gone")
        found = digest_of(host.copy, part)
        return Digest(found.records, found.sha256, host.lag_ms)

    async def records(
        self, peer: str, part: Part, *, deadline: Deadline
    ) -> Sequence[Message] | NotGiven:
        assert not deadline.has_passed()
        host = self.hosts[peer]
        host.asked.append(f"records {part.prefix}")
        if host.copy is None:
            return NotGiven("it is gone")
        return records_of(host.copy, part, items_max=RECORDS_AT_ONCE_MAX)
