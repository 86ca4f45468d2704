"""A copy of an older version becomes one of this version, with everything that stands in it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from trunkline.replica import migrations, schema


def old_copy(path: Path) -> None:
    """As a program of the oldest version left it."""
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(schema.BASE_TABLES)
        database.execute("CREATE TABLE origin (cluster TEXT NOT NULL)")
        database.execute("INSERT INTO origin VALUES ('test')")
        database.execute("INSERT INTO cursor VALUES (3, 17)")
        database.execute("INSERT INTO account VALUES ('AC1', x'00')")
        database.execute(f"PRAGMA user_version = {migrations.OLDEST}")


def tables(database: sqlite3.Connection) -> list[tuple[str, str]]:
    return database.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_the_steps_follow_one_another_without_a_gap() -> None:
    assert sorted(migrations.STEPS) == list(range(migrations.OLDEST + 1, migrations.NEWEST + 1))


def test_an_old_copy_is_ours_and_keeps_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "replica.db"
    old_copy(path)

    assert schema.look(path, cluster="test") is schema.Look.OURS
    with closing(schema.open_for_writing(path, cluster="test")) as database:
        assert schema.cursors(database) == {3: 17}
        assert database.execute("SELECT sid FROM account").fetchall() == [("AC1",)]
        assert database.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
        migrated = tables(database)
    with closing(schema.open_for_writing(tmp_path / "new.db", cluster="test")) as database:
        assert tables(database) == migrated


def test_two_processes_may_migrate_it_at_once(tmp_path: Path) -> None:
    path = tmp_path / "replica.db"
    old_copy(path)
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as one,
        closing(sqlite3.connect(path, isolation_level=None)) as two,
    ):
        migrations.migrate(one)
        migrations.migrate(two)
        assert tables(one) == tables(two)


def test_a_step_that_fails_leaves_the_copy_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "replica.db"
    old_copy(path)

    def broken(database: sqlite3.Connection) -> None:
        database.execute("CREATE TABLE half (x)")
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(migrations, "STEPS", {**migrations.STEPS, migrations.NEWEST: broken})

    with pytest.raises(sqlite3.Error):
        schema.open_for_writing(path, cluster="test")

    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (migrations.OLDEST,)
        assert not {"application", "half"} & dict(tables(database)).keys()


@pytest.mark.parametrize("version", [migrations.OLDEST - 1, migrations.NEWEST + 1])
def test_a_copy_of_a_version_that_cannot_be_migrated_is_not_ours(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "replica.db"
    old_copy(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {version}")

    assert schema.look(path, cluster="test") is schema.Look.OTHER
