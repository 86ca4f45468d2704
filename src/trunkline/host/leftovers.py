"""Halves of small files, which a process that died between the writing and the renaming left behind.

Whatever is written in one step is written under a name that ends in `.new` first. The writer removes
that name before it uses it again; but where the name has the writer's process id in it, nobody ever
does, and half a copy of a database takes room until the next one. So they are removed here, for all
writers, when a host starts.
"""

import re
from pathlib import Path
from typing import Final

from trunkline.host.layout import Layout

HALF: Final = re.compile(r".+\.new(-wal|-shm|-journal)?\Z")
"""A name of `durable.NEW_SUFFIX`, or of what a database keeps beside the file of such a name."""


def clear_away(layout: Layout) -> int:
    """Remove them; how many there were. The engine's own store below `log` is not looked into.

    To be called by the process that works in the folder, or by the parent that holds its lock for
    it, before anything is written there. What cannot be removed stays, and does no harm.
    """
    folders = (
        layout.data,
        layout.log,
        layout.replica.parent,
        layout.snapshots,
        layout.run,
        layout.leases,
        layout.metrics,
    )
    return sum(_removed(path) for folder in folders for path in _halves(folder))


def _halves(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if HALF.match(path.name)]
    except OSError:
        return []


def _removed(path: Path) -> bool:
    try:
        if path.is_dir() and not path.is_symlink():
            return False
        path.unlink()
    except OSError:
        return False
    return True
