"""The projector: follows every shard into the host's copy, in batches, cursor and rows together.

If it dies between batches, the next one goes on from the cursor; if the file is gone or spoilt,
`replica/restore` says from where.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import structlog

from trunkline.domain.events import Type
from trunkline.domain.message import Message
from trunkline.kernel import Clock
from trunkline.kernel.crash import CrashHere, CrashPoint, never_crash
from trunkline.log.event import NewerEvent, UnreadableEvent, decode_all
from trunkline.log.interface import LogUnavailable, RetainedLog, Stored
from trunkline.log.marker import marker_subject
from trunkline.replica import schema
from trunkline.replica.folding import Folding
from trunkline.replica.progress import Progress
from trunkline.replica.refill import Refill
from trunkline.replica.restore import make_ready

_log: Final = structlog.get_logger(__name__)

FETCH_MAX: Final = 500
FETCH_WAIT_S: Final = 0.2
"""Also how stale the lag of an idle host may look."""

BATCHES_WAITING_MAX: Final = 24
BATCHES_WRITTEN_MAX: Final = 24
"""Batches in one transaction."""

FOLD_SLICE_S: Final = 0.001
"""How long events are folded before others get a turn of the loop."""

COMMIT_BUSY_PAUSE_S: Final = 0.1
BUSY_ROWS: Final = 30
"""A commit of this many rows is followed by the longer pause: most of a message's events then meet
in one transaction, and its row is written once or twice instead of four times."""

COMMIT_PAUSE_S: Final = 0.02
"""Between two commits under load, so that each flush serves many events; it is paid only by what
comes right behind a commit."""

RETRY_S: Final = 0.2
ASK_TIMEOUT_S: Final = 2.0

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Batch:
    """What one shard gave. `complete_at` is set when there was nothing behind it."""

    shard: int
    messages: tuple[Stored, ...]
    sequence: int
    complete_at: float | None


@dataclass(frozen=True, slots=True)
class Mending:
    """What a peer knows of some messages, to be merged into ours."""

    messages: tuple[Message, ...]


class Projector:
    """Use as a service: `open` once, then `run` until cancelled."""

    name = "projector"

    def __init__(
        self,
        log: RetainedLog,
        path: Path,
        progress: Progress,
        *,
        cluster: str,
        clock: Clock,
        on_newer: Callable[[str], None] | None = None,
        crash_here: CrashHere = never_crash,
        refill: Refill | None = None,
    ) -> None:
        """`on_newer` is called once with the reason if the log is of a newer version. `refill` is
        where a copy may come from besides this host."""
        self._log = log
        self._path = path
        self._progress = progress
        self._cluster = cluster
        self._clock = clock
        self._on_newer = on_newer
        self._crash_here = crash_here
        self._refill = refill
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="projector")
        self._batches: asyncio.Queue[Batch | Mending] = asyncio.Queue(maxsize=BATCHES_WAITING_MAX)
        self._folding: Folding | None = None

    async def open(self) -> None:
        """Open the copy, made ready if it is not. Raises `LogUnavailable` and `CopyLost`."""
        self._progress.keywords_change()
        await make_ready(self._log, self._path, self._cluster, self._refill)
        database = await self._in_thread(_open, self._path, self._cluster)
        cursors = schema.cursors(database)
        self._folding = Folding(database)
        self._progress.keywords_changed()
        self._progress.hold(is_held=False)
        for shard in range(self._log.shards):
            self._progress.record(shard, sequence=cursors.get(shard, 0), complete_at=0.0)

    async def run(self) -> None:
        """Until cancelled; what was fetched and not written is fetched again by the next run."""
        folding = self._folding
        if folding is None:
            raise RuntimeError("the projector is opened before it runs")
        try:
            async with asyncio.TaskGroup() as tasks:
                for shard in range(self._log.shards):
                    tasks.create_task(self._follow(shard))
                tasks.create_task(self._write(folding))
        finally:
            self._thread.shutdown(wait=True, cancel_futures=True)
            folding.close()

    async def mend(self, messages: Sequence[Message]) -> None:
        """Have these merged into the copy, in turn with what comes from the log. What is lost on
        the way to the disk is found again by the next comparison."""
        await self._batches.put(Mending(tuple(messages)))

    async def _follow(self, shard: int) -> None:
        position = self._progress.sequence(shard)
        asked_at = self._clock.wall()
        if await self._log.last_sequence(shard, timeout_s=ASK_TIMEOUT_S) == position:
            await self._batches.put(Batch(shard, (), position, asked_at))
        while True:
            try:
                follower = await self._log.follower(shard, after=position)
                try:
                    while True:
                        asked_at = self._clock.wall()
                        taken = await follower.fetch(FETCH_MAX, FETCH_WAIT_S)
                        position = taken[-1].sequence if taken else position
                        complete_at = asked_at if follower.is_at_end else None
                        await self._batches.put(Batch(shard, tuple(taken), position, complete_at))
                finally:
                    await follower.close()
            except LogUnavailable as error:
                _log.info("replica.waiting_for_log", shard=shard, reason=str(error))
                await self._clock.sleep(RETRY_S)

    async def _write(self, folding: Folding) -> None:
        while True:
            taken = [await self._batches.get()]
            while not self._batches.empty() and len(taken) < BATCHES_WRITTEN_MAX:
                taken.append(self._batches.get_nowait())
            batches = [each for each in taken if isinstance(each, Batch)]
            written: list[Batch | Mending] = [
                each for each in taken if isinstance(each, Mending) or each.messages
            ]
            try:
                for batch in written:
                    await self._add(folding, batch)
            except NewerEvent as newer:
                await self._commit(folding)
                await self._stand_still(str(newer))
            is_busy = folding.rows >= BUSY_ROWS
            if written:
                await self._commit(folding)
                self._crash_here(CrashPoint.PROJECTION_AFTER_COMMIT)
            for batch in batches:
                self._progress.record(
                    batch.shard, sequence=batch.sequence, complete_at=batch.complete_at
                )
            if written:
                self._progress.wake()
                await self._clock.sleep(COMMIT_BUSY_PAUSE_S if is_busy else COMMIT_PAUSE_S)

    async def _add(self, folding: Folding, batch: Batch | Mending) -> None:
        if isinstance(batch, Mending):
            self._merge(folding, batch)
            return
        began = self._clock.monotonic()
        for stored in batch.messages:
            while not self._added(folding, stored):
                await self._clock.sleep(RETRY_S)
            if self._clock.monotonic() - began >= FOLD_SLICE_S:
                await asyncio.sleep(0)
                began = self._clock.monotonic()
        folding.move(batch.shard, batch.sequence)

    def _merge(self, folding: Folding, mending: Mending) -> None:
        try:
            folding.begin()
            for message in mending.messages:
                folding.mend(message)
        except sqlite3.Error as error:
            self._give_up_if_corrupt(error)
            _log.warning("replica.cannot_read", error=str(error))

    async def _stand_still(self, reason: str) -> None:
        """Until cancelled: what is behind this place is for a newer version to read, and would be
        lost for good if the cursor passed it."""
        _log.error("replica.newer_log", reason=reason, mend="run the newer version")
        self._progress.hold(is_held=True)
        if self._on_newer is not None:
            self._on_newer(reason)
        await asyncio.Event().wait()

    def _added(self, folding: Folding, stored: Stored) -> bool:
        try:
            return add(folding, stored)
        except sqlite3.Error as error:
            self._give_up_if_corrupt(error)
            return False

    async def _commit(self, folding: Folding) -> None:
        """Until it is done: a full disk is waited out, and nothing is lost by waiting.

        Only the flush is left to a thread. Rows are written here, because a thread that gives up
        and takes back the interpreter's lock for every row makes the whole process wait.
        """
        failing_since: float | None = None
        while True:
            try:
                for _ in folding.write_in_steps():
                    await asyncio.sleep(0)
                if folding.writes_keywords:
                    self._progress.keywords_change()
                self._crash_here(CrashPoint.PROJECTION_BEFORE_COMMIT)
                await self._in_thread(folding.commit)
            except sqlite3.Error as error:
                folding.take_back()
                self._give_up_if_corrupt(error)
                if failing_since is None:
                    failing_since = self._clock.monotonic()
                    _log.warning("replica.cannot_write", path=str(self._path), error=str(error))
                await self._clock.sleep(RETRY_S)
            else:
                if folding.writes_keywords:
                    self._progress.keywords_changed()
                folding.forget_written()
                if failing_since is not None:
                    after_s = round(self._clock.monotonic() - failing_since, 1)
                    _log.info("replica.writes_again", path=str(self._path), after_s=after_s)
                return

    def _give_up_if_corrupt(self, error: sqlite3.Error) -> None:
        """Waiting mends a full disk, but no spoilt file: this process ends, and the one that is
        started in its place restores the copy."""
        if schema.is_corrupt(error):
            schema.damage_mark(self._path).touch()
            raise error

    async def _in_thread(
        self,
        function: Callable[Arguments, Result],
        *arguments: Arguments.args,
        **_: Arguments.kwargs,
    ) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)


def _open(path: Path, cluster: str) -> sqlite3.Connection:
    return schema.open_for_writing(path, cluster=cluster)


def add(folding: Folding, stored: Stored) -> bool:
    """Take in one message of the log; a damaged one is told of and passed over. False when the copy
    itself cannot be read just now. Raises `NewerEvent`."""
    if stored.subject == marker_subject(stored.shard):
        return True
    try:
        folding.begin()
        events = decode_all(stored.payload)
        if len(events) > 1 and events[0].type is Type.ORIGINAL:
            folding.look_up(events)
        for event in events:
            folding.add(event, event.body(), stored)
    except NewerEvent:
        raise
    except (UnreadableEvent, ValueError, TypeError, KeyError) as error:
        _log.error("replica.unreadable_event", subject=stored.subject, error=str(error))
    except sqlite3.Error as error:
        if schema.is_corrupt(error):
            raise
        _log.warning("replica.cannot_read", error=str(error))
        return False
    return True
