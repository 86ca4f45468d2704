"""Upkeep of blobs: what records name is there, and what they do not name any more goes, later."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.unit.api.api_copy import Copy
from tests.unit.api.api_world import ACCOUNT, HANDSET, OUR_NUMBER

from trunkline.blobs.shared import SharedBlobs
from trunkline.blobs.store import BlobStore, name_of
from trunkline.domain.events import Deleted, Kind, MediaKept, MediaRemoved, MessageReceived, Type
from trunkline.domain.media import Piece, media_sid
from trunkline.kernel import Deadline, FakeClock, SystemClock
from trunkline.replica.media_upkeep import ROWS_MAX, UNWANTED_KEPT_S, MediaUpkeep

pytestmark = pytest.mark.anyio

CAT, DOG = b"a cat", b"a dog"


class Peer:
    """Another host, with what it has."""

    def __init__(self) -> None:
        self.has: dict[str, bytes] = {}
        self.on_asked: Callable[[], None] = lambda: None

    def urls(self) -> Sequence[str]:
        return ("b",)

    async def give_blob(self, peer: str, content: bytes, *, deadline: Deadline) -> bool:
        del peer, content, deadline
        return True

    async def blob(self, peer: str, name: str, *, deadline: Deadline) -> bytes | None:
        del peer, deadline
        self.on_asked()
        return self.has.get(name)


class Host:
    """A copy and a folder of blobs, whose files are as old as a test makes them."""

    def __init__(self, folder: Path) -> None:
        self.copy = Copy(folder / "copy.db", FakeClock())
        self.peer = Peer()
        self.store = BlobStore(folder / "blobs")
        self.lag_ms = 0.0
        blobs = SharedBlobs(self.store, self.peer, os.urandom)
        self.upkeep = MediaUpkeep(
            folder / "copy.db", blobs, lambda: self.lag_ms, clock=SystemClock()
        )

    def receive(self, number: int, *contents: bytes) -> str:
        """A message with these media, as the log says; whose bytes are not here by that."""
        sid = f"MM{number:02x}{'0' * 24}{number:06x}"
        received = MessageReceived(sid=sid, sender=HANDSET, recipient=OUR_NUMBER, text="")
        pieces = [
            Piece(
                sid=media_sid(sid, index),
                index=index,
                sha256=name_of(content),
                content_type="image/png",
                size_bytes=len(content),
            )
            for index, content in enumerate(contents)
        ]
        self.copy.put(Kind.INBOUND, Type.ORIGINAL, ACCOUNT, sid, received)
        kept = MediaKept(pieces=tuple(pieces))
        self.copy.put(Kind.INBOUND, Type.MEDIA_KEPT, ACCOUNT, sid, kept)
        self.copy.catch_up()
        return sid

    def remove(self, sid: str, index: int) -> None:
        removed = MediaRemoved(media=(media_sid(sid, index),))
        self.copy.put(Kind.INBOUND, Type.MEDIA_REMOVED, ACCOUNT, sid, removed)
        self.copy.catch_up()

    def age(self) -> None:
        """Every blob was last wanted two days ago."""
        for path in self.store.folder.glob("*/*"):
            then = path.stat().st_mtime - 2 * UNWANTED_KEPT_S
            os.utime(path, (then, then))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def test_blobs_that_no_record_names_go_after_a_day(host: Host) -> None:
    host.receive(1, CAT)
    host.store.put(CAT, nonce="1")
    host.store.put(DOG, nonce="2")

    await host.upkeep.once()
    assert host.store.size()[0] == 2
    host.age()
    await host.upkeep.once()

    assert host.store.get(name_of(CAT)) == CAT
    assert host.store.get(name_of(DOG)) is None


async def test_the_bytes_of_deleted_media_go_unless_another_message_has_the_same(
    host: Host,
) -> None:
    one, _ = host.receive(1, CAT, DOG), host.receive(2, DOG)
    for content in (CAT, DOG):
        host.store.put(content, nonce="1")
    host.remove(one, 0)
    host.remove(one, 1)
    host.age()

    await host.upkeep.once()

    assert host.store.get(name_of(CAT)) is None
    assert host.store.get(name_of(DOG)) == DOG


async def test_the_bytes_of_a_deleted_message_go_unless_another_one_has_the_same(
    host: Host,
) -> None:
    one, _ = host.receive(1, CAT, DOG), host.receive(2, DOG)
    for content in (CAT, DOG):
        host.store.put(content, nonce="1")
    host.copy.put(Kind.INBOUND, Type.DELETED, ACCOUNT, one, Deleted())
    host.copy.catch_up()
    host.age()

    await host.upkeep.once()

    assert host.store.get(name_of(CAT)) is None
    assert host.store.get(name_of(DOG)) == DOG


async def test_blobs_that_are_missing_come_from_another_host(host: Host) -> None:
    host.receive(1, CAT, DOG)
    host.peer.has[name_of(CAT)] = CAT

    await host.upkeep.once()

    assert host.store.get(name_of(CAT)) == CAT
    assert host.store.get(name_of(DOG)) is None


async def test_a_copy_that_is_behind_says_nothing_about_what_is_unwanted(host: Host) -> None:
    host.store.put(CAT, nonce="1")
    host.age()
    host.lag_ms = float("inf")

    await host.upkeep.once()

    assert host.store.get(name_of(CAT)) == CAT


async def test_a_copy_that_catches_up_during_the_walk_says_nothing_either(host: Host) -> None:
    host.receive(1, DOG)
    host.store.put(CAT, nonce="1")
    host.age()
    host.lag_ms = float("inf")
    host.peer.on_asked = lambda: setattr(host, "lag_ms", 0.0)

    await host.upkeep.once()

    assert host.store.get(name_of(CAT)) == CAT


async def test_a_walk_that_is_cut_short_removes_nothing(host: Host, tmp_path: Path) -> None:
    host.store.put(CAT, nonce="1")
    host.age()
    (tmp_path / "copy.db").write_bytes(b"not a copy" * 1000)

    await host.upkeep.once()

    assert host.store.get(name_of(CAT)) == CAT


async def test_a_walk_goes_over_more_messages_than_one_step_takes(host: Host) -> None:
    contents = [f"picture {number}".encode() for number in range(ROWS_MAX + 5)]
    for number, content in enumerate(contents):
        sid = f"MM00{'0' * 24}{number:06x}"
        received = MessageReceived(sid=sid, sender=HANDSET, recipient=OUR_NUMBER, text="")
        piece = Piece(
            sid=media_sid(sid, 0),
            index=0,
            sha256=name_of(content),
            content_type="image/png",
            size_bytes=1,
        )
        host.copy.put(Kind.INBOUND, Type.ORIGINAL, ACCOUNT, sid, received)
        host.copy.put(Kind.INBOUND, Type.MEDIA_KEPT, ACCOUNT, sid, MediaKept(pieces=(piece,)))
        host.peer.has[name_of(content)] = content
    host.copy.catch_up()

    await host.upkeep.once()

    assert host.store.size()[0] == len(contents)
