"""What a drill that was killed left on the machine: its folder, what is mounted there, its networks.

A drill says what it makes in a small note among the temporary files, and holds a lock on it. Whoever
ends in good order takes the note away. A note that nobody holds is that of a drill that was killed,
and the next drill clears up behind it.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from trunkline.drills.faults.disks import unmount_below
from trunkline.drills.faults.network import Network

SUFFIX: Final = ".drill"
NOTE_BYTES_MAX: Final = 4096
NOTES_MAX: Final = 100
"""Of killed drills that are cleared up behind in one go."""


class Note(msgspec.Struct, frozen=True):
    """`number` is the one that the drill's networks are named after."""

    folder: str
    is_kept: bool
    hosts: int
    number: int


@contextlib.contextmanager
def noted(note: Note, place: Path | None = None) -> Iterator[None]:
    """While the block runs, and for as long as this process lives, the note is held."""
    path = _place(place) / f"trunkline-{os.getpid()}-{Path(note.folder).name}{SUFFIX}"
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(msgspec.json.encode(note))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def clear_up(place: Path | None = None) -> int:
    """Behind all drills that were killed; how many there were."""
    notes = sorted(_place(place).glob(f"trunkline-*{SUFFIX}"))[:NOTES_MAX]
    return sum(map(_clear_up_behind, notes))


def _clear_up_behind(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            note = msgspec.json.decode(file.read(NOTE_BYTES_MAX), type=Note)
            _undo(note)
            path.unlink(missing_ok=True)
    except (OSError, msgspec.MsgspecError):
        return False  # held, gone, of somebody else, or cut off in the middle of its writing
    return True


def _undo(note: Note) -> None:
    folder = Path(note.folder)
    unmount_below(folder)
    Network.named(note.hosts, number=note.number).remove()
    if not note.is_kept:
        shutil.rmtree(folder, ignore_errors=True)


def _place(given: Path | None) -> Path:
    return Path(tempfile.gettempdir()) if given is None else given
