"""A lost disk: everything in a dead host's folder is gone."""

import shutil
from pathlib import Path
from typing import Final

RUN_NAMES: Final = frozenset({"run", "lock"})
"""Of the processes that run, not of the disk: the parent of the host holds them open."""


def wipe(data: Path) -> int:
    """Remove all that the host had; how many entries that were. Its processes must be dead."""
    gone = [each for each in data.iterdir() if each.name not in RUN_NAMES]
    for each in gone:
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()
    return len(gone)
