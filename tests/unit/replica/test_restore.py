"""A copy that is lost, spoilt or of another past, when the log alone cannot make it anew."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.unit.log.scripted_log import ACCOUNT
from tests.unit.messaging.message_bench import Bench, Copy

from trunkline.domain.events import HandedOver, Kind, Receipt, Type
from trunkline.domain.message import Message
from trunkline.domain.status import Status
from trunkline.messaging.record import EventRecorder
from trunkline.replica import migrations, schema
from trunkline.replica.progress import Progress
from trunkline.replica.queries import Replica
from trunkline.replica.restore import CopyLost, make_ready
from trunkline.replica.snapshot import Snapshots

pytestmark = pytest.mark.anyio

NAMES = [f"{number:032x}" for number in range(1, 30)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    return folder / "replica.db"


async def deliver(bench: Bench, name: str) -> None:
    recorder = EventRecorder(bench.log, author=bench.author("receipts"))
    outcome = HandedOver(attempt=1, carrier="acme", carrier_message_id=name)
    receipt = Receipt(status="delivered", carrier="acme", carrier_message_id=name)
    assert await recorder.record(Kind.MESSAGE, Type.OUTCOME, ACCOUNT, "SM" + name, outcome)
    assert await recorder.record(Kind.MESSAGE, Type.RECEIPT, ACCOUNT, "SM" + name, receipt)


async def shown(bench: Bench, path: Path) -> list[Message | None]:
    """What a host that starts now shows, when it has caught up."""
    async with Copy(bench, path).following() as copy:
        await copy.catch_up()
        return [copy.replica.message("SM" + name) for name in NAMES]


async def fill(bench: Bench, path: Path) -> list[Message | None]:
    for name in NAMES:
        await bench.put(name)
    return await shown(bench, path)


def take_snapshot(path: Path) -> Path:
    return Snapshots(path, "test").take(threading.Event()).path


async def trim(bench: Bench) -> None:
    """Of each shard only the newest message stays."""
    for shard in range(bench.log.shards):
        last = await bench.log.last_sequence(shard, timeout_s=0.0)
        assert isinstance(last, int)
        await bench.log.purge(shard, before=last, timeout_s=0.0)


def make_old(snapshot: Path) -> None:
    """What the snapshot holds, in the tables of the oldest version that is migrated."""
    old = snapshot.with_name("old")
    with closing(sqlite3.connect(old, isolation_level=None)) as database:
        database.executescript(schema.BASE_TABLES)
        tables = [
            row[0]
            for row in database.execute(
                "SELECT name FROM sqlite_master WHERE sql NOT NULL AND type = 'table'"
            )
        ]
        database.execute("ATTACH ? AS new", (str(snapshot),))
        for table in tables:
            names = ", ".join(
                row[1] for row in database.execute(f"PRAGMA main.table_info({table})")
            )
            database.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")  # noqa: S608 - our own names
        database.execute("CREATE TABLE origin AS SELECT * FROM new.origin")
        database.execute(f"PRAGMA main.user_version = {migrations.OLDEST}")
    old.replace(snapshot)


def spoil(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"no database at all" * 100)


async def test_a_lost_copy_is_put_together_from_a_snapshot_and_the_logs_tail(
    bench: Bench, path: Path
) -> None:
    await fill(bench, path)
    take_snapshot(path)
    await trim(bench)
    await deliver(bench, NAMES[0])
    before = await shown(bench, path)
    path.unlink()

    with capture_logs() as said:
        after = await shown(bench, path)

    assert after == before
    assert None not in after
    assert isinstance(after[0], Message)
    assert after[0].status is Status.DELIVERED
    assert [each["why"] for each in said if each["event"] == "replica.restored"] == ["is missing"]


async def test_a_spoilt_copy_is_restored_and_set_aside(bench: Bench, path: Path) -> None:
    before = await fill(bench, path)
    take_snapshot(path)
    await trim(bench)
    spoil(path)

    assert await shown(bench, path) == before
    assert path.with_name("replica.db.set-aside").exists()


async def test_a_spoilt_copy_is_restored_although_its_own_log_still_has_the_first_page(
    bench: Bench, path: Path
) -> None:
    before = await fill(bench, path)
    take_snapshot(path)
    await trim(bench)
    with closing(schema.open_for_reading(path)) as reader:
        reader.execute("SELECT count(*) FROM message").fetchone()
        with closing(schema.open_for_writing(path, cluster="test")) as writer:
            writer.execute("UPDATE cursor SET sequence = sequence")
            writer.execute("CREATE TABLE something (more)")
            writer.execute("DROP TABLE something")
    assert path.with_name("replica.db-wal").stat().st_size, "or it shows nothing"
    spoil(path)

    assert await shown(bench, path) == before
    assert path.with_name("replica.db.set-aside").exists()


async def test_the_older_snapshot_serves_where_the_newest_is_spoilt(
    bench: Bench, path: Path
) -> None:
    before = await fill(bench, path)
    take_snapshot(path)
    spoil(take_snapshot(path))
    await trim(bench)
    path.unlink()

    assert await shown(bench, path) == before


async def test_a_process_that_only_reads_sees_the_restored_copy(bench: Bench, path: Path) -> None:
    before = await fill(bench, path)
    progress = Progress(path.with_name("progress"), shards=bench.log.shards, clock=bench.clock)
    with closing(progress), closing(Replica(path, progress)) as reader:
        take_snapshot(path)
        await trim(bench)
        path.unlink()
        await make_ready(bench.log, path, "test")
        with closing(schema.open_for_writing(path, cluster="test")) as database:
            database.execute("DELETE FROM message WHERE digits <> ?", (NAMES[0],))

        shown_now = [reader.message("SM" + name) for name in NAMES]

    assert shown_now == [before[0], *[None] * (len(NAMES) - 1)]


async def test_a_snapshot_of_an_older_version_is_migrated_before_anybody_reads_it(
    bench: Bench, path: Path
) -> None:
    before = await fill(bench, path)
    snapshot = take_snapshot(path)
    make_old(snapshot)
    await trim(bench)
    path.unlink()

    await make_ready(bench.log, path, "test")

    progress = Progress(path.with_name("progress"), shards=bench.log.shards, clock=bench.clock)
    with closing(progress), closing(Replica(path, progress)) as reader:
        assert [reader.message("SM" + name) for name in NAMES] == before
        assert reader.applications(ACCOUNT, items_max=9) == []


async def test_no_host_serves_a_copy_with_a_hole(bench: Bench, path: Path) -> None:
    await fill(bench, path)
    await trim(bench)
    path.unlink()

    with pytest.raises(CopyLost, match="is missing"):
        await make_ready(bench.log, path, "test")

    assert not path.exists()


async def test_a_copy_that_stands_before_what_was_trimmed_is_not_followed_up(
    bench: Bench, path: Path
) -> None:
    await fill(bench, path)
    for name in NAMES:
        await deliver(bench, name)
    await trim(bench)

    with pytest.raises(CopyLost, match="is behind what the log still holds"):
        await make_ready(bench.log, path, "test")

    assert path.exists(), "it may be all there is"


async def test_a_snapshot_that_stands_before_what_was_trimmed_is_no_help(
    bench: Bench, path: Path
) -> None:
    await fill(bench, path)
    take_snapshot(path)
    for name in NAMES:
        await deliver(bench, name)
    await trim(bench)
    path.unlink()

    with pytest.raises(CopyLost):
        await make_ready(bench.log, path, "test")


@pytest.mark.parametrize(
    "change", ["PRAGMA user_version = 99", "UPDATE origin SET cluster = 'another'"]
)
async def test_a_copy_of_another_version_or_cluster_is_never_thrown_away_for_nothing(
    bench: Bench, path: Path, change: str
) -> None:
    await fill(bench, path)
    await trim(bench)
    with closing(sqlite3.connect(path)) as database:
        database.execute(change)
        database.commit()

    with pytest.raises(CopyLost, match="another cluster, or to another version"):
        await make_ready(bench.log, path, "test")

    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM message").fetchone()[0] == len(NAMES)


async def test_a_copy_that_is_ahead_of_a_trimmed_log_is_not_followed_up(
    bench: Bench, path: Path
) -> None:
    await fill(bench, path)
    past = Bench()
    for name in NAMES[:12]:
        await past.put(name)
    await trim(past)

    with pytest.raises(CopyLost, match="is ahead of the log"):
        await make_ready(past.log, path, "test")


async def test_a_log_that_was_never_trimmed_makes_the_copy_alone(bench: Bench, path: Path) -> None:
    before = await fill(bench, path)
    spoil(path)

    with capture_logs() as said:
        assert await shown(bench, path) == before
    assert "replica.made_anew" in {each["event"] for each in said}


async def test_a_copy_that_is_found_spoilt_while_it_is_written_to_is_restored_next_time(
    bench: Bench, path: Path
) -> None:
    before = await fill(bench, path)
    take_snapshot(path)
    await trim(bench)
    copy = Copy(bench, path)
    await copy.projector.open()
    folding = copy.projector._folding
    assert folding is not None

    with pytest.raises(sqlite3.DatabaseError):
        copy.projector._give_up_if_corrupt(corruption())
    folding.close()

    assert schema.damage_mark(path).exists()
    assert await shown(bench, path) == before
    assert not schema.damage_mark(path).exists()


def corruption() -> sqlite3.DatabaseError:
    """What SQLite says of a file that is none."""
    with closing(sqlite3.connect(":memory:")) as database:
        try:
            database.deserialize(b"no database at all" * 1000)
            database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.DatabaseError as error:
            return error
    raise AssertionError("SQLite took garbage for a database")


OLDER = """
DROP TRIGGER callbacks_no_more; DROP TABLE untold; DROP TABLE given_up;
DROP TABLE usage; DROP TABLE keyword; DROP TABLE application;
ALTER TABLE message DROP COLUMN owed_category; ALTER TABLE message DROP COLUMN owed_day;
ALTER TABLE message DROP COLUMN owed_segments; ALTER TABLE message DROP COLUMN owed_micros;
DROP TABLE api_key; DROP INDEX account_newest;
ALTER TABLE account DROP COLUMN owner; ALTER TABLE account DROP COLUMN friendly_name;
ALTER TABLE account DROP COLUMN status; ALTER TABLE account DROP COLUMN created_at;
DROP INDEX message_reply; ALTER TABLE message DROP COLUMN reply_at; DROP TABLE former_owner;
PRAGMA user_version = 2;
"""
"""Makes a copy of version 2 of one of the newest."""


async def test_an_older_copy_beside_a_trimmed_log_is_brought_up_to_date(
    bench: Bench, path: Path
) -> None:
    await fill(bench, path)
    for name in NAMES[:3]:
        await deliver(bench, name)
    before = await shown(bench, path)
    await trim(bench)
    with closing(sqlite3.connect(path)) as database:
        database.executescript(OLDER)

    with capture_logs() as told:
        after = await shown(bench, path)

    assert after == before
    assert [each["event"] for each in told] == ["replica.brought_up_to_date"]
    progress = Progress(path.with_name("progress"), shards=bench.log.shards, clock=bench.clock)
    with closing(progress), closing(Replica(path, progress)) as reader:
        assert [each.messages for each in reader.usage(ACCOUNT, 0, 10**6)] == [3]
