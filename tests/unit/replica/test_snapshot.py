"""Snapshots of the copy: whole, of one moment, and never half of one."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from trunkline.kernel.crash import CrashHere, CrashPoint, never_crash
from trunkline.replica import schema, snapshot
from trunkline.replica.snapshot import KEPT_MAX, SnapshotFailed, Snapshots, check

CLUSTER = "test"
ROWS = 4_000
"""Of a kilobyte: a few steps of a snapshot."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    path = tmp_path / "replica" / "replica.db"
    with closing(schema.open_for_writing(path, cluster=CLUSTER)) as database:
        database.execute("PRAGMA synchronous = OFF")
        put(database, *range(ROWS))
    return path


def put(database: sqlite3.Connection, *numbers: int) -> None:
    """Rows, and a cursor that says how many there are, in one transaction."""
    database.execute("BEGIN IMMEDIATE")
    for number in numbers:
        row = (f"{number:032x}", "", "AC1", "", "", 0.0, 0.0, bytes(1000))
        database.execute(
            "INSERT INTO message (digits, sid, account, sender, recipient, created_at, "
            "sent_or_created_at, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
    database.execute("INSERT OR REPLACE INTO cursor VALUES (0, ?)", (numbers[-1] + 1,))
    database.execute("COMMIT")


def snapshots_of(copy: Path, crash_here: CrashHere = never_crash) -> Snapshots:
    """Taken without pauses: nobody waits for the disk here."""
    return Snapshots(copy, CLUSTER, crash_here, pause_s=0.0)


def rows_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        count: int = database.execute("SELECT count(*) FROM message").fetchone()[0]
        return count


def test_a_snapshot_is_of_one_moment_although_the_copy_is_written_to(copy: Path) -> None:
    is_done = threading.Event()

    def write_on() -> None:
        with closing(schema.open_for_writing(copy, cluster=CLUSTER)) as database:
            database.execute("PRAGMA synchronous = OFF")
            for number in range(ROWS, 10 * ROWS):
                put(database, number)
                if is_done.is_set():
                    return

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        taken = Snapshots(copy, CLUSTER).take(threading.Event())
    finally:
        is_done.set()
        writer.join()

    assert taken.cursors[0] == rows_in(taken.path) >= ROWS
    assert rows_in(copy) > taken.cursors[0], "it was written to meanwhile"


def test_two_are_kept_and_a_number_is_never_used_twice(copy: Path) -> None:
    snapshots = snapshots_of(copy)

    names = [snapshots.take(threading.Event()).path.name for _ in range(KEPT_MAX + 2)]

    assert len(set(names)) == len(names)
    assert [each.path.name for each in snapshots.good()] == names[: -KEPT_MAX - 1 : -1]


def test_one_that_is_stopped_leaves_nothing_and_spares_those_before_it(copy: Path) -> None:
    snapshots = snapshots_of(copy)
    kept = snapshots.take(threading.Event())
    stop = threading.Event()
    stop.set()

    with pytest.raises(SnapshotFailed):
        snapshots.take(stop)

    assert snapshots.good() == [kept]
    snapshots.take(threading.Event())
    assert not list(snapshots.folder.glob("*.new*"))


def test_one_that_would_fill_the_disk_is_not_begun(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "ROOM_KEPT_BYTES", 1 << 60)

    with pytest.raises(SnapshotFailed, match="free on the disk"):
        snapshots_of(copy).take(threading.Event())

    assert not snapshots_of(copy).good()


class Died(Exception):
    """Where a process would have."""


@pytest.mark.parametrize(
    ("point", "is_kept"),
    [(CrashPoint.SNAPSHOT_BEFORE_RENAME, False), (CrashPoint.SNAPSHOT_AFTER_RENAME, True)],
)
def test_it_counts_from_the_moment_it_has_its_name(
    copy: Path, point: CrashPoint, is_kept: bool
) -> None:
    def die(here: CrashPoint, /) -> None:
        if here is point:
            raise Died

    with pytest.raises(Died):
        snapshots_of(copy, die).take(threading.Event())

    survivors = snapshots_of(copy)
    assert len(survivors.good()) == int(is_kept)
    survivors.take(threading.Event())
    assert len(survivors.good()) == 1 + int(is_kept)


def test_a_spoilt_one_does_not_count(copy: Path) -> None:
    snapshots = snapshots_of(copy)
    older, newer = snapshots.take(threading.Event()), snapshots.take(threading.Event())
    size = newer.path.stat().st_size
    with newer.path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * 8192)

    assert snapshots.good() == [older]
    assert check(newer.path, CLUSTER) is None


def test_one_of_another_cluster_does_not_count(copy: Path) -> None:
    taken = snapshots_of(copy).take(threading.Event())

    assert check(taken.path, "another") is None
    assert not Snapshots(copy, "another").good()


def test_no_other_one_is_taken_where_the_newest_is_enough(copy: Path) -> None:
    snapshots = snapshots_of(copy)
    first = snapshots.take(threading.Event())

    assert snapshots.take(threading.Event(), lambda newest: newest == first) == first
    assert snapshots.take(threading.Event(), lambda _: False) != first


def test_a_spoilt_one_is_never_enough(copy: Path) -> None:
    snapshots = snapshots_of(copy)
    first = snapshots.take(threading.Event())
    with first.path.open("r+b") as file:
        file.seek(first.path.stat().st_size // 2)
        file.write(b"\xff" * 8192)

    assert snapshots.take(threading.Event(), lambda _: True).path != first.path
