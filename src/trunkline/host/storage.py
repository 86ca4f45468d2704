"""Whether the disk under a data folder can keep the promise: local, writable, and with room.

A network file system is refused: its locks and flushes mean something else, and a host whose disk
is elsewhere does not fail alone.
"""

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Final

from trunkline.host.refusal import DataFolderError
from trunkline.host.setting_kinds import MIB

FREE_DISK_BYTES_MIN: Final = 256 * MIB
"""Below this a host does not start: the engine and the read copy need room to work."""

FREE_DISK_TO_GO_ON_BYTES_MIN: Final = 32 * MIB
DATA_PATH_BYTES_MAX: Final = 600
"""macOS allows a path 1024 bytes; the engine's own names below the folder take up to 300."""

NETWORK_FILE_SYSTEMS: Final = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.rclone",
    "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs",
    "smb2", "smb3", "smbfs",
})  # fmt: skip

_MOUNTS: Final = Path("/proc/self/mountinfo")
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


def check(data: Path, *, is_new: bool = True) -> None:
    """Raises `DataFolderError` if the folder, or the place where it will be, cannot be used.

    A folder that is not new asks for less room: what it has accepted must be delivered, and a host
    that runs short of room takes nothing more by itself.
    """
    length = len(os.fsencode(data))
    if length > DATA_PATH_BYTES_MAX:
        raise DataFolderError(
            f"the path of the data folder is {length} bytes long, more than {DATA_PATH_BYTES_MAX}",
            "choose a shorter one with --data",
        )
    place = _nearest_existing(data)
    if not place.is_dir():
        raise DataFolderError(f"{place} is a file, not a folder", "choose a folder with --data")
    if not os.access(place, os.W_OK | os.X_OK):
        raise DataFolderError(
            f"this user may not write in {place}",
            "give the user that folder, or choose another with --data",
        )
    file_system = file_system_of(data)
    if file_system in NETWORK_FILE_SYSTEMS:
        raise DataFolderError(
            f"the data folder {data} is on a network file system ({file_system})",
            "choose a folder on a local disk with --data",
        )
    free, wanted = free_bytes(data), FREE_DISK_BYTES_MIN if is_new else FREE_DISK_TO_GO_ON_BYTES_MIN
    if free < wanted:
        raise DataFolderError(
            f"the disk of {data} has {free // MIB} MiB free, less than {wanted // MIB} MiB",
            "make room, or choose another disk with --data",
        )


def free_bytes(data: Path) -> int:
    """What this user may still write on the disk of `data`."""
    return shutil.disk_usage(_nearest_existing(data)).free


def file_system_of(data: Path) -> str | None:
    """The kind of file system under `data`, or None where the system does not say."""
    if sys.platform != "linux":
        return None
    try:
        mounts = _MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    return file_system_in(mounts, _nearest_existing(data).resolve())


def file_system_in(mounts: str, path: Path) -> str | None:
    """The kind of file system that holds `path`, from the text of a mountinfo file
    (proc_pid_mountinfo(5)). Of several mounts on one place the last is the visible one."""
    longest, found = -1, None
    for line in mounts.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        if path.is_relative_to(point) and len(point.parts) >= longest:
            longest, found = len(point.parts), after.split(" ", 1)[0]
    return found


def _nearest_existing(path: Path) -> Path:
    return next((place for place in (path, *path.parents) if place.exists()), Path("/"))
