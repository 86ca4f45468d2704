"""A data folder: its birth, its owner, and what is refused without changing anything."""

import json
import os
import stat
from pathlib import Path

import pytest

from trunkline.host import credentials, storage
from trunkline.host.cluster_secret import ClusterSecret
from trunkline.host.data_folder import Seat, open_folder
from trunkline.host.format import FORMAT
from trunkline.host.layout import FolderLock, Layout, holder_of, simulator_url_of
from trunkline.host.refusal import DataFolderError, FolderInUseError, FormatError


def entropy(count: int) -> bytes:
    return os.urandom(count)


def born(data: Path) -> Layout:
    open_folder(data, entropy=entropy).release()
    return Layout(data)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_for_its_owner_only(tmp_path: Path) -> None:
    layout = born(tmp_path / "data")

    assert mode(layout.data) == 0o700
    assert mode(layout.run) == 0o700
    assert {mode(p) for p in (layout.credentials, layout.format, layout.lock)} == {0o600}


def test_opening_again_finds_the_same_account_and_cluster(tmp_path: Path) -> None:
    first = open_folder(tmp_path / "data", entropy=entropy)
    first.release()

    second = open_folder(tmp_path / "data", entropy=entropy)
    second.release()

    assert second.credentials == first.credentials
    assert second.format == first.format
    assert first.credentials.phone_number == "+12025550100"


def test_a_birth_cut_short_before_the_format_is_finished_later(tmp_path: Path) -> None:
    layout = born(tmp_path / "data")
    account = credentials.require(layout)
    layout.format.unlink()

    folder = open_folder(layout.data, entropy=entropy)
    folder.release()

    assert folder.credentials == account
    assert layout.format.exists()


def test_an_empty_disk_may_carry_its_file_systems_own_folder(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()

    assert born(tmp_path).format.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": FORMAT + 1, "created_by": "9.9"}, "written by version 9.9"),
        ({"format": 0}, "format 0"),
        ({"product": "other"}, "belongs to 'other'"),
        ({"mode": "raft"}, "mode 'raft'"),
        ({"shards": 24}, "shards 24"),
        ({"hash": "crc"}, "hash 'crc'"),
        ({"cluster": "x"}, "no valid cluster id"),
    ],
)
def test_a_folder_of_another_kind_is_refused_and_left_alone(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    layout = born(tmp_path / "data")
    document = json.loads(layout.format.read_text()) | change
    layout.format.write_text(json.dumps(document))
    before = contents(layout.data)

    with pytest.raises(FormatError, match=said):
        open_folder(layout.data, entropy=entropy)

    assert contents(layout.data) == before


def test_a_folder_of_the_format_before_is_opened_and_marked_as_of_this_one(tmp_path: Path) -> None:
    layout = born(tmp_path / "data")
    document = json.loads(layout.format.read_text()) | {"format": 1, "created_by": "0.1.0"}
    layout.format.write_text(json.dumps(document))

    folder = open_folder(layout.data, entropy=entropy)
    folder.release()

    raised = json.loads(layout.format.read_text())
    assert raised == document | {"format": FORMAT}
    assert folder.format.cluster == document["cluster"]


SECRET = ClusterSecret(b"s" * 32)


def test_the_hosts_of_a_new_cluster_agree_without_a_word(tmp_path: Path) -> None:
    one, two = (
        open_folder(tmp_path / name, entropy=entropy, seat=Seat(SECRET, name)) for name in "ab"
    )
    one.release()
    two.release()

    assert one.credentials == two.credentials
    assert one.format.cluster == two.format.cluster
    assert (one.format.mode, one.format.host, two.format.host) == ("cluster", "a", "b")
    other = open_folder(tmp_path / "c", entropy=entropy, seat=Seat(ClusterSecret(b"t" * 32), "a"))
    other.release()
    assert other.credentials.account_sid != one.credentials.account_sid
    assert other.format.cluster != one.format.cluster


@pytest.mark.parametrize(
    ("made_for", "opened_for", "said"),
    [
        (None, Seat(SECRET, "a"), "folder of one host alone.*erase it.*trunkline backup"),
        (Seat(SECRET, "a"), None, "'a', a host of a cluster.*set cluster.hosts"),
        (Seat(SECRET, "a"), Seat(SECRET, "b"), "'a', and host.name is 'b'"),
        (Seat(SECRET, "a"), Seat(ClusterSecret(b"t" * 32), "a"), "token file of its own cluster"),
    ],
)
def test_a_folder_of_another_place_is_refused_and_left_alone(
    tmp_path: Path, made_for: Seat | None, opened_for: Seat | None, said: str
) -> None:
    layout = Layout(tmp_path / "data")
    open_folder(layout.data, entropy=entropy, seat=made_for).release()
    before = contents(layout.data)

    with pytest.raises(FormatError, match=said):
        open_folder(layout.data, entropy=entropy, seat=opened_for)

    assert contents(layout.data) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}'])
