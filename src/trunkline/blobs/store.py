"""A folder of files, each named by the SHA-256 of its bytes, and flushed before it has its name.

Nothing is ever changed in place, so any number of processes may read and write it at once. A file's
time of change is when it was last known to be wanted: who removes what nobody wants goes by that.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.domain.media import BYTES_MAX, SHA256

FREE_BYTES_MIN: Final = 128 * 1024 * 1024
"""Left for the log and the read copy, which stop the host where they find no room."""

_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700
_NEW: Final = ".new-"
"""Begins the name of a file that is still being written."""
_OLD: Final = ".old-"
"""Begins the name of a file that is being removed."""

_FULL_FLUSH: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)


class BlobError(Exception):
    """The bytes cannot be kept; the text says why."""


def name_of(content: bytes) -> str:
    """What names these bytes."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class BlobStore:
    """All methods block on the disk: they belong into a thread. `folder` is made when it is needed."""

    folder: Path

    def put(self, content: bytes, *, nonce: str) -> str:
        """Keep `content`; it is flushed when its name is returned. `nonce` names the file until
        then, and is to be nobody else's. Raises `BlobError` for more than `BYTES_MAX`, and
        `OSError`, after which nothing is left behind."""
        if len(content) > BYTES_MAX:
            raise BlobError(f"it has {len(content)} bytes, and {BYTES_MAX} may be")
        name = name_of(content)
        path = self._path(name)
        # Marked before it is read, so that nobody removes it in between; and its folder is flushed,
        # as whoever gave it its name may not have come so far.
        if self.want(name) and self.get(name) is not None:
            _flush_folder(path.parent)
            return name
        self._require_room(len(content))
        for folder in (self.folder, path.parent):
            if not folder.is_dir():
                folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
                _flush_folder(folder.parent)
        partial = path.with_name(f"{_NEW}{nonce}")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(partial, flags, _FILE_MODE), "wb") as file:
                file.write(content)
                file.flush()
                _flush(file.fileno())
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)
        return name

    def get(self, name: str) -> bytes | None:
        """The bytes, checked against their name; `None` where they are not here, or are damaged:
        then they are removed, so that whole ones can take their place."""
        path = self._path(name)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        if name_of(content) != name:
            path.unlink(missing_ok=True)
            return None
        return content

    def want(self, name: str) -> bool:
        """Whether it is here; if so, it is wanted from now on."""
        try:
            os.utime(self._path(name))
        except FileNotFoundError:
            return False
        return True

    def remove_unwanted(self, before: float) -> int:
        """Remove what nobody has wanted since `before`, in seconds since the epoch, and what was
        never finished; how many files that were."""
        removed = 0
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    removed += _take_away(path, before)
        return removed

    def size(self) -> tuple[int, int]:
        """How many files there are, and how many bytes they have."""
        files = sizes = 0
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                sizes += path.stat().st_size
                files += 1
        return files, sizes

    def _require_room(self, size: int) -> None:
        place = next(each for each in (self.folder, *self.folder.parents) if each.exists())
        if shutil.disk_usage(place).free - size < FREE_BYTES_MIN:
            raise OSError(errno.ENOSPC, "the rest of the disk is for the log")

    def _files(self) -> Iterator[Path]:
        if not self.folder.is_dir():
            return
        for shelf in sorted(self.folder.iterdir()):
            if shelf.is_dir():
                yield from shelf.iterdir()

    def _path(self, name: str) -> Path:
        if not SHA256.match(name):
            raise ValueError(f"{name!r} names no blob")
        return self.folder / name[:2] / name


def _take_away(path: Path, before: float) -> bool:
    """Remove a file, unless somebody wants it at this very moment: under another name it is found by
    nobody any more, and says whether it was found just before."""
    aside = path if path.name.startswith(".") else path.with_name(f"{_OLD}{path.name}")
    path.rename(aside)
    if aside.stat().st_mtime >= before:
        aside.rename(path)
        return False
    aside.unlink()
    return True


def _flush(descriptor: int) -> None:
    if _FULL_FLUSH is None:
        os.fsync(descriptor)
    else:
        # fsync(2) on macOS leaves the bytes in the drive's own cache; F_FULLFSYNC does not.
        fcntl.fcntl(descriptor, _FULL_FLUSH)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _flush(descriptor)
    finally:
        os.close(descriptor)
