"""A host that has lost its copy gets one from a peer, and a wrong one from nobody."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.unit.messaging.message_bench import Bench
from tests.unit.replica.scripted_peers import ScriptedPeer, ScriptedPeers, offer_of
from tests.unit.replica.test_restore import NAMES, deliver, fill, shown, take_snapshot, trim

from trunkline.domain.message import Message
from trunkline.kernel import SystemClock
from trunkline.replica import refill as refill_module
from trunkline.replica import restore
from trunkline.replica.peers import Offer
from trunkline.replica.refill import Refill
from trunkline.replica.restore import CopyLost, make_ready
from trunkline.replica.schema import SCHEMA_VERSION

pytestmark = pytest.mark.anyio

PEER = "http://peer"


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    return folder / "replica.db"


async def peer_with_snapshot(bench: Bench, tmp_path: Path, name: str = "peer") -> ScriptedPeer:
    """A host that has seen everything so far, and has a snapshot of it."""
    folder = tmp_path / name
    folder.mkdir()
    await shown(bench, folder / "replica.db")
    return ScriptedPeer(take_snapshot(folder / "replica.db"))


def refill_from(**hosts: ScriptedPeer) -> Refill:
    named = {f"http://{name}": host for name, host in hosts.items()}
    return Refill(ScriptedPeers(named), SystemClock(), rounds_s=0.0)


async def filled_log(bench: Bench) -> None:
    for name in NAMES:
        await bench.put(name)


def spoil_peer(peer: ScriptedPeer, fault: str) -> None:
    assert peer.snapshot is not None
    offer = offer_of(peer.snapshot)
    match fault:
        case "breaks":
            peer.breaks_at = 8192
        case "bytes":
            peer.spoil = lambda content: content[:-1] + bytes([content[-1] ^ 1])
        case "cluster":
            peer.offer = msgspec.structs.replace(offer, cluster="another")
        case "schema":
            peer.offer = msgspec.structs.replace(offer, schema=99)
        case "cursors":
            peer.offer = msgspec.structs.replace(offer, cursors={})
        case "room":
            peer.offer = msgspec.structs.replace(offer, bytes=1 << 60)
        case _:
            raise AssertionError(fault)


async def test_a_host_without_a_copy_has_its_peers_and_what_came_since(
    bench: Bench, path: Path, tmp_path: Path
) -> None:
    await filled_log(bench)
    peer = await peer_with_snapshot(bench, tmp_path)
    await trim(bench)
    await deliver(bench, NAMES[0])

    with capture_logs() as said:
        await make_ready(bench.log, path, "test", refill_from(peer=peer))
    after = await shown(bench, path)

    assert None not in after
    assert isinstance(after[0], Message)
    assert after[0].status == "delivered"
    assert [each["peer"] for each in said if each["event"] == "replica.refilled"] == [PEER]
    assert [each.name for each in path.parent.iterdir() if "peer" in each.name] == []


@pytest.mark.parametrize("fault", ["breaks", "bytes", "cluster", "schema", "cursors", "room"])
async def test_a_peer_that_fails_is_left_for_another_one(
    bench: Bench, path: Path, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.unit.replica.scripted_peers.PART_BYTES_MAX", 4096)
    await filled_log(bench)
    bad = await peer_with_snapshot(bench, tmp_path, "bad")
    good = await peer_with_snapshot(bench, tmp_path, "good")
    await trim(bench)
    spoil_peer(bad, fault)

    with capture_logs() as said:
        await make_ready(bench.log, path, "test", refill_from(bad=bad, good=good))

    assert None not in await shown(bench, path)
    assert [each["peer"] for each in said if each["event"] == "replica.peer_failed"] == [
        "http://bad"
    ]
    assert [each["peer"] for each in said if each["event"] == "replica.refilled"] == ["http://good"]


async def test_what_matches_its_checksum_and_is_no_copy_is_not_taken(
    bench: Bench, path: Path, tmp_path: Path
) -> None:
    await filled_log(bench)
    peer = await peer_with_snapshot(bench, tmp_path)
    assert peer.snapshot is not None
    cursors = offer_of(peer.snapshot).cursors
    await trim(bench)
    with peer.snapshot.open("r+b") as file:
        file.write(b"no database at all" * 100)
    content = peer.snapshot.read_bytes()
    peer.offer = Offer(
        "x", len(content), sha256(content).hexdigest(), SCHEMA_VERSION, "test", cursors
    )

    with pytest.raises(CopyLost):
        await make_ready(bench.log, path, "test", refill_from(peer=peer))

    assert not any(path.parent.iterdir())


async def test_a_peer_is_waited_for_while_it_makes_a_snapshot(
    bench: Bench, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refill_module, "ASK_AGAIN_S", 0.001)
    await filled_log(bench)
    peer = await peer_with_snapshot(bench, tmp_path)
    await trim(bench)
    peer.preparing = 3

    await make_ready(bench.log, path, "test", refill_from(peer=peer))

    assert peer.asked[:4] == ["offer"] * 4
    assert None not in await shown(bench, path)


async def test_peers_that_appear_late_are_found(
    bench: Bench, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refill_module, "ASK_AGAIN_S", 0.001)
    await filled_log(bench)
    peer = await peer_with_snapshot(bench, tmp_path)
    await trim(bench)

    class Late(ScriptedPeers):
        looked = 0

        def urls(self) -> Sequence[str]:
            self.looked += 1
            return [PEER] if self.looked > 3 else []

    await make_ready(bench.log, path, "test", Refill(Late({PEER: peer}), SystemClock()))

    assert None not in await shown(bench, path)


async def test_no_peer_is_asked_for_what_is_near(bench: Bench, path: Path, tmp_path: Path) -> None:
    await fill(bench, path)
    peer = await peer_with_snapshot(bench, tmp_path)

    await make_ready(bench.log, path, "test", refill_from(peer=peer))

    assert peer.asked == []


async def test_a_copy_that_is_far_behind_makes_way_for_a_peers(
    bench: Bench, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(bench, path)
    for name in NAMES:
        await deliver(bench, name)
    peer = await peer_with_snapshot(bench, tmp_path)
    monkeypatch.setattr(restore, "NEAR_EVENTS", len(NAMES))

    with capture_logs() as said:
        await make_ready(bench.log, path, "test", refill_from(peer=peer))

    refilled = [each for each in said if each["event"] == "replica.refilled"]
    assert [(each["why"], each["behind"]) for each in refilled] == [("is far behind the log", 0)]
    assert path.with_name("replica.db.set-aside").exists()


async def test_a_peer_that_is_no_nearer_changes_nothing(
    bench: Bench, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(bench, path)
    peer = await peer_with_snapshot(bench, tmp_path)
    for name in NAMES:
        await deliver(bench, name)
    monkeypatch.setattr(restore, "NEAR_EVENTS", 1)
    before = path.stat().st_ino

    await make_ready(bench.log, path, "test", refill_from(peer=peer))

    assert peer.asked == ["offer"]
    assert path.stat().st_ino == before


async def test_a_log_that_is_whole_makes_the_copy_where_no_peer_gives_one(
    bench: Bench, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled_log(bench)
    monkeypatch.setattr(restore, "NEAR_EVENTS", 1)
    refusing = ScriptedPeer()

    await make_ready(bench.log, path, "test", refill_from(peer=refusing))

    assert refusing.asked == ["offer"]
    assert None not in await shown(bench, path)


async def test_a_shard_that_elects_its_leader_is_waited_for(
    bench: Bench, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled_log(bench)
    peer = await peer_with_snapshot(bench, tmp_path)
    await trim(bench)
    bench.log.unreadable.add(3)

    class Electing(SystemClock):
        async def sleep(self, seconds: float) -> None:
            assert seconds > 0.0
            bench.log.unreadable.clear()

    refill = Refill(ScriptedPeers({PEER: peer}), Electing(), rounds_s=0.0)
    await make_ready(bench.log, path, "test", refill)

    assert None not in await shown(bench, path)


async def test_a_host_with_no_copy_and_no_peer_does_not_serve(bench: Bench, path: Path) -> None:
    await filled_log(bench)
    await trim(bench)

    with pytest.raises(CopyLost):
        await make_ready(bench.log, path, "test", refill_from(peer=ScriptedPeer()))
