"""Backup and restore of a stopped host: the whole data folder, but for what only a run needs.

Neither leaves anything half done behind: an archive gets its name, and a restored folder its place,
only after every byte was checked.
"""

import os
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.host import archive, durable, growth, storage
from trunkline.host import format as data_format
from trunkline.host.archive import Header, Progress
from trunkline.host.format import Format, Place
from trunkline.host.layout import FolderLock, Layout
from trunkline.host.refusal import ArchiveError, DataFolderError, HostError
from trunkline.kernel import Clock
from trunkline.version import __version__

PARTIAL_SUFFIX: Final = ".partial"


@dataclass(frozen=True, slots=True)
class Inventory:
    """The entries of a data folder that a backup holds, folders before what is in them."""

    names: tuple[str, ...]
    files: int
    bytes: int


class Total:
    """Tells how many bytes there are to do in all, once that is known, and then each step."""

    def begin(self, total: int) -> None: ...

    def step(self, count: int) -> None: ...


def back_up(data: Path, target: Path, *, clock: Clock, total: Total) -> Header:
    """Write the data folder to the new file `target` and read it back.

    Raises `FolderInUseError` while a host runs on it, and other `HostError`s; then there is no
    `target`.
    """
    layout = Layout(data)
    found = data_format.read(layout) if layout.format.exists() else None
    if found is None:
        raise DataFolderError(
            f"there is no host's data in {data}", "name the folder of a host with --data"
        )
    target = target.absolute()
    if target.exists():
        raise ArchiveError(f"{target} exists already", "choose another name with --to")
    if target.parent.resolve().is_relative_to(data.resolve()):
        raise ArchiveError(
            f"{target} lies in the data folder itself", "choose a place outside it with --to"
        )
    lock = FolderLock.take(layout)
    partial = target.with_name(target.name + PARTIAL_SUFFIX)
    try:
        held = inventory(layout)
        header = Header(
            cluster=found.cluster,
            created_at=clock.wall(),
            created_by=__version__,
            files=held.files,
            bytes=held.bytes,
        )
        total.begin(2 * held.bytes)
        _write(partial, layout.data, held, header, total.step)
        partial.rename(target)
        durable.flush_folder(target.parent)
    except OSError as error:
        raise ArchiveError(
            f"cannot write the backup {target} ({error.strerror})",
            "make room, or choose another place with --to",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
        lock.release()
    return header


def restore(
    source: Path,
    data: Path,
    *,
    total: Total,
    place: Place | None = None,
    brings_log: bool = False,
) -> Header:
    """Put the backup `source` in place as the data folder `data`, which must be empty or absent.

    With a `place`, it becomes the folder of that host of a cluster; if the backup is that of one
    host alone, one of the hosts `brings_log`. Raises `ArchiveError` or `DataFolderError`; then nothing is in place.
    """
    data = data.absolute()
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise DataFolderError(f"{data} is not empty", "choose a new folder with --data")
    storage.check(data)
    staging = data.with_name(f".{data.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    try:
        durable.make_folder(staging)
        total.begin(0)
        with source.open("rb") as file:
            header = archive.read(file, where=str(source), into=staging, done=total.step)
        found = _require_usable(staging, header, source)
        if place is not None and found.mode == data_format.ALONE:
            growth.prepare(Layout(staging), place, brings_log=brings_log)
        elif place is not None:
            data_format.require_place(found, place, where=str(source))
        for folder, _, _ in os.walk(staging):
            durable.flush_folder(Path(folder))
        staging.rename(data)
        durable.flush_folder(data.parent)
    except OSError as error:
        raise ArchiveError(
            f"cannot restore {source} into {data} ({error.strerror})",
            "check the file that --from names, and that there is room",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return header


def inventory(layout: Layout) -> Inventory:
    """What a backup of the folder holds. Raises `DataFolderError` for a link or a special file."""
    names: list[str] = []
    files = size = 0
    pending = [path for path in _entries(layout.data) if path.name not in layout.passing_names()]
    while pending:
        path = pending.pop(0)
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise DataFolderError(
                f"{path} is neither a file nor a folder, and cannot be backed up", "remove it"
            )
        if path.name.endswith(durable.NEW_SUFFIX) and stat.S_ISREG(mode):
            continue
        names.append(path.relative_to(layout.data).as_posix())
        if stat.S_ISDIR(mode):
            pending[:0] = _entries(path)
        else:
            files += 1
            size += path.lstat().st_size
    return Inventory(tuple(names), files, size)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def _write(partial: Path, data: Path, held: Inventory, header: Header, step: Progress) -> None:
    partial.unlink(missing_ok=True)
    with os.fdopen(durable.create(partial), "wb") as file:
        archive.write(file, data, list(held.names), header, step)
        file.flush()
        durable.flush(file.fileno())
    with partial.open("rb") as file:
        archive.read(file, where=str(partial), into=None, done=step)


def _require_usable(staging: Path, header: Header, source: Path) -> Format:
    """An archive whose files are as listed can still hold a format we must not touch."""
    try:
        found = data_format.read(Layout(staging))
    except HostError as error:
        raise ArchiveError(f"{source} cannot be used here ({error.cause})", error.mend) from error
    if found is None or found.cluster != header.cluster:
        raise ArchiveError(f"{source} does not hold what it says", "use another backup")
    return found
