"""Blobs of a cluster: on two disks before they count, and found wherever they are."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from trunkline.blobs.shared import SharedBlobs
from trunkline.blobs.store import BlobStore, name_of
from trunkline.kernel import Deadline, FakeClock

PICTURE = b"\x89PNG and so on"

pytestmark = pytest.mark.anyio


class Others:
    """Two other hosts; those in `down` answer nothing."""

    def __init__(self, folder: Path) -> None:
        self.stores = {url: BlobStore(folder / url) for url in ("b", "c")}
        self.down: set[str] = set()
        self.frozen: set[str] = set()
        """Those that take a connection, and never answer."""

    def urls(self) -> Sequence[str]:
        return tuple(self.stores)

    async def give_blob(self, peer: str, content: bytes, *, deadline: Deadline) -> bool:
        del deadline
        await self._answering(peer)
        return peer not in self.down and bool(self.stores[peer].put(content, nonce="given"))

    async def blob(self, peer: str, name: str, *, deadline: Deadline) -> bytes | None:
        del deadline
        await self._answering(peer)
        return None if peer in self.down else self.stores[peer].get(name)

    async def _answering(self, peer: str) -> None:
        if peer in self.frozen:
            await asyncio.Event().wait()


@pytest.fixture
def others(tmp_path: Path) -> Others:
    return Others(tmp_path)


@pytest.fixture
def shared(tmp_path: Path, others: Others) -> SharedBlobs:
    return SharedBlobs(BlobStore(tmp_path / "a"), others, lambda count: b"\x01" * count)


def soon() -> Deadline:
    return Deadline.after(5.0, FakeClock())


async def test_a_blob_counts_once_another_host_has_it(shared: SharedBlobs, others: Others) -> None:
    others.down.add("b")

    assert await shared.keep(PICTURE, deadline=soon()) == name_of(PICTURE)
    assert others.stores["c"].get(name_of(PICTURE)) == PICTURE


async def test_a_host_that_is_frozen_holds_no_blob_up(
    shared: SharedBlobs, others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.blobs.shared.LAGGARDS_WAIT_S", 0.01, raising=False)
    others.frozen.add("b")

    async with asyncio.timeout(2.0):
        name = await shared.keep(PICTURE, deadline=soon())

    assert name == name_of(PICTURE)
    assert others.stores["c"].get(name) == PICTURE


async def test_a_host_that_is_frozen_leaves_time_to_ask_the_next(
    shared: SharedBlobs, others: Others
) -> None:
    name = others.stores["c"].put(PICTURE, nonce="1")
    others.frozen.add("b")

    async with asyncio.timeout(2.0):
        content = await shared.content(name, deadline=Deadline.after(0.2, FakeClock()))

    assert content == PICTURE


async def test_a_blob_that_no_other_host_takes_does_not_count(
    shared: SharedBlobs, others: Others
) -> None:
    others.down.update(others.urls())

    assert await shared.keep(PICTURE, deadline=soon()) is None


async def test_a_host_that_lacks_a_blob_has_it_from_another_and_keeps_it(
    shared: SharedBlobs, others: Others
) -> None:
    name = others.stores["c"].put(PICTURE, nonce="1")

    assert await shared.content(name, deadline=soon()) == PICTURE
    assert shared.store.get(name) == PICTURE


async def test_other_bytes_than_were_asked_for_are_not_taken(
    shared: SharedBlobs, others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lie(peer: str, name: str, *, deadline: Deadline) -> bytes | None:
        del peer, name, deadline
        return b"something else"

    monkeypatch.setattr(others, "blob", lie)

    assert await shared.content(name_of(PICTURE), deadline=soon()) is None


async def test_a_host_alone_counts_its_own_disk(tmp_path: Path) -> None:
    alone = SharedBlobs(BlobStore(tmp_path / "a"), None, lambda count: b"\x01" * count)

    name = await alone.keep(PICTURE, deadline=soon())

    assert name is not None
    assert await alone.content(name, deadline=soon()) == PICTURE
    assert await alone.content("0" * 64, deadline=soon()) is None
