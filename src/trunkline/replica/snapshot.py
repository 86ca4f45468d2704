"""Snapshots of the read copy: whole, checked files beside it, from which it is restored.

Once the log is trimmed, the copy cannot be made from the log alone. A snapshot is a copy of the copy
at one moment, cursors inside; with the log's tail behind those cursors it is a copy again. It counts
only when it was read back, flushed, and has its name.
"""

import contextlib
import fcntl
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final

from trunkline.kernel.crash import CrashHere, CrashPoint, never_crash
from trunkline.replica import schema

KEPT_MAX: Final = 2
"""One is for use; the other is for the case that the disk has spoilt the first."""

STEP_PAGES: Final = 256
STEP_PAUSE_S: Final = 0.02
"""A mebibyte, and then others get the disk: at most 50 MiB a second."""

FLUSH_EVERY_STEPS: Final = 8
"""So that there is never much to flush at once: the log's own flushes wait behind it."""

STOP_LOOKED_AT_EVERY: Final = 100_000
"""Instructions of SQLite between two looks whether the host is stopping: some milliseconds."""

ROOM_KEPT_BYTES: Final = 512 * 1024 * 1024
"""A snapshot that would leave the disk less than this is not begun."""

NEW_SUFFIX: Final = ".new"
LOCK_NAME: Final = "lock"
LOCK_POLL_S: Final = 0.1
_NAME: Final = re.compile(r"([0-9]{8})\.db\Z")


class SnapshotFailed(Exception):
    """There is no new snapshot; the text says why. The ones before it are untouched."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A checked one. `cursors` has a sequence for each shard that the copy had seen anything of."""

    path: Path
    cursors: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The snapshots of the copy at `copy`. Everything here blocks, and belongs into a thread."""

    copy: Path
    cluster: str
    crash_here: CrashHere = never_crash
    pause_s: float = STEP_PAUSE_S

    @property
    def folder(self) -> Path:
        return self.copy.with_name("snapshots")

    def take(self, stop: Event, is_enough: Callable[[Snapshot], bool] | None = None) -> Snapshot:
        """Make another one while the copy is written to, and forget the oldest; but none if the
        newest of those there are `is_enough`.

        Raises `SnapshotFailed`. `stop` ends it early, and that is a failure too.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone(stop):
            for path in self._names()[:1] if is_enough is not None else ():
                cursors = check(path, self.cluster, is_hasty=True)
                if cursors is None or is_enough is None or not is_enough(Snapshot(path, cursors)):
                    continue
                if check(path, self.cluster, stop) is not None:
                    return Snapshot(path, cursors)
            return self._take(stop)

    def _take(self, stop: Event) -> Snapshot:
        try:
            self._clear_away()
            self._require_room()
            names = self._names()
            number = 1 + (int(names[0].stem) if names else 0)
            path = self.folder / f"{number:08d}.db"
            partial = path.with_name(path.name + NEW_SUFFIX)
            _copy(self.copy, partial, stop, self.pause_s)
            cursors = check(partial, self.cluster, stop)
            if cursors is None:
                raise SnapshotFailed(f"{partial} was read back, and is not what was copied")
            _flush(partial)
            self.crash_here(CrashPoint.SNAPSHOT_BEFORE_RENAME)
            partial.replace(path)
            _flush(self.folder)
            self.crash_here(CrashPoint.SNAPSHOT_AFTER_RENAME)
            for old in self._names()[KEPT_MAX:]:
                old.unlink()
        except (OSError, sqlite3.Error) as error:
            with contextlib.suppress(OSError):
                self._clear_away()
            raise SnapshotFailed(str(error)) from error
        return Snapshot(path, cursors)

    def good(self, stop: Event | None = None) -> list[Snapshot]:
        """Those that can be used, newest first; each is read through. With `stop`, only those that
        were looked at before."""
        found = [(path, check(path, self.cluster, stop)) for path in self._names()]
        return [Snapshot(path, cursors) for path, cursors in found if cursors is not None]

    def age_s(self, wall: float) -> float:
        """How long ago the newest got its name; infinite without any."""
        names = self._names()
        try:
            return max(0.0, wall - names[0].stat().st_mtime) if names else float("inf")
        except OSError:
            return float("inf")

    def _names(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _NAME.match(path.name)]
        return sorted(found, key=lambda path: path.name, reverse=True)

    @contextlib.contextmanager
    def _alone(self, stop: Event) -> Iterator[None]:
        """Wait for another process of this host that takes one; nobody touches its half of a file."""
        with (self.folder / LOCK_NAME).open("ab") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if stop.wait(LOCK_POLL_S):
                        raise SnapshotFailed("the host is stopping") from None
            yield

    def _clear_away(self) -> None:
        """What an earlier process left half done."""
        for path in self.folder.glob(f"*{NEW_SUFFIX}*"):
            path.unlink(missing_ok=True)

    def _require_room(self) -> None:
        free, wanted = shutil.disk_usage(self.folder).free, self.copy.stat().st_size
        if free - wanted < ROOM_KEPT_BYTES:
            raise SnapshotFailed(f"{wanted} bytes of copy, and only {free} free on the disk")


def check(
    path: Path, cluster: str, stop: Event | None = None, *, is_hasty: bool = False
) -> Mapping[int, int] | None:
    """The cursors of a snapshot that is whole, of this cluster and of this version; else `None`. In
    haste, it is not read through."""
    try:
        # Nobody writes to it, and without a name of its own nobody may make files beside it.
        with contextlib.closing(
            sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
        ) as database:
            if stop is not None:
                database.set_progress_handler(lambda: int(stop.is_set()), STOP_LOOKED_AT_EVERY)
            if not schema.is_ours(database, cluster):
                return None
            if not is_hasty and database.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
                return None
            return schema.cursors(database)
    except sqlite3.Error:
        return None


def restore(snapshot: Snapshot, copy: Path) -> None:
    """Move it to the place of the copy, which nobody writes to; what stood there is set aside.

    It is moved and not copied, because a host has a minute and a half to be ready, however large
    its copy is. The other snapshot stays, and the next one is taken within minutes.
    """
    schema.set_aside(copy)
    snapshot.path.replace(copy)
    _flush(copy.parent)
    _flush(snapshot.path.parent)


def _copy(source: Path, target: Path, stop: Event, pause_s: float) -> None:
    """One moment of `source`, in steps.

    The reading transaction is held over all of them: otherwise each commit of the projector would
    make the backup begin again. Meanwhile the copy's write-ahead log cannot shrink.
    """
    with (
        contextlib.closing(schema.open_for_reading(source)) as reading,
        contextlib.closing(sqlite3.connect(target, isolation_level=None)) as writing,
    ):
        writing.execute("PRAGMA journal_mode = OFF")
        writing.execute("PRAGMA synchronous = OFF")  # flushed below, step by step
        reading.execute("BEGIN")
        reading.execute("SELECT shard FROM cursor").fetchall()
        steps = 0

        def rest(status: int, remaining: int, total: int) -> None:
            nonlocal steps
            del status, total
            steps += 1
            if steps % FLUSH_EVERY_STEPS == 0:
                _flush(target)
            if remaining and stop.wait(pause_s):
                raise SnapshotFailed("the host is stopping")

        reading.backup(writing, pages=STEP_PAGES, progress=rest)


def _flush(path: Path) -> None:
    """Of a file its bytes, of a folder its names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
