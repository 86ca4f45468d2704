"""Several hosts on one machine: where each is put, and which folders are taken for theirs."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from trunkline.host import config, local_hosts
from trunkline.host.layout import FolderLock
from trunkline.host.listen import Address
from trunkline.host.local_hosts import check_count, open_hosts, place, prepare, write_settings
from trunkline.host.refusal import ConfigError, DataFolderError, FolderInUseError, FormatError

THREE = ["a@10.0.0.1", "b@10.0.0.2", "c@10.0.0.3"]


def settings(data: Path) -> config.Settings:
    return config.load(None, {"host.data": data, "host.http": "127.0.0.1:0"}, {})


@pytest.mark.parametrize(
    ("has_network", "address", "third"),
    [
        (True, "127.0.0.1:8009", "127.0.0.4:8009"),
        (True, "127.0.0.1:0", "127.0.0.4:0"),
        (True, "0.0.0.0:8009", "0.0.0.0:8029"),
        (False, "127.0.0.1:8009", "127.0.0.1:8029"),
        (False, "127.0.0.1:0", "127.0.0.1:0"),
    ],
)
def test_each_host_listens_somewhere_else(
    monkeypatch: pytest.MonkeyPatch, *, has_network: bool, address: str, third: str
) -> None:
    monkeypatch.setattr(local_hosts, "HAS_LOOPBACK_NETWORK", has_network)

    assert str(place(Address.parse(address), 2)) == third


@pytest.mark.parametrize(
    ("count", "flags", "said"),
    [
        (0, {}, "--hosts cannot be 0: give 1, or 3 to 9"),
        (2, {}, "no quorum.*run one, or three"),
        (10, {}, "--hosts cannot be 10"),
        (3, {"host.ephemeral": True}, "leave one of the two out"),
        (
            3,
            {"host.name": "a", "cluster.hosts": THREE, "cluster.token_file": "/t"},
            "leave one of the two out",
        ),
    ],
)
def test_a_number_of_hosts_that_cannot_be_run_here_is_refused(
    count: int, flags: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        check_count(config.load(None, flags, {}), count)


def test_three_hosts_have_one_secret_and_everything_else_of_their_own(tmp_path: Path) -> None:
    with ExitStack() as stack:
        hosts = open_hosts(settings(tmp_path / "data"), 3, stack)

        members = hosts[0].settings.cluster.hosts
        assert [host.name for host in hosts] == ["host-a", "host-b", "host-c"]
        assert [host.settings.host.data.name for host in hosts] == ["host-a", "host-b", "host-c"]
        assert all(host.settings.cluster.hosts == members for host in hosts)
        assert len({str(address) for each in members for address in (each.log, each.route)}) == 6
        assert len({host.base_url for host in hosts}) == 3
        assert len({host.folder.credentials.account_sid for host in hosts}) == 1
        token = hosts[0].settings.cluster.token_file
        assert token is not None
        assert token.stat().st_mode & 0o777 == 0o600
        account = hosts[0].folder.credentials.account_sid

    with ExitStack() as stack:
        again = open_hosts(settings(tmp_path / "data"), 3, stack)
        assert again[0].folder.credentials.account_sid == account


def test_a_birth_cut_short_after_the_secret_is_gone_on_with(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ExitStack() as stack:
        open_hosts(settings(data), 3, stack)
    (data / "cluster.json").unlink()
    for name in ("host-a", "host-b", "host-c"):
        (data / name).rename(tmp_path / name)

    with ExitStack() as stack:
        assert len(open_hosts(settings(data), 3, stack)) == 3
    assert (data / "cluster.json").exists()


def test_hosts_without_their_secret_are_not_given_a_new_one(tmp_path: Path) -> None:
    with ExitStack() as stack:
        open_hosts(settings(tmp_path / "data"), 3, stack)
    (tmp_path / "data" / "cluster-token").unlink()

    with ExitStack() as stack, pytest.raises(FormatError, match=r"is missing.*put it back"):
        open_hosts(settings(tmp_path / "data"), 3, stack)


def test_a_folder_with_somebody_elses_files_is_no_home_for_hosts(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with ExitStack() as stack, pytest.raises(FormatError, match=r"it holds 'thesis.txt'"):
        open_hosts(settings(tmp_path), 3, stack)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_host_whose_folder_was_removed_gets_settings_and_lock_in_an_empty_one(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with ExitStack() as stack:
        lost = open_hosts(settings(data), 3, stack)[2]
        write_settings(lost)
        before = config.from_json(lost.folder.layout.settings.read_bytes())
        shutil.rmtree(data / "host-c")

        prepare(lost)

        assert config.from_json(lost.folder.layout.settings.read_bytes()) == before
        assert lost.folder.lock is not None
        assert lost.folder.lock.is_of(lost.folder.layout)
        with pytest.raises(FolderInUseError):
            FolderLock.take(lost.folder.layout)
        assert not lost.folder.layout.format.exists(), "it is born again"
    FolderLock.take(lost.folder.layout).release()


def test_a_host_that_has_everything_is_left_alone(tmp_path: Path) -> None:
    with ExitStack() as stack:
        host = open_hosts(settings(tmp_path / "data"), 3, stack)[0]
        write_settings(host)
        written = host.folder.layout.settings.stat()

        prepare(host)

        assert host.folder.layout.settings.stat() == written


def test_one_host_alone_whose_folder_was_removed_is_not_begun_anew(tmp_path: Path) -> None:
    with ExitStack() as stack:
        (host,) = open_hosts(settings(tmp_path / "data"), 1, stack)
        shutil.rmtree(tmp_path / "data")

        with pytest.raises(DataFolderError, match=r"was removed.*restore the newest backup"):
            prepare(host)
        assert not (tmp_path / "data").exists()
