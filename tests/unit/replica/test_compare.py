"""Two copies of one log are held against each other, and what one has lost comes back from the other."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.unit.messaging.message_bench import CATCH_UP_STEP_S, TEST_MAX_S, Bench, Copy, Tally
from tests.unit.replica.scripted_peers import ScriptedPeer, ScriptedPeers
from tests.unit.replica.test_restore import deliver

from trunkline.domain.message import Message
from trunkline.domain.status import Status
from trunkline.kernel import FakeClock
from trunkline.replica import compare
from trunkline.replica.compare import LAG_MAX_MS, MARGIN_S, QUIET_S, Comparison, Counters
from trunkline.replica.digest import digest_of
from trunkline.replica.peers import Part

pytestmark = pytest.mark.anyio

PEER = "http://peer"
NAMES = [f"000{number:02x}{number:027x}" for number in range(1, 30)]
"""All in one part, and apart from the fifth digit on."""
SPOILT = NAMES[3]
PREFIX = SPOILT[:3]

_MESSAGE = msgspec.msgpack.Decoder(Message)
_ENCODE = msgspec.msgpack.Encoder().encode


@dataclass
class Two:
    """Our copy, followed by a projector, and a peer's, which stands."""

    bench: Bench
    own: Copy
    path: Path
    peer: ScriptedPeer
    comparison: Comparison
    counters: Counters
    clock: FakeClock

    async def compare(self) -> int:
        """How many were mended; the copies are alike then. Our disk takes real time."""
        mended = await self.comparison.once(PREFIX)
        async with asyncio.timeout(TEST_MAX_S):
            while self.digest(self.path) != self.digest(self.peer.copy):
                await self.bench.clock.advance(CATCH_UP_STEP_S)
        return mended

    def digest(self, copy: Path | None) -> str:
        assert copy is not None
        return digest_of(copy, Part(PREFIX, 0.0, self.clock.wall())).sha256

    def shown(self) -> Message | None:
        return self.own.replica.message("SM" + SPOILT)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    async with two_copies(tmp_path) as both:
        yield both


@asynccontextmanager
async def two_copies(tmp_path: Path, *, keep_s: float | None = None) -> AsyncIterator[Two]:
    bench = Bench()
    for name in NAMES:
        await bench.put(name)
        await deliver(bench, name)
    own, peer = tmp_path / "own" / "replica.db", tmp_path / "peer" / "replica.db"
    for path in (own, peer):
        path.parent.mkdir()
        async with Copy(bench, path).following() as copy:
            await copy.catch_up()
    await bench.clock.advance(QUIET_S + 1.0)
    counters = Counters(Tally(), Tally())
    scripted = ScriptedPeer(copy=peer)
    # A copy without a past of its own in memory: what it knows, it knows from the file.
    async with Copy(bench, own).following() as copy:
        comparison = Comparison(
            own,
            ScriptedPeers({PEER: scripted}),
            copy.projector.mend,
            lambda: 0.0,
            counters=counters,
            keep_s=keep_s,
            clock=bench.clock,
            rng=random.Random(1),
        )
        yield Two(bench, copy, own, scripted, comparison, counters, bench.clock)
        comparison.close()


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path, timeout=5.0)) as database:
        database.execute(statement, values)
        database.commit()


def rewrite(path: Path, **fields: object) -> None:
    """Change the stored record behind the program's back."""
    with closing(sqlite3.connect(path, timeout=5.0)) as database:
        row = database.execute("SELECT state FROM message WHERE digits = ?", (SPOILT,)).fetchone()
        state = _ENCODE(msgspec.structs.replace(_MESSAGE.decode(row[0]), **fields))
        database.execute("UPDATE message SET state = ? WHERE digits = ?", (state, SPOILT))
        database.commit()


