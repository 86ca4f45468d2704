"""The snapshot that this host offers to its peers: the one on the disk while that is recent, else a new one.

Whoever asks while it is being looked for or made is told so, and asks again; so one at a time is
made, however many ask.
"""

import asyncio
import hashlib
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from trunkline.kernel import Clock
from trunkline.log.interface import Extent, LogUnavailable, RetainedLog
from trunkline.replica import schema
from trunkline.replica.peers import NotGiven, Offer, Preparing
from trunkline.replica.restore import extents_of, misfit
from trunkline.replica.snapshot import Snapshot, SnapshotFailed, Snapshots

FOLLOWED_PER_S: Final = 10_000.0
"""Messages of the log that a projector takes in, in a second."""

COPIED_BYTES_PER_S: Final = 60 * 1024 * 1024.0
"""How fast a snapshot is taken and read back."""

OFFER_PAUSE_S: Final = 0.004
"""For a mebibyte: a fifth of what a snapshot of every day takes, because a host waits for this one."""

KEPT_S: Final = 600.0
"""How long an offer stands without being looked at again."""

READ_BYTES: Final = 1024 * 1024

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Standing:
    offer: Offer
    path: Path
    until: float


class Offers:
    """Use as a support: `run` until cancelled."""

    def __init__(self, held: RetainedLog, snapshots: Snapshots, *, clock: Clock) -> None:
        self._held = held
        self._snapshots = snapshots
        self._clock = clock
        self._wanted = asyncio.Event()
        self._standing: _Standing | None = None
        self._refusal: NotGiven | None = None
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="offers")

    async def run(self) -> None:
        """Until cancelled; a snapshot under way is then given up."""
        try:
            while True:
                await self._wanted.wait()
                try:
                    self._standing = await self._make()
                except (LogUnavailable, SnapshotFailed, OSError) as failure:
                    self._refusal = NotGiven(f"it has no snapshot to give: {failure}")
                    log.warning("snapshot.not_offered", reason=str(failure))
                self._wanted.clear()
        finally:
            self._stop.set()
            self._thread.shutdown(wait=True, cancel_futures=True)

    def current(self) -> Offer | Preparing | NotGiven:
        """What is offered now; if nothing is, one is begun. A failure is told once, to whoever asks
        next."""
        standing = self._standing
        if (
            standing is not None
            and self._clock.monotonic() < standing.until
            and standing.path.exists()
        ):
            return standing.offer
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            return refusal
        self._wanted.set()
        return Preparing()

    def path_of(self, name: str) -> Path | None:
        """The file that was offered under this name, while it is the one that is offered."""
        standing = self._standing
        return standing.path if standing is not None and standing.offer.name == name else None

    async def _make(self) -> _Standing:
        extents = await extents_of(self._held)
        chosen = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._choose, extents
        )
        offer = await asyncio.get_running_loop().run_in_executor(
            self._thread, _offer_of, chosen, self._snapshots.cluster
        )
        log.info("snapshot.offered", snapshot=offer.name, bytes=offer.bytes)
        return _Standing(offer, chosen.path, self._clock.monotonic() + KEPT_S)

    def _choose(self, extents: Mapping[int, Extent]) -> Snapshot:
        """The newest one, if following it up costs no more than taking another one does; also if it
        was taken by another process while this one waited."""

        def is_enough(newest: Snapshot) -> bool:
            if misfit(newest.cursors, extents) is not None:
                return False
            behind = sum(held.last - newest.cursors.get(n, 0) for n, held in extents.items())
            to_take_s = self._snapshots.copy.stat().st_size / COPIED_BYTES_PER_S
            return behind / FOLLOWED_PER_S <= to_take_s

        return self._snapshots.take(self._stop, is_enough)


def _offer_of(snapshot: Snapshot, cluster: str) -> Offer:
    digest, size = hashlib.sha256(), 0
    with snapshot.path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
            size += len(piece)
    return Offer(
        name=f"{digest.hexdigest()[:16]}-{snapshot.path.name}",
        bytes=size,
        sha256=digest.hexdigest(),
        schema=schema.SCHEMA_VERSION,
        cluster=cluster,
        cursors=dict(snapshot.cursors),
    )
