"""The format of a backup: a gzipped tar whose first member says what it is and whose last one lists
every file with its size and SHA-256.

An archive without its last member was cut short. Members are plain files and folders; anything
else, and any name that leads elsewhere, makes the archive untrustworthy as a whole.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from trunkline.host import durable
from trunkline.host.refusal import ArchiveError
from trunkline.host.setting_kinds import MIB

ARCHIVE_FORMAT: Final = 1
PRODUCT: Final = "trunkline-backup"
HEADER: Final = "trunkline-backup.json"
MANIFEST: Final = "trunkline-manifest.json"
COMPRESSION_LEVEL: Final = 1
"""Messages and indexes shrink about as far at level 1 as at 9, many times faster."""
COPY_BYTES: Final = 1 * MIB
MANIFEST_BYTES_MAX: Final = 64 * MIB
MEMBERS_MAX: Final = 1_000_000
_OTHER_ARCHIVE: Final = "name the file that 'trunkline backup' wrote"
_DAMAGED: Final = "use another backup"

Progress = Callable[[int], None]
"""Told of each further number of bytes done."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first member. `files` and `bytes` are those of the whole archive."""

    cluster: str
    created_at: float
    created_by: str
    files: int
    bytes: int
    product: str = PRODUCT
    format: int = ARCHIVE_FORMAT


@dataclass(frozen=True, slots=True)
class FileFacts:
    size: int
    sha256: str


@dataclass(slots=True)
class Contents:
    """What was found in, or put into, an archive."""

    files: dict[str, FileFacts] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)


