"""Opening a data folder: checked, locked, and made at its birth, before anything works in it.

Birth writes the credentials first and the format last, so that a folder with a format is complete
and one that was cut short is simply born again.
"""

from dataclasses import dataclass
from pathlib import Path

from trunkline.domain.ports import Entropy
from trunkline.host import credentials, leftovers, storage
from trunkline.host import format as data_format
from trunkline.host.cluster_secret import ClusterSecret, read_secret
from trunkline.host.config import Settings
from trunkline.host.credentials import Credentials
from trunkline.host.format import Format, Place
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


@dataclass(frozen=True, slots=True)
class Seat:
    """This host's place in its cluster: the secret they share, and the name it has there."""

    secret: ClusterSecret
    host: str

    @property
    def place(self) -> Place:
        return Place(self.secret.cluster_id, self.host)


def seat_of(settings: Settings) -> Seat | None:
    """What the settings say; None for one host alone. Raises `ConfigError` for a token file that
    cannot be used."""
    if not settings.cluster.hosts or settings.cluster.token_file is None:
        return None
    return Seat(read_secret(settings.cluster.token_file), settings.host.name)


def open_folder(
    data: Path, *, entropy: Entropy, is_locked: bool = False, seat: Seat | None = None
) -> DataFolder:
    """Raises `DataFolderError` or one of its kinds; then nothing was changed.

    `is_locked` says that the parent process holds the lock for us. Without a `seat` it is the folder
    of one host alone.
    """
    layout = Layout(data)
    place = None if seat is None else seat.place
    check_folder(layout, place)
    layout.make()
    lock = None if is_locked else FolderLock.take(layout)
    try:
        leftovers.clear_away(layout)
        # Read again, under the lock: another process may have given birth meanwhile.
        found = data_format.read(layout)
        if found is None:
            return _give_birth(layout, lock, entropy, seat)
        data_format.require_place(found, place, where=str(layout.data))
        found = data_format.raise_number(layout, found)
        return DataFolder(layout, found, _credentials_of(layout), lock)
    except BaseException:
        if lock is not None:
            lock.release()
        raise


def check_folder(layout: Layout, place: Place | None = None) -> None:
    """Raise what `open_folder` refuses, but for another process at work there. Changes nothing."""
    try:
        storage.check(layout.data, is_new=not layout.format.exists())
        found = data_format.read(layout)
        if found is None:
            credentials.read(layout)
        else:
            data_format.require_place(found, place, where=str(layout.data))
            _credentials_of(layout)
    except OSError as error:
        raise DataFolderError(
            f"cannot look into the data folder {layout.data} ({error.strerror})",
            "do this as the user whose folder it is, or choose another with --data",
        ) from error


def _give_birth(
    layout: Layout, lock: FolderLock | None, entropy: Entropy, seat: Seat | None
) -> DataFolder:
    if seat is None:
        owner = credentials.read(layout) or credentials.born(entropy)
    else:
        # A birth that was cut short may have been for one host alone.
        owner = credentials.derived(seat.secret)
    credentials.write(layout, owner)
    newborn = data_format.born(entropy, None if seat is None else seat.place)
    data_format.write(layout, newborn)
    return DataFolder(layout, newborn, owner, lock)


def _credentials_of(layout: Layout) -> Credentials:
    found = credentials.read(layout)
    if found is None:
        raise DataFolderError(f"{layout.credentials} is missing", "put back the one of a backup")
    return found
