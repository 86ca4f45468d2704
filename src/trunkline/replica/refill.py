"""A copy from a peer, for a host that has none or a very old one: fetched, checked, and only then named.

The file grows beside the copy under a name that nothing opens. One that breaks off is gone on with,
part by part; a peer that fails for good is left for another one, and its bytes are thrown away,
because no two hosts have the same snapshot.
"""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from trunkline.kernel import Clock, Deadline
from trunkline.replica import schema
from trunkline.replica.peers import NotGiven, Offer, Peers, Preparing
from trunkline.replica.snapshot import ROOM_KEPT_BYTES, Snapshot, check

ROUNDS_S: Final = 15.0
"""How long peers are asked none of which has anything to give: at the start of a host it has not
heard of them yet, and after a power failure they start as it does."""

PREPARING_S: Final = 600.0
"""How long one peer is waited for that says it is making a snapshot: 30 GiB."""

ASK_TIMEOUT_S: Final = 10.0
ASK_AGAIN_S: Final = 0.5
PART_TIMEOUT_S: Final = 30.0
"""All tries of one part together."""

FLUSH_EVERY_BYTES: Final = 64 * 1024 * 1024

_log: Final = structlog.get_logger(__name__)

WhyNot = Callable[[Mapping[int, int]], Awaitable[str | None]]
"""Why a copy with these cursors would be no use; `None` if it would."""


class _Broken(Exception):
    """This peer's snapshot cannot be had, or is not what was offered; the text says why."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A snapshot from `peer`, checked and flushed, not yet in its place."""

    snapshot: Snapshot
    peer: str
    bytes: int
    took_s: float


@dataclass(frozen=True, slots=True)
class Refill:
    """Where a copy may come from besides this host's own disk. For `rounds_s`, peers are asked again
    that had nothing to give."""

    peers: Peers
    clock: Clock
    rounds_s: float = ROUNDS_S

    async def fetch(self, path: Path, cluster: str, why_not: WhyNot) -> Fetched | None:
        """One peer's snapshot, for the copy at `path`; `None` if no peer has given one in time."""
        deadline = Deadline.after(self.rounds_s, self.clock)
        new = path.with_name(path.name + ".peer.new")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        told: dict[str, str] = {}
        while True:
            for peer in tuple(self.peers.urls()):
                began = self.clock.monotonic()
                try:
                    offer = await self._offered(peer)
                    await self._require(offer, new, cluster, why_not)
                    _log.info("replica.refilling", peer=peer, bytes=offer.bytes)
                    cursors = await self._download(peer, offer, new, cluster)
                    await self._require(offer, new, cluster, why_not)
                except (_Broken, OSError) as broken:
                    new.unlink(missing_ok=True)
                    if told.get(peer) != str(broken):
                        told[peer] = str(broken)
                        _log.warning("replica.peer_failed", peer=peer, reason=str(broken))
                    continue
                took_s = self.clock.monotonic() - began
                return Fetched(Snapshot(new, cursors), peer, offer.bytes, took_s)
            if deadline.has_passed():
                return None
            await self.clock.sleep(ASK_AGAIN_S)

    async def _offered(self, peer: str) -> Offer:
        patience = Deadline.after(PREPARING_S, self.clock)
        while not patience.has_passed():
            deadline = Deadline.after(ASK_TIMEOUT_S, self.clock)
            answer = await self.peers.offer(peer, deadline=deadline)
            if isinstance(answer, NotGiven):
                raise _Broken(answer.reason)
            if not isinstance(answer, Preparing):
                return answer
            await self.clock.sleep(ASK_AGAIN_S)
        raise _Broken(f"it has not made a snapshot in {PREPARING_S:.0f} s")

    async def _require(self, offer: Offer, new: Path, cluster: str, why_not: WhyNot) -> None:
        """That it is worth having, and that there is room for it."""
        if offer.cluster != cluster:
            raise _Broken(f"its copy is of another cluster ({offer.cluster})")
        if offer.schema != schema.SCHEMA_VERSION:
            raise _Broken(
                f"its copy has schema version {offer.schema}, and this program reads "
                f"{schema.SCHEMA_VERSION}"
            )
        room = shutil.disk_usage(new.parent).free + (new.stat().st_size if new.exists() else 0)
        if room - offer.bytes < ROOM_KEPT_BYTES:
            raise _Broken(f"its copy has {offer.bytes} bytes, and only {room} are free on the disk")
        if (why := await why_not(offer.cursors)) is not None:
            raise _Broken(f"its copy {why}")

    async def _download(
        self, peer: str, offer: Offer, new: Path, cluster: str
    ) -> Mapping[int, int]:
        """Fetch all of it, and read it back. Raises `_Broken` and `OSError`."""
        descriptor = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            digest = hashlib.sha256()
            received = 0
            while received < offer.bytes:
                deadline = Deadline.after(PART_TIMEOUT_S, self.clock)
                part = await self.peers.part_of(peer, offer, start=received, deadline=deadline)
                if isinstance(part, NotGiven):
                    raise _Broken(f"it broke off after {received} bytes: {part.reason}")
                received = await asyncio.to_thread(_add, descriptor, digest, part, received)
            await asyncio.to_thread(os.fsync, descriptor)
        finally:
            os.close(descriptor)
        if digest.hexdigest() != offer.sha256:
            raise _Broken("what came is not what was offered: the checksums differ")
        cursors = await asyncio.to_thread(check, new, cluster)
        if cursors is None:
            raise _Broken("what came is no whole copy")
        return cursors


def _add(descriptor: int, digest: "hashlib._Hash", part: bytes, at: int) -> int:
    """Write the part at its place; where the next one begins."""
    digest.update(part)
    view = memoryview(part)
    while view:
        view = view[os.write(descriptor, view) :]
    after = at + len(part)
    if at // FLUSH_EVERY_BYTES != after // FLUSH_EVERY_BYTES:
        os.fsync(descriptor)
    return after
