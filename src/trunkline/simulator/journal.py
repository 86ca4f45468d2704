"""The simulator's file: append-only, one writer thread, many entries to a flush.

`append` returns at once; the callback runs in the event loop after the bytes are on the disk, in
the order of the appends. A writer that fails says so once and writes no more: a judge that cannot
write must stop, not go on from memory.
"""

import asyncio
import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from trunkline.simulator.entries import AnyEntry, UnreadableEntry, decode_entries

FILE_NAME: Final = "simulator.jsonl"
BACKLOG_BYTES_MAX: Final = 64 * 1024 * 1024
"""Waiting to be written; beyond it the wire answers 503."""
UNHURRIED_S: Final = 0.1
"""How long lines for which nobody waits may stand in memory, to go with others to the disk."""
CLOSE_DEADLINE_S: Final = 10.0
READ_BYTES: Final = 1024 * 1024
"""Of the file at once; it is never in memory as a whole."""

_flush: Final = getattr(os, "fdatasync", os.fsync)  # flushes the length as well, and costs less
_log = structlog.get_logger()

OnDurable = Callable[[], None]


class JournalError(Exception):
    """The file cannot be used; the text says why and what to do."""


class Journal:
    """One open file. Made by `open_journal`, which also reads it."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.path = path
        self._descriptor = descriptor
        self._wake = threading.Condition()
        self._waiting: list[tuple[bytes, OnDurable | None]] = []
        self._backlog_bytes = 0
        self._is_closing = False
        self._is_hurried = False
        self._thread: threading.Thread | None = None

    @property
    def is_full(self) -> bool:
        """Whether new work should be turned away until the disk has caught up."""
        return self._backlog_bytes > BACKLOG_BYTES_MAX

    def start(self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[OSError], None]) -> None:
        """Start the writer. `on_failure` and the callbacks of `append` run in `loop`."""
        self._thread = threading.Thread(
            target=self._write_until_closed, args=(loop, on_failure), name="journal", daemon=True
        )
        self._thread.start()

    def append(self, lines: bytes, on_durable: OnDurable | None = None) -> None:
        """Write `lines`, and call `on_durable` when they are flushed; never, if that fails. Without
        it there is no hurry, and they may wait a moment for others to go with."""
        with self._wake:
            self._waiting.append((lines, on_durable))
            self._backlog_bytes += len(lines)
            if on_durable is not None:
                self._is_hurried = True
                self._wake.notify()

    def close(self) -> None:
        """Write what waits, stop the writer and let the file go. Callbacks may be left uncalled."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_DEADLINE_S)
        os.close(self._descriptor)

    def _write_until_closed(
        self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[OSError], None]
    ) -> None:
        while batch := self._next_batch():
            try:
                _write_all(self._descriptor, b"".join(lines for lines, _ in batch))
                _flush(self._descriptor)
            except OSError as error:
                _in_loop(loop, partial(on_failure, error))
                return
            done = [on_durable for _, on_durable in batch if on_durable is not None]
            if done:
                _in_loop(loop, partial(_call_all, done))

    def _next_batch(self) -> list[tuple[bytes, OnDurable | None]]:
        """Everything that waits, as soon as somebody waits for it; empty when closed and drained."""
        with self._wake:
            while not self._is_hurried and not self._is_closing:
                if not self._wake.wait(UNHURRIED_S) and self._waiting:
                    break
            batch, self._waiting = self._waiting, []
            self._backlog_bytes = 0
            self._is_hurried = False
            return batch


def open_journal(directory: Path) -> tuple[Journal, Iterator[AnyEntry]]:
    """The file of `directory`, made when missing, and its entries, to be read before it is started.

    A line cut off by a crash at the very end is removed. Raises `JournalError` when another process
    has the file; reading raises it when a line inside is damaged.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / FILE_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise JournalError(
            f"another simulator is using {path}: stop it, or give this one another --data"
        ) from error
    _cut_torn_line(descriptor, path)
    _flush_directory(directory)
    return Journal(descriptor, path), _entries(path)


def _entries(path: Path) -> Iterator[AnyEntry]:
    number = 0
    with path.open("rb") as file:
        while lines := file.readlines(READ_BYTES):
            try:
                yield from decode_entries(b"".join(lines))
            except UnreadableEntry:
                raise _damage(path, number, lines) from None
            number += len(lines)


def _damage(path: Path, number: int, lines: Sequence[bytes]) -> JournalError:
    """Names the first of `lines`, which come behind line `number`, that is no entry."""
    why = "it is no entry"
    for line in lines:
        number += 1
        try:
            decode_entries(line)
        except UnreadableEntry as error:
            why = str(error)
            break
    return JournalError(
        f"{path} line {number} is damaged ({why}): repair it, or move the file away "
        "to start with an empty network"
    )


def _cut_torn_line(descriptor: int, path: Path) -> None:
    """Only the last line can be torn: every earlier one was flushed with what follows it."""
    size = os.fstat(descriptor).st_size
    end = _end_of_last_whole_line(path, size)
    if end == size:
        return
    os.ftruncate(descriptor, end)
    _flush(descriptor)
    _log.warning("simulator.journal.torn", path=str(path), cut_bytes=size - end)


def _end_of_last_whole_line(path: Path, size: int) -> int:
    """Where the torn tail begins; `size` when there is none.

    A killed writer leaves a line without an end; a power loss may also leave zeros where a write
    was under way. Anything else that does not decode is not a torn tail and is not cut.
    """
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = _start_of_line(file.fileno(), end)
            line = os.pread(file.fileno(), end - start, start)
            if line.endswith(b"\n") and b"\0" not in line:
                return end
            end = start
        return end


def _start_of_line(descriptor: int, end: int) -> int:
    """The offset behind the last line end before `end - 1`."""
    position = end - 1
    while position > 0:
        step = min(position, 65_536)
        block = os.pread(descriptor, step, position - step)
        found = block.rfind(b"\n")
        if found >= 0:
            return position - step + found + 1
        position -= step
    return 0


def _write_all(descriptor: int, lines: bytes) -> None:
    rest = memoryview(lines)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _call_all(calls: Sequence[OnDurable]) -> None:
    for call in calls:
        call()


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
