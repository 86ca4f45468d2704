"""Small files that survive a power failure: either the old content or the new, never a mixture.

All are readable by their owner only, because most hold a secret.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
NEW_SUFFIX: Final = ".new"
"""Ends the name of a file that is still being written."""

_FULL_FLUSH: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)


def flush(descriptor: int) -> None:
    """Return when the file's bytes are on the medium."""
    if _FULL_FLUSH is None:
        os.fsync(descriptor)
    else:
        # fsync(2) on macOS leaves the bytes in the drive's own cache; F_FULLFSYNC does not.
        fcntl.fcntl(descriptor, _FULL_FLUSH)


def flush_folder(folder: Path) -> None:
    """Return when the folder's entries (creations, renames) are on the medium."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, content: bytes) -> None:
    """Put `content` at `path`, flushed, in one step."""
    partial = path.with_name(path.name + NEW_SUFFIX)
    partial.unlink(missing_ok=True)
    descriptor = create(partial)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            flush(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def try_write(path: Path) -> None:
    """Raise the `OSError` that `write_file` would most likely raise; leave everything as it is."""
    partial = path.with_name(path.name + NEW_SUFFIX)
    partial.unlink(missing_ok=True)
    os.close(create(partial))
    partial.unlink()


def create(path: Path) -> int:
    """A descriptor of a file that did not exist before, for writing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, FILE_MODE)


def make_folder(path: Path) -> None:
    """Make `path` and what is missing above it, for its owner only."""
    for folder in reversed([path, *path.parents]):
        if not folder.is_dir():
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