def test_an_unreadable_format_is_refused(tmp_path: Path, text: str) -> None:
    layout = born(tmp_path / "data")
    layout.format.write_text(text)

    with pytest.raises(FormatError, match="is damaged"):
        open_folder(layout.data, entropy=entropy)


def test_a_folder_with_somebody_elses_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(FormatError, match=r"is not empty \(it holds 'thesis.txt'\)"):
        open_folder(tmp_path, entropy=entropy)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_name_that_no_file_system_takes_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataFolderError, match="File name too long"):
        open_folder(tmp_path / ("x" * 300), entropy=entropy)


def test_credentials_that_are_lost_or_damaged_are_not_made_up_again(tmp_path: Path) -> None:
    layout = born(tmp_path / "data")

    layout.credentials.write_text("{}")
    with pytest.raises(DataFolderError, match="is damaged"):
        open_folder(layout.data, entropy=entropy)

    layout.credentials.unlink()
    with pytest.raises(DataFolderError, match="is missing"):
        open_folder(layout.data, entropy=entropy)


def test_a_second_process_is_refused_by_the_id_of_the_first(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "data", entropy=entropy)

    with pytest.raises(FolderInUseError, match=f"in use by process {os.getpid()}:"):
        open_folder(tmp_path / "data", entropy=entropy)

    assert holder_of(tmp_path / "data") == os.getpid()
    folder.release()
    assert holder_of(tmp_path / "data") is None


def test_a_lock_is_held_until_the_last_who_was_given_it_is_gone(tmp_path: Path) -> None:
    layout = born(tmp_path / "data")
    lock = FolderLock.take(layout)
    heir = os.dup(lock.descriptor)

    lock.release()
    lock.release()
    assert holder_of(layout.data) is not None

    os.close(heir)
    assert holder_of(layout.data) is None


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataFolderError, match="is a file"):
        open_folder(tmp_path / "file" / "data", entropy=entropy)


def test_a_path_too_long_for_the_engine_is_refused(tmp_path: Path) -> None:
    data = tmp_path.joinpath(*["x" * 100] * 7)

    with pytest.raises(DataFolderError, match="choose a shorter one"):
        open_folder(data, entropy=entropy)


MOUNTS = r"""22 27 0:21 / /proc rw shared:5 - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /srv/shared\040files rw master:1 - nfs4 server:/x rw
31 27 0:41 / /srv/over rw - ext4 /dev/vdb rw
32 27 0:42 / /srv/over rw - fuse.sshfs me@there: rw
torn line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me", "ext4"),
        ("/srv/shared files/data", "nfs4"),
        ("/srv/shared", "ext4"),
        ("/srv/over/data", "fuse.sshfs"),
    ],
)
def test_the_file_system_under_a_path_is_known(path: str, kind: str) -> None:
    assert storage.file_system_in(MOUNTS, Path(path)) == kind


def test_where_the_simulator_is_can_be_asked(tmp_path: Path) -> None:
    layout = born(tmp_path / "data")
    assert simulator_url_of(layout.data) is None

    layout.host_facts.write_text('{"simulator_url": "http://127.0.0.1:1"}')
    assert simulator_url_of(layout.data) == "http://127.0.0.1:1"

    layout.host_facts.write_text("{torn")
    assert simulator_url_of(layout.data) is None
