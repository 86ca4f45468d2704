"""Small disks of a drill's own: file systems in files, that can be filled, or lose their power.

A file system in a file (ext4 behind a loop device) loses what a real disk loses: what was written and
not flushed is in the memory of the running kernel alone, so a copy of the file is what a machine
would find after its power came back.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.drills.processes import run_tool
from trunkline.drills.refusal import DrillError

MIB: Final = 1024 * 1024
DISK_BYTES: Final = 512 * MIB
KEPT_FREE_BYTES: Final = 100 * MIB
"""Below what a host keeps in reserve, so that it has to refuse."""
MOUNTS: Final = Path("/proc/self/mounts")
COMMIT_S: Final = 300
"""How long ext4 may keep what nobody flushes: longer than the drill."""


def reason_against_mounts() -> str:
    """Why no file system can be mounted here; empty if one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it mounts file systems of its own: run it as root on Linux"
    missing = [name for name in ("mount", "umount", "mkfs.ext4") if shutil.which(name) is None]
    return f"the program {missing[0]!r} is missing: install it" if missing else ""


@contextlib.contextmanager
def in_memory(place: Path) -> Iterator[None]:
    """A small file system at `place` until the block is left."""
    place.mkdir(parents=True, exist_ok=True)
    run_tool("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place))
    try:
        yield
    finally:
        run_tool("umount", "--lazy", str(place))


def unmount_below(folder: Path) -> None:
    """Whatever is mounted there, the innermost first, as far as that can be done."""
    try:
        lines = MOUNTS.read_text("utf-8").splitlines()
    except OSError:
        return
    places = [Path(line.split()[1]) for line in lines]
    for place in sorted((each for each in places if folder in each.parents), reverse=True):
        with contextlib.suppress(DrillError):
            run_tool("umount", "--lazy", str(place))


def fill(ballast: Path) -> int:
    """Take what room there is around `ballast`, but for a rest that is too small; the bytes taken."""
    taken = max(0, shutil.disk_usage(ballast.parent).free - KEPT_FREE_BYTES)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, taken)
    return taken


@dataclass(frozen=True, slots=True)
class FileDisk:
    """A file system in the file `image`, mounted at `place`."""

    image: Path
    place: Path

    @staticmethod
    def made(image: Path, place: Path) -> "FileDisk":
        """A new one that holds what is at `place`, and is mounted over it. Nobody may work there."""
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        run_tool("mkfs.ext4", "-q", "-F", str(image))
        disk = FileDisk(image, place)
        before = place.with_name(place.name + ".before")
        place.rename(before)
        place.mkdir()
        disk.mount()
        shutil.copytree(before, place, dirs_exist_ok=True)
        os.sync()
        return disk

    def mount(self) -> None:
        """Its journal is replayed if it was not left in good order."""
        options = f"loop,commit={COMMIT_S}"
        run_tool("mount", "-t", "ext4", "-o", options, str(self.image), str(self.place))

    def unmount(self) -> None:
        run_tool("umount", "--lazy", str(self.place))

    def after_power_loss(self) -> "FileDisk":
        """A copy of what reached the disk so far; not mounted."""
        copy = self.image.with_suffix(".after")
        run_tool("cp", "--sparse=always", str(self.image), str(copy))
        return FileDisk(copy, self.place)
