"""Blobs on a disk: whole or not there, found by their bytes, removed when nobody wants them."""

import os
from pathlib import Path

import pytest

from trunkline.blobs.store import BlobError, BlobStore, name_of
from trunkline.domain.media import BYTES_MAX

PICTURE = b"\x89PNG and so on"


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def test_what_was_put_is_there_under_the_name_of_its_bytes(store: BlobStore) -> None:
    name = store.put(PICTURE, nonce="1")

    assert name == name_of(PICTURE)
    assert store.get(name) == PICTURE
    assert store.size() == (1, len(PICTURE))


def test_the_same_bytes_are_kept_once(store: BlobStore) -> None:
    assert store.put(PICTURE, nonce="1") == store.put(PICTURE, nonce="2")

    assert store.size()[0] == 1


def test_what_is_not_there_is_none_and_a_name_that_is_none_is_refused(store: BlobStore) -> None:
    assert store.get("0" * 64) is None
    assert not store.want("0" * 64)
    with pytest.raises(ValueError, match="names no blob"):
        store.get("../../etc/passwd")


def test_more_bytes_than_may_be_are_refused_and_leave_nothing(store: BlobStore) -> None:
    with pytest.raises(BlobError, match="may be"):
        store.put(b"x" * (BYTES_MAX + 1), nonce="1")

    assert store.size() == (0, 0)


def test_a_damaged_blob_is_not_given_out_and_makes_room_for_a_whole_one(store: BlobStore) -> None:
    name = store.put(PICTURE, nonce="1")
    (path,) = store.folder.glob(f"*/{name}")
    path.write_bytes(PICTURE[:-1] + b"?")

    assert store.get(name) is None
    assert store.put(PICTURE, nonce="2") == name
    assert store.get(name) == PICTURE


def test_a_damaged_blob_does_not_count_as_kept(store: BlobStore) -> None:
    name = store.put(PICTURE, nonce="1")
    (path,) = store.folder.glob(f"*/{name}")
    path.write_bytes(PICTURE[:-1])

    assert store.put(PICTURE, nonce="2") == name

    assert store.get(name) == PICTURE


def test_only_what_nobody_wants_is_removed(store: BlobStore) -> None:
    old, wanted = store.put(b"old", nonce="1"), store.put(b"wanted", nonce="2")
    for path in store.folder.glob("*/*"):
        os.utime(path, (1000.0, 1000.0))
    unfinished = store.folder / old[:2] / ".new-3"
    unfinished.write_bytes(b"half")
    os.utime(unfinished, (1000.0, 1000.0))
    assert store.want(wanted)

    assert store.remove_unwanted(2000.0) == 2
    assert store.get(old) is None
    assert store.get(wanted) == b"wanted"
    assert not unfinished.exists()


def test_what_somebody_wants_while_it_is_being_removed_stays(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = store.put(PICTURE, nonce="1")
    (path,) = store.folder.glob(f"*/{name}")
    os.utime(path, (1000.0, 1000.0))
    rename = Path.rename

    def wanted_just_before(self: Path, target: Path) -> Path:
        if self == path:
            store.want(name)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", wanted_just_before)

    assert store.remove_unwanted(2000.0) == 0
    assert store.get(name) == PICTURE
