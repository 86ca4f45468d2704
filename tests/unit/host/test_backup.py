"""Backup and restore: all of it or nothing, and nothing that is not what it says."""

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from trunkline.host import archive, backup
from trunkline.host.backup import Total
from trunkline.host.cluster_secret import ClusterSecret
from trunkline.host.data_folder import Seat, open_folder
from trunkline.host.layout import Layout
from trunkline.host.refusal import ArchiveError, DataFolderError, FolderInUseError, HostError
from trunkline.kernel import FakeClock

BIG = 3 * archive.COPY_BYTES + 7


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A stopped host's folder with a file larger than a block, an empty one and an empty folder."""
    data = tmp_path / "data"
    open_folder(data, entropy=os.urandom).release()
    layout = Layout(data)
    (layout.log / "streams" / "empty").mkdir(parents=True)
    (layout.log / "streams" / "1.blk").write_bytes(os.urandom(BIG))
    layout.replica.write_bytes(b"")
    (layout.run / "nats.conf").write_text("token")
    return data


@pytest.fixture
def archived(data: Path, tmp_path: Path) -> Path:
    target = tmp_path / "backup.tar.gz"
    backup.back_up(data, target, clock=FakeClock(), total=Total())
    return target


def kept(data: Path) -> dict[str, bytes | None]:
    names = backup.inventory(Layout(data)).names
    return {name: None if (data / name).is_dir() else (data / name).read_bytes() for name in names}


def test_what_was_backed_up_is_restored_and_readable_by_the_owner_only(
    data: Path, archived: Path, tmp_path: Path
) -> None:
    backup.restore(archived, tmp_path / "new", total=Total())

    assert kept(tmp_path / "new") == kept(data)
    assert "log/streams/empty" in kept(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o077 for p in (tmp_path / "new").rglob("*")} == {0}
    assert archived.stat().st_mode & 0o777 == 0o600


def test_a_restored_folder_is_that_of_the_same_account(
    data: Path, archived: Path, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    backup.restore(archived, tmp_path / "new", total=Total())

    one, two = (open_folder(p, entropy=os.urandom) for p in (data, tmp_path / "new"))

    assert one.credentials == two.credentials
    assert not (two.layout.run / "nats.conf").exists()


def test_a_running_host_is_not_backed_up(data: Path, tmp_path: Path) -> None:
    folder = open_folder(data, entropy=os.urandom)

    with pytest.raises(FolderInUseError, match=f"in use by process {os.getpid()}"):
        backup.back_up(data, tmp_path / "b.tar.gz", clock=FakeClock(), total=Total())

    folder.release()
    assert not (tmp_path / "b.tar.gz").exists()


def test_a_backup_replaces_nothing_and_does_not_hold_itself(data: Path, archived: Path) -> None:
    with pytest.raises(ArchiveError, match="exists already"):
        backup.back_up(data, archived, clock=FakeClock(), total=Total())
    with pytest.raises(ArchiveError, match="lies in the data folder itself"):
        backup.back_up(data, data / "b.tar.gz", clock=FakeClock(), total=Total())


def test_a_folder_with_a_link_is_not_backed_up(data: Path, tmp_path: Path) -> None:
    (data / "log" / "link").symlink_to("/etc/passwd")

    with pytest.raises(DataFolderError, match="neither a file nor a folder"):
        backup.back_up(data, tmp_path / "b.tar.gz", clock=FakeClock(), total=Total())

    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("name", ["x", "."])
def test_nothing_is_backed_up_where_no_host_was(tmp_path: Path, name: str) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(DataFolderError, match=r"no host's data in .*: name the folder of a host"):
        backup.back_up(tmp_path / name, tmp_path / "b", clock=FakeClock(), total=Total())


def test_a_folder_in_use_is_not_restored_over(data: Path, archived: Path) -> None:
    before = kept(data)

    with pytest.raises(DataFolderError, match="is not empty"):
        backup.restore(archived, data, total=Total())

    assert kept(data) == before


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def without_end(content: bytes) -> bytes:
    return content[:-9]


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, without_end, bytes])
def test_a_damaged_backup_is_refused_and_nothing_is_in_place(
    archived: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    content = archived.read_bytes()
    archived.write_bytes(b"" if damage is bytes else damage(content))
    before = sorted(path.name for path in tmp_path.iterdir())

    with pytest.raises(ArchiveError, match=r"use another backup|name the file"):
        backup.restore(archived, tmp_path / "new", total=Total())

    assert sorted(path.name for path in tmp_path.iterdir()) == before


def rewritten(
    archived: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]
) -> None:
    """Change the members of an archive, which stays well-formed."""
    with tarfile.open(archived, "r:gz") as tar:
        members = [(m, f.read() if (f := tar.extractfile(m)) else b"") for m in tar]
    change(members)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archived.write_bytes(gzip.compress(plain.getvalue()))