async def test_copies_of_one_log_are_alike(two: Two) -> None:
    with capture_logs() as said:
        assert await two.compare() == 0

    assert two.counters.parts.count == 1  # type: ignore[attr-defined] # a tally
    assert said == []
    assert two.digest(two.path) != digest_of(two.path, Part("fff", 0.0, 1.0)).sha256


@pytest.mark.parametrize("how", ["row gone", "bytes spoilt", "ending forgotten"])
async def test_a_record_that_one_copy_has_lost_comes_back(two: Two, how: str) -> None:
    before = two.shown()
    match how:
        case "row gone":
            change(two.path, "DELETE FROM message WHERE digits = ?", SPOILT)
        case "bytes spoilt":
            change(two.path, "UPDATE message SET state = x'ff00' WHERE digits = ?", SPOILT)
        case _:
            rewrite(two.path, ending=None)

    with capture_logs() as said:
        assert await two.compare() == 1

    assert two.shown() == before
    assert [each["sid"] for each in said if each["event"] == "replica.repaired"] == ["SM" + SPOILT]
    assert await two.compare() == 0


async def test_what_the_peer_has_lost_is_left_to_the_peer(two: Two) -> None:
    assert two.peer.copy is not None
    change(two.peer.copy, "DELETE FROM message WHERE digits = ?", SPOILT)
    before = two.shown()

    assert await two.comparison.once(PREFIX) == 0
    assert two.shown() == before


async def test_two_records_that_merging_cannot_reconcile_are_told_of_once(two: Two) -> None:
    message = two.shown()
    assert message is not None
    assert message.original is not None
    other = msgspec.structs.replace(message.original, text="spoilt")
    rewrite(two.path, original=other)

    with capture_logs() as said:
        assert [await two.comparison.once(PREFIX) for _ in range(2)] == [0, 0]

    assert [each["event"] for each in said] == ["replica.disputed"]


async def test_what_was_heard_of_lately_is_not_compared(two: Two) -> None:
    rewrite(two.path, ending=None, updated_at=two.clock.wall() - 1.0)
    assert two.peer.copy is not None
    rewrite(two.peer.copy, updated_at=two.clock.wall() - 1.0)

    with capture_logs() as said:
        assert await two.comparison.once(PREFIX) == 0
    assert said == []


@pytest.mark.parametrize("lag_ms", [None, LAG_MAX_MS + 1.0])
async def test_a_peer_that_lags_is_not_compared_with(two: Two, lag_ms: float | None) -> None:
    rewrite(two.path, ending=None)
    two.peer.lag_ms = lag_ms

    assert await two.comparison.once(PREFIX) == 0


async def test_what_is_about_to_be_forgotten_does_not_come_back(tmp_path: Path) -> None:
    async with two_copies(tmp_path, keep_s=MARGIN_S) as two:
        change(two.path, "DELETE FROM message WHERE digits = ?", SPOILT)

        assert await two.comparison.once(PREFIX) == 0


async def test_a_part_with_more_than_one_answer_holds_is_looked_at_in_smaller_ones(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "RECORDS_AT_ONCE_MAX", 1)
    monkeypatch.setattr("tests.unit.replica.scripted_peers.RECORDS_AT_ONCE_MAX", 1)
    change(two.path, "DELETE FROM message WHERE digits = ?", SPOILT)

    assert await two.compare() == 1

    assert f"records {SPOILT[:5]}" in two.peer.asked
    assert two.shown() is not None


async def test_a_mended_record_is_not_overwritten_by_what_the_projector_remembers(two: Two) -> None:
    rewrite(two.path, ending=None)
    assert await two.compare() == 1

    await deliver(two.bench, SPOILT)
    await two.own.catch_up()

    message = two.shown()
    assert message is not None
    assert message.status is Status.DELIVERED


async def test_nobody_is_compared_with_where_there_is_no_peer(two: Two) -> None:
    two.comparison._peers = ScriptedPeers({})

    assert await two.comparison.once(PREFIX) == 0
