"""The service that keeps this host's blobs as its copy of the records would have them.

It walks over the messages that have media, marks each blob as wanted and fetches those that are
missing from another host: so an empty disk fills again, and every host comes to have all of them.
What was not wanted for a day is removed behind it: media that were deleted, those of records that
are kept no longer, and what was fetched and never written down. Nothing waits for it, and it may die
anywhere: removing goes by marks that only a whole walk makes.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import structlog

from trunkline.blobs.shared import SharedBlobs
from trunkline.domain.sid import MMS
from trunkline.kernel import Clock, Deadline
from trunkline.log.limits import COPY_LAG_MAX_S
from trunkline.replica import schema
from trunkline.replica.digest import DIGITS, decoded

FIRST_AFTER_S: Final = 60.0
EVERY_S: Final = 6 * 3600.0
UNWANTED_KEPT_S: Final = 86_400.0
"""Far longer than it takes to write down what was fetched, on a host that freezes in between."""

ROWS_MAX: Final = 256
PAUSE_S: Final = 0.02
FETCH_MAX_S: Final = 15.0

log: Final = structlog.get_logger(__name__)


class MediaUpkeep:
    """Use as a support: `run` until cancelled. `lag_ms` is how far the copy at `copy` is behind: a
    copy that does not show everything says nothing about what is unwanted."""

    def __init__(
        self, copy: Path, blobs: SharedBlobs, lag_ms: Callable[[], float], *, clock: Clock
    ) -> None:
        self._copy = copy
        self._blobs = blobs
        self._lag_ms = lag_ms
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled. A fault of ours stops one walk, and no service."""
        await self._clock.sleep(FIRST_AFTER_S)
        while True:
            try:
                await self.once()
            except Exception:
                # Nobody waits for a walk, and the services must not end because of one.
                log.exception("blobs.upkeep_failed")
            await self._clock.sleep(EVERY_S)

    async def once(self) -> None:
        """One walk, and the removal behind it."""
        began = self._clock.wall()
        was_behind = self._is_behind()
        fetched = missing = 0
        for prefix in (one + other for one in DIGITS for other in DIGITS):
            behind = ""
            while True:
                try:
                    lacking, last = await asyncio.to_thread(self._mark, prefix, behind)
                except sqlite3.Error as error:
                    log.warning("blobs.not_swept", reason=f"the copy cannot be read: {error}")
                    return
                for name in lacking:
                    deadline = Deadline.after(FETCH_MAX_S, self._clock)
                    is_here = await self._blobs.content(name, deadline=deadline) is not None
                    fetched += is_here
                    missing += not is_here
                if last is None:
                    break
                behind = last
                await self._clock.sleep(PAUSE_S)
        if was_behind or self._is_behind():
            log.info("blobs.not_swept", reason="the read copy is behind")
            return
        before = began - UNWANTED_KEPT_S
        removed = await asyncio.to_thread(self._blobs.store.remove_unwanted, before)
        files, size = await asyncio.to_thread(self._blobs.store.size)
        log.info(
            "blobs.swept",
            removed=removed,
            fetched=fetched,
            missing=missing,
            files=files,
            bytes=size,
        )

    def _is_behind(self) -> bool:
        return self._lag_ms() > COPY_LAG_MAX_S * 1000.0

    def _mark(self, prefix: str, behind: str) -> tuple[list[str], str | None]:
        """Mark the blobs of the next rows; those that are not here, and the last row's digits, or
        `None` where there are no more."""
        lacking: dict[str, None] = {}
        last = None
        with contextlib.closing(schema.open_for_reading(self._copy)) as database:
            rows = database.execute(
                "SELECT digits, state FROM message WHERE digits > ? AND digits < ? AND sid >= ? "
                "AND sid < ? ORDER BY digits LIMIT ?",
                (max(prefix, behind), f"{prefix}g", MMS, f"{MMS}g", ROWS_MAX),
            ).fetchall()
        for _, state in rows:
            for name in _names(state):
                if not self._blobs.store.want(name):
                    lacking[name] = None
        if len(rows) == ROWS_MAX:
            last = rows[-1][0]
        return list(lacking), last


def _names(state: bytes) -> Iterator[str]:
    message = decoded(state)
    if message is not None:
        yield from (piece.sha256 for piece in message.pieces)