def test_a_changed_byte_under_a_right_checksum_is_still_found(
    archived: Path, tmp_path: Path
) -> None:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        index = next(i for i, (m, _) in enumerate(members) if m.name.endswith("1.blk"))
        member, content = members[index]
        members[index] = (member, flip_a_bit(content))

    rewritten(archived, change)

    with pytest.raises(ArchiveError, match=r"damaged 'log/streams/1\.blk'"):
        backup.restore(archived, tmp_path / "new", total=Total())


@pytest.mark.parametrize("name", ["../escaped", "/srv/escaped", "a/../../escaped"])
def test_a_name_that_leads_elsewhere_is_refused(archived: Path, tmp_path: Path, name: str) -> None:
    rewritten(archived, lambda members: members.insert(1, (tarfile.TarInfo(name), b"x")))

    with pytest.raises(ArchiveError, match="leads elsewhere"):
        backup.restore(archived, tmp_path / "new", total=Total())

    assert not list(tmp_path.rglob("escaped"))


def test_a_link_in_a_backup_is_refused(archived: Path, tmp_path: Path) -> None:
    link = tarfile.TarInfo("log/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    rewritten(archived, lambda members: members.insert(1, (link, b"")))

    with pytest.raises(ArchiveError, match="neither file nor folder"):
        backup.restore(archived, tmp_path / "new", total=Total())


def test_another_programs_archive_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("readme"), io.BytesIO())

    with pytest.raises(ArchiveError, match="is not a backup of Trunkline"):
        backup.restore(tmp_path / "other.tar.gz", tmp_path / "new", total=Total())


def test_a_backup_of_a_newer_format_is_refused(archived: Path, tmp_path: Path) -> None:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        member, content = members[0]
        members[0] = (member, json.dumps(json.loads(content) | {"format": 2}).encode())

    rewritten(archived, change)

    with pytest.raises(ArchiveError, match="has backup format 2"):
        backup.restore(archived, tmp_path / "new", total=Total())


def test_a_backup_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file"):
        backup.restore(tmp_path / "absent", tmp_path / "new", total=Total())


def test_a_backup_of_one_host_becomes_the_folder_of_a_host_of_a_cluster(
    data: Path, archived: Path, tmp_path: Path
) -> None:
    secret = ClusterSecret(b"s" * 32)
    for name in ("a", "b"):
        seat = Seat(secret, name)
        backup.restore(
            archived, tmp_path / name, total=Total(), place=seat.place, brings_log=name == "a"
        )

    alone = open_folder(data, entropy=os.urandom)
    first, second = (
        open_folder(tmp_path / name, entropy=os.urandom, seat=Seat(secret, name)) for name in "ab"
    )

    assert first.credentials == second.credentials == alone.credentials
    assert first.format.cluster == second.format.cluster == alone.format.cluster
    assert (first.layout.grow / "log" / "streams" / "1.blk").stat().st_size == BIG
    assert list(second.layout.grow.iterdir()) == []
    assert not first.layout.log.exists()
    assert not second.layout.log.exists(), "the engine of a cluster would erase it"