def write(target: IO[bytes], data: Path, names: list[str], header: Header, done: Progress) -> None:
    """Write the entries `names` of `data`, folders before what is in them."""
    contents = Contents()
    with (
        gzip.GzipFile(
            filename="", fileobj=target, mode="wb", compresslevel=COMPRESSION_LEVEL
        ) as zipped,
        tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        _add_bytes(tar, HEADER, json.dumps(asdict(header)).encode())
        for name in names:
            path = data / name
            if path.is_dir():
                folder = tarfile.TarInfo(name)
                folder.type, folder.mode = tarfile.DIRTYPE, durable.FOLDER_MODE
                tar.addfile(folder)
                contents.folders.append(name)
            else:
                contents.files[name] = _add_file(tar, path, name, done)
        _add_bytes(tar, MANIFEST, json.dumps(asdict(contents)).encode())


def read(source: IO[bytes], *, where: str, into: Path | None, done: Progress) -> Header:
    """Check the whole archive against its manifest, and unpack it into the empty folder `into`.

    Raises `ArchiveError` for anything that is not as the manifest says.
    """
    with (
        _damage_named(where),
        # Not tarfile's own decompression, which does not look at the checksum at the end.
        gzip.GzipFile(fileobj=source, mode="rb") as plain,
        tarfile.open(fileobj=plain, mode="r|") as tar,
    ):
        members = _members(tar, where)
        header = _header(tar, next(members, None), where)
        found = Contents()
        for member in members:
            if member.name == MANIFEST:
                _require_equal(_manifest(tar, member, where), found, where)
                _require_end(members, plain, where)
                return header
            _take(tar, member, found, into, where, done)
    raise ArchiveError(f"{where} is incomplete: its last part is missing", _DAMAGED)


@contextmanager
def _damage_named(where: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zlib.error, EOFError, UnicodeError) as error:
        raise ArchiveError(f"{where} is damaged, or is not a backup ({error})", _DAMAGED) from error
    except OSError as error:
        # gzip reports a wrong checksum as an OSError without a number.
        if error.errno is not None:
            raise
        raise ArchiveError(f"{where} is damaged, or is not a backup ({error})", _DAMAGED) from error


def _members(tar: tarfile.TarFile, where: str) -> Iterator[tarfile.TarInfo]:
    for count, member in enumerate(tar):
        if count > MEMBERS_MAX:
            raise ArchiveError(f"{where} has more than {MEMBERS_MAX} members", _DAMAGED)
        yield member


def _header(tar: tarfile.TarFile, member: tarfile.TarInfo | None, where: str) -> Header:
    if member is None or member.name != HEADER:
        raise ArchiveError(f"{where} is not a backup of Trunkline", _OTHER_ARCHIVE)
    document = _document(tar, member, where)
    if document.get("product") != PRODUCT:
        raise ArchiveError(f"{where} is not a backup of Trunkline", _OTHER_ARCHIVE)
    if document.get("format") != ARCHIVE_FORMAT:
        raise ArchiveError(
            f"{where} has backup format {document.get('format')!r}, written by version "
            f"{document.get('created_by')}; this program reads format {ARCHIVE_FORMAT}",
            "use that version or a newer one",
        )
    try:
        return Header(**document)
    except TypeError as error:
        raise ArchiveError(f"{where} has a damaged header", _DAMAGED) from error


def _manifest(tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> Contents:
    document = _document(tar, member, where)
    try:
        files = {
            str(name): FileFacts(int(facts["size"]), str(facts["sha256"]))
            for name, facts in document["files"].items()
        }
        return Contents(files, [str(name) for name in document["folders"]])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArchiveError(f"{where} has a damaged list of files", _DAMAGED) from error


def _document(tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> dict[str, Any]:
    file = tar.extractfile(member) if member.isreg() else None
    if file is None or member.size > MANIFEST_BYTES_MAX:
        raise ArchiveError(f"{where} is not a backup of Trunkline", _OTHER_ARCHIVE)
    try:
        document = json.loads(file.read())
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ArchiveError(f"{where} has a damaged {member.name}", _DAMAGED)
    return document


def _take(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    found: Contents,
    into: Path | None,
    where: str,
    done: Progress,
) -> None:
    name = member.name
    parts = PurePosixPath(name).parts
    if name.startswith("/") or not parts or ".." in parts or "\0" in name or "\\" in name:
        raise ArchiveError(f"{where} has the entry {name!r}, which leads elsewhere", _OTHER_ARCHIVE)
    if not (member.isreg() or member.isdir()):
        raise ArchiveError(f"{where} has {name!r}, neither file nor folder", _OTHER_ARCHIVE)
    if name in found.files or name in found.folders:
        raise ArchiveError(f"{where} has {name!r} twice", _DAMAGED)
    if member.isdir():
        found.folders.append(name)
        if into is not None:
            durable.make_folder(into / name)
        return
    source = tar.extractfile(member)
    assert source is not None  # noqa: S101 - a regular member has content
    if into is None:
        found.files[name] = _copy(source, None, done)
        return
    durable.make_folder((into / name).parent)
    with os.fdopen(durable.create(into / name), "wb") as target:
        found.files[name] = _copy(source, target, done)
        target.flush()
        durable.flush(target.fileno())


def _copy(source: IO[bytes], target: IO[bytes] | None, done: Progress) -> FileFacts:
    digest, size = hashlib.sha256(), 0
    while block := source.read(COPY_BYTES):
        digest.update(block)
        size += len(block)
        if target is not None:
            target.write(block)
        done(len(block))
    return FileFacts(size, digest.hexdigest())


def _require_equal(listed: Contents, found: Contents, where: str) -> None:
    if set(listed.folders) != set(found.folders) or listed.files.keys() != found.files.keys():
        raise ArchiveError(f"{where} does not hold the files that it lists", _DAMAGED)
    for name, facts in listed.files.items():
        if found.files[name] != facts:
            raise ArchiveError(f"{where} holds a damaged {name!r}", _DAMAGED)


def _require_end(members: Iterator[tarfile.TarInfo], plain: gzip.GzipFile, where: str) -> None:
    """Reading on to the end also checks the checksum of the compression."""
    goes_on = next(members, None) is not None
    while not goes_on and (block := plain.read(COPY_BYTES)):
        goes_on = any(block)
    if goes_on:
        raise ArchiveError(f"{where} goes on behind its list of files", _DAMAGED)


class _Measured(io.RawIOBase):
    """A file being read, with the digest and the size of what was read so far."""

    def __init__(self, file: IO[bytes], done: Progress) -> None:
        super().__init__()
        self._file = file
        self._done = done
        self.digest = hashlib.sha256()
        self.size = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.digest.update(block)
        self.size += len(block)
        self._done(len(block))
        return block


def _add_file(tar: tarfile.TarFile, path: Path, name: str, done: Progress) -> FileFacts:
    with path.open("rb") as file:
        info = tarfile.TarInfo(name)
        info.size, info.mode = path.stat().st_size, durable.FILE_MODE
        measured = _Measured(file, done)
        tar.addfile(info, measured)
    return FileFacts(measured.size, measured.digest.hexdigest())


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), durable.FILE_MODE
    tar.addfile(info, io.BytesIO(content))
