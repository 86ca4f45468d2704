"""The read copy: it catches up, goes on where it was, and is made again from an untrimmed log."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.unit.log.scripted_log import ACCOUNT, Fate, Publish, walk
from tests.unit.messaging.message_bench import TEST_MAX_S, Bench, Copy

from trunkline.directory.accounts import open_account
from trunkline.directory.numbers import own_number
from trunkline.domain.account import AccountStatus
from trunkline.domain.events import (
    AccountOpened,
    HandedOver,
    Kind,
    Notice,
    NumberOwned,
    Receipt,
    Tombstone,
    Type,
)
from trunkline.domain.message import Message
from trunkline.domain.status import Status
from trunkline.kernel import Deadline
from trunkline.log.event import Event, changed_subject, created_subject, encode
from trunkline.messaging.record import EventRecorder
from trunkline.replica.projector import RETRY_S
from trunkline.replica.queries import Replica

pytestmark = pytest.mark.anyio

NAMES = [f"{number:032x}" for number in range(1, 9)]
PHONE = "+15125550100"


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "copy" / "replica.sqlite3"


async def fill(bench: Bench) -> None:
    """An account, a number, and messages in all sorts of places of the log."""
    author = bench.author("fill")
    opened = AccountOpened(sid=ACCOUNT, friendly_name="First", auth_token="made-up")
    deadline = Deadline.after(5.0, bench.clock)
    assert await open_account(bench.log, opened, author=author, deadline=deadline)
    settings = NumberOwned(sid="PN" + "1" * 32, phone_number=PHONE, friendly_name="desk")
    await own_number(bench.log, ACCOUNT, settings, author=author, deadline=deadline)
    for number, name in enumerate(NAMES):
        await bench.clock.advance(1.0)
        bench.log.will(walk(name)[0], *[Fate.ANSWER_LOST] * (number % 2))
        await bench.put(name, author=author)
    await deliver(bench, NAMES[0])


async def deliver(bench: Bench, name: str) -> None:
    recorder = EventRecorder(bench.log, author=bench.author("receipts"))
    outcome = HandedOver(attempt=1, carrier="acme", carrier_message_id="acme-1")
    receipt = Receipt(status="delivered", carrier="acme", carrier_message_id="acme-1")
    assert await recorder.record(Kind.MESSAGE, Type.RECEIPT, ACCOUNT, "SM" + name, receipt)
    assert await recorder.record(Kind.MESSAGE, Type.OUTCOME, ACCOUNT, "SM" + name, outcome)


def shown(replica: Replica) -> tuple[object, ...]:
    """Everything that a copy of `fill` shows."""
    messages = [replica.message("SM" + name) for name in NAMES]
    return replica.account(ACCOUNT), replica.number_by_phone(PHONE), *messages


async def shown_after_catching_up(bench: Bench, path: Path) -> tuple[object, ...]:
    path.parent.mkdir(parents=True, exist_ok=True)
    async with Copy(bench, path).following() as copy:
        await copy.catch_up()
        return shown(copy.replica)


async def test_a_copy_catches_up_with_the_log_and_follows_it(bench: Bench, path: Path) -> None:
    await fill(bench)
    path.parent.mkdir()

    async with Copy(bench, path).following() as copy:
        await copy.catch_up()
        before = copy.replica.message("SM" + NAMES[1])
        await deliver(bench, NAMES[1])
        await copy.catch_up()
        after = copy.replica.message("SM" + NAMES[1])

        for name in NAMES:
            assert copy.replica.message("SM" + name) == await bench.message(name)
    assert before is not None
    assert after is not None
    assert (before.status, after.status) == (Status.QUEUED, Status.DELIVERED)


async def test_a_restarted_projector_goes_on_where_it_was(bench: Bench, path: Path) -> None:
    await fill(bench)
    before = await shown_after_catching_up(bench, path)
    ends = {
        shard: await bench.log.last_sequence(shard, timeout_s=0.0)
        for shard in range(bench.log.shards)
    }
    bench.log.followed_after.clear()

    after = await shown_after_catching_up(bench, path)

    assert bench.log.followed_after == ends
    assert after == before


async def test_what_happened_while_the_projector_was_away_is_taken_in(
    bench: Bench, path: Path
) -> None:
    await fill(bench)
    await shown_after_catching_up(bench, path)
    await deliver(bench, NAMES[1])

    after = await shown_after_catching_up(bench, path)

    assert after[3] == await bench.message(NAMES[1])
    assert isinstance(after[3], Message)
    assert after[3].status is Status.DELIVERED


async def test_a_deleted_copy_is_made_again_as_it_was(bench: Bench, path: Path) -> None:
    await fill(bench)
    before = await shown_after_catching_up(bench, path)
    path.unlink()

    after = await shown_after_catching_up(bench, path)

    assert after == before
    assert None not in after


async def test_a_copy_of_garbage_is_made_again(bench: Bench, path: Path) -> None:
    await fill(bench)
    before = await shown_after_catching_up(bench, path)
    path.write_bytes(b"no database at all" * 1000)

    assert await shown_after_catching_up(bench, path) == before


@pytest.mark.parametrize(
    "spoil", ["PRAGMA user_version = 99", "UPDATE origin SET cluster = 'x'", "DROP TABLE origin"]
)
async def test_a_copy_of_another_cluster_or_version_is_made_again(
    bench: Bench, path: Path, spoil: str
) -> None:
    await fill(bench)
    before = await shown_after_catching_up(bench, path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM message")
        database.execute(spoil)
        database.commit()

    assert await shown_after_catching_up(bench, path) == before


async def test_a_copy_that_is_ahead_of_its_log_belongs_to_another_past_and_goes(
    bench: Bench, path: Path
) -> None:
    await fill(bench)
    await shown_after_catching_up(bench, path)
    restored = Bench()
    await restored.put(NAMES[0])

    after = await shown_after_catching_up(restored, path)

    assert after[2] == await restored.message(NAMES[0])
    assert set(after[3:]) == {None}


async def test_an_event_that_cannot_be_read_does_not_stop_the_copy(
    bench: Bench, path: Path
) -> None:
    for payload in (b"junk", b'{"v": 1}'):
        subject = changed_subject(0, Kind.MESSAGE, ACCOUNT)
        await bench.log._store(Publish(0, subject, payload, None))
    bad = Receipt(status="vanished", carrier="acme", carrier_message_id="1")
    recorder = EventRecorder(bench.log, author=bench.author("one"))
    assert await recorder.record(Kind.MESSAGE, Type.RECEIPT, ACCOUNT, "SM" + NAMES[0], bad)
    await fill(bench)

    after = await shown_after_catching_up(bench, path)

    assert None not in after


async def test_a_closed_register_shows_nothing(bench: Bench, path: Path) -> None:
    author = bench.author("one")
    path.parent.mkdir()
    recorder = EventRecorder(bench.log, author=author)
    tombstone = Tombstone(for_shard=1)
    sid = "SM" + NAMES[0]
    assert await recorder.record(Kind.MESSAGE, Type.TOMBSTONE, ACCOUNT, sid, tombstone)

    async with Copy(bench, path).following() as copy:
        await copy.catch_up()

        assert copy.replica.message(sid) is None


async def test_a_notice_makes_no_message_and_changes_none(bench: Bench, path: Path) -> None:
    path.parent.mkdir()
    await bench.put(NAMES[0])
    recorder = EventRecorder(bench.log, author=bench.author("one"))
    notice = Notice(code=11200, reason="answered 500", url="https://a/", method="POST")

    async with Copy(bench, path).following() as copy:
        await copy.catch_up()
        before = copy.replica.message("SM" + NAMES[0])
        for name in NAMES[:2]:
            assert await recorder.record(Kind.INBOUND, Type.NOTICE, ACCOUNT, "SM" + name, notice)
        await copy.catch_up()

        assert before is not None
        assert copy.replica.message("SM" + NAMES[0]) == before
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM message").fetchone() == (1,)


async def test_the_lag_is_small_when_idle_and_grows_while_the_log_is_away(
    bench: Bench, path: Path
) -> None:
    await fill(bench)
    path.parent.mkdir()

    async with Copy(bench, path).following() as copy:
        await copy.catch_up()
        await bench.pass_time(1.0)
        idle_ms = copy.replica.lag_ms()

        bench.log.is_connected = False
        await bench.pass_time(30.0)
        away_ms = copy.replica.lag_ms()

        bench.log.is_connected = True
        await bench.pass_time(2.0)
        back_ms = copy.replica.lag_ms()

    assert idle_ms <= 1000.0
    assert away_ms >= 29_000.0
    assert back_ms <= 1000.0


async def test_the_lag_of_a_copy_that_was_never_complete_is_endless(
    bench: Bench, path: Path
) -> None:
    path.parent.mkdir()
    copy = Copy(bench, path)
    await copy.projector.open()
    bench.log.is_connected = False

    with closing(Replica(path, copy.progress)) as replica:
        async with bench.running(copy.projector):
            await bench.pass_time(1.0)
            assert replica.lag_ms() == float("inf")


async def test_a_reader_waits_until_the_copy_has_seen_its_write(bench: Bench, path: Path) -> None:
    path.parent.mkdir()

    async with Copy(bench, path).following() as copy, asyncio.timeout(TEST_MAX_S):
        created = await bench.put(NAMES[0])
        deadline = Deadline.after(1.0, bench.clock)
        is_seen = await copy.replica.wait_until_seen(
            created.shard, created.sequence, deadline=deadline
        )

        assert is_seen
        assert copy.replica.message("SM" + NAMES[0]) is not None


async def test_a_reader_does_not_wait_past_its_deadline(bench: Bench, path: Path) -> None:
    path.parent.mkdir()

    async with Copy(bench, path).following() as copy:
        deadline = Deadline.after(0.0, bench.clock)

        assert not await copy.replica.wait_until_seen(0, 1, deadline=deadline)


async def test_a_disk_that_takes_nothing_is_told_of_once_and_again_when_it_does(
    bench: Bench, path: Path
) -> None:
    path.parent.mkdir()
    async with Copy(bench, path).following() as copy:
        await copy.catch_up()
        with capture_logs() as logs, closing(sqlite3.connect(path)) as database:
            database.execute("ALTER TABLE cursor RENAME TO away")
            await bench.put(NAMES[0])
            await bench.pass_time(10 * RETRY_S)
            database.execute("ALTER TABLE away RENAME TO cursor")
            await copy.catch_up()

        assert copy.replica.message("SM" + NAMES[0]) is not None
    told = [(entry["event"], entry["log_level"]) for entry in logs]
    assert told == [("replica.cannot_write", "warning"), ("replica.writes_again", "info")]
    assert logs[1]["after_s"] >= RETRY_S


async def test_an_account_that_an_older_program_opened_gives_way_to_what_it_became(
    bench: Bench, tmp_path: Path
) -> None:
    author = bench.author("one")
    opened = AccountOpened(sid=ACCOUNT, friendly_name="First", auth_token="made-up")
    old = author.event(Kind.ACCOUNT, Type.ORIGINAL, ACCOUNT, ACCOUNT, opened)
    new = AccountOpened(
        sid=ACCOUNT,
        friendly_name="Second",
        auth_token="made-up",
        status=AccountStatus.SUSPENDED,
    )
    changed = author.event(Kind.ACCOUNT, Type.CHANGE, ACCOUNT, ACCOUNT, new)

    async def put(shard: int, account: str, event: Event) -> None:
        subject = created_subject(shard, Kind.ACCOUNT, account, ACCOUNT[2:])
        await bench.log.publish(shard, subject, encode(event), expected=None, timeout_s=1.0)

    async with Copy(bench, tmp_path / "replica.db").following() as copy:
        await put(0, ACCOUNT, old)
        await copy.catch_up()
        assert [each.friendly_name for each in copy.replica.accounts(ACCOUNT, items_max=2)] == [
            "First"
        ]
        await put(1, "any", changed)
        await copy.catch_up()
        await put(2, ACCOUNT, old)  # as one that was carried forward, or stands in another shard
        await copy.catch_up()

        account = copy.replica.account(ACCOUNT)
        assert account is not None
        assert (account.friendly_name, account.status) == ("Second", AccountStatus.SUSPENDED)
