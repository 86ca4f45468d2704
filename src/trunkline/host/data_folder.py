"""Opening a data folder: checked, locked, and made at its birth, before anything works in it.

Birth writes the credentials first and the format last, so that a folder with a format is complete
and one that was cut short is simply born again.
"""

from dataclasses import dataclass
from pathlib import Path

from trunkline.domain.ports import Entropy
from trunkline.host import credentials, storage
from trunkline.host import format as data_format
from trunkline.host.credentials import Credentials
from trunkline.host.format import Format
from trunkline.host.layout import FolderLock, Layout
from trunkline.host.refusal import DataFolderError


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A folder this process may work in until it releases the lock, which is None where the
    parent process holds it."""

    layout: Layout
    format: Format
    credentials: Credentials
    lock: FolderLock | None

    def release(self) -> None:
        if self.lock is not None:
            self.lock.release()


def open_folder(data: Path, *, entropy: Entropy, is_locked: bool = False) -> DataFolder:
    """Raises `DataFolderError` or one of its kinds; then nothing was changed.

    `is_locked` says that the parent process holds the lock for us.
    """
    layout = Layout(data)
    check_folder(layout)
    layout.make()
    lock = None if is_locked else FolderLock.take(layout)
    try:
        # Read again, under the lock: another process may have given birth meanwhile.
        found = data_format.read(layout)
        if found is None:
            return _give_birth(layout, lock, entropy)
        found = data_format.raise_number(layout, found)
        return DataFolder(layout, found, _credentials_of(layout), lock)
    except BaseException:
        if lock is not None:
            lock.release()
        raise


def check_folder(layout: Layout) -> None:
    """Raise what `open_folder` refuses, but for another process at work there. Changes nothing."""
    try:
        storage.check(layout.data, is_new=not layout.format.exists())
        if data_format.read(layout) is None:
            credentials.read(layout)
        else:
            _credentials_of(layout)
    except OSError as error:
        raise DataFolderError(
            f"cannot look into the data folder {layout.data} ({error.strerror})",
            "do this as the user whose folder it is, or choose another with --data",
        ) from error


def _give_birth(layout: Layout, lock: FolderLock | None, entropy: Entropy) -> DataFolder:
    owner = credentials.read(layout) or credentials.born(entropy)
    credentials.write(layout, owner)
    newborn = data_format.born(entropy)
    data_format.write(layout, newborn)
    return DataFolder(layout, newborn, owner, lock)


def _credentials_of(layout: Layout) -> Credentials:
    found = credentials.read(layout)
    if found is None:
        raise DataFolderError(f"{layout.credentials} is missing", "put back the one of a backup")
    return found
