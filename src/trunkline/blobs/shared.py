"""Blobs of a cluster: kept on this host and on another before they count as kept, and fetched from
another host where this one lacks them. A host alone has nobody to ask, and its own disk counts.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from trunkline.blobs.store import BlobError, BlobStore, name_of
from trunkline.domain.ports import Entropy
from trunkline.kernel import Deadline

OTHERS_MIN: Final = 1
"""Other hosts that must have a blob: as many as may be lost of the log's three copies."""

LAGGARDS_WAIT_S: Final = 0.5
"""How long the further hosts may still take once enough have a blob. Who misses it has it later from
one of them."""

AT_ONCE_MAX: Final = 8
"""Blobs in memory at once on the way to or from the disk: 40 MiB at most."""

_NONCE_BYTES: Final = 8

log: Final = structlog.get_logger(__name__)


class BlobPeers(Protocol):
    """The other hosts, each named by one of `urls`. No method raises for what a network can do."""

    def urls(self) -> Sequence[str]: ...

    async def give_blob(self, peer: str, content: bytes, *, deadline: Deadline) -> bool:
        """Whether the peer has it on its disk, flushed."""

    async def blob(self, peer: str, name: str, *, deadline: Deadline) -> bytes | None:
        """The bytes, if the peer has them and gives them."""


@dataclass(frozen=True, slots=True)
class SharedBlobs:
    """This host's blobs, and its part in those of its cluster. `peers` is `None` for a host alone."""

    store: BlobStore
    peers: BlobPeers | None
    entropy: Entropy
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE_MAX))

    async def keep(self, content: bytes, *, deadline: Deadline) -> str | None:
        """Its name, once it is on enough disks, flushed; `None`: it is not, try again. Raises
        `BlobError` for more bytes than may be."""
        async with self._room:
            try:
                name = await self._put(content)
            except OSError as error:
                log.warning("blob.not_written", reason=str(error))
                return None
            if self.peers is None:
                return name
            given = await self._give_all(self.peers, content, deadline)
        if given < OTHERS_MIN:
            log.warning("blob.not_shared", name=name, hosts=given)
            return None
        return name

    async def content(self, name: str, *, deadline: Deadline) -> bytes | None:
        """The bytes, from here or from another host, which leaves them here too; `None`: nobody
        that can be asked has them."""
        async with self._room:
            found = await asyncio.to_thread(self.store.get, name)
            if found is not None:
                return found
            return await self._from_peers(name, deadline)

    async def _from_peers(self, name: str, deadline: Deadline) -> bytes | None:
        if self.peers is None:
            return None
        peers = self.peers.urls()
        for number, peer in enumerate(peers):
            if deadline.has_passed():
                return None
            found = None
            # One that is frozen leaves the others their part of the time.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline.remaining_s() / (len(peers) - number)):
                    found = await self.peers.blob(peer, name, deadline=deadline)
            if found is None or name_of(found) != name:
                continue
            try:
                await self._put(found)
            except (OSError, BlobError) as error:
                log.warning("blob.not_written", reason=str(error))
            return found
        return None

    async def _give_all(self, peers: BlobPeers, content: bytes, deadline: Deadline) -> int:
        """To how many other hosts it was given: all at once, and not waiting for a frozen one when
        enough have it."""
        given = 0

        async def give(peer: str, bound: asyncio.Timeout) -> None:
            nonlocal given
            given += await peers.give_blob(peer, content, deadline=deadline)
            if given == OTHERS_MIN:
                bound.reschedule(asyncio.get_running_loop().time() + LAGGARDS_WAIT_S)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as bound, asyncio.TaskGroup() as tasks:
                for peer in peers.urls():
                    tasks.create_task(give(peer, bound))
        return given

    async def _put(self, content: bytes) -> str:
        nonce = self.entropy(_NONCE_BYTES).hex()
        return await asyncio.to_thread(self.store.put, content, nonce=nonce)
