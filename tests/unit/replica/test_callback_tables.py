"""What the copy shows as untold and as given up: written with each record, and made up by the step."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.replica.test_queries import ACCOUNT, OTHER_ACCOUNT, Rows, name

from trunkline.domain.events import (
    Claimed,
    Deleted,
    HandedOver,
    Kind,
    MessageCreated,
    Receipt,
    Told,
    Type,
)
from trunkline.replica import callback_tables, migrations, schema
from trunkline.replica.callback_tables import FIRST

URL = "https://u:secret@App.example/status?id=1"
RECEIVER = f"{ACCOUNT} https://app.example:443"
CLAIM = Claimed(attempt=1, nonce="n", lease="l", carrier="c")
TAKEN = HandedOver(attempt=1, carrier="c", carrier_message_id="1")
DELIVERED = Receipt(status="delivered", carrier="c", carrier_message_id="1")


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Rows]:
    made = Rows(tmp_path / "copy.sqlite3")
    yield made
    made.close()


def create(rows: Rows, number: int, url: str | None = URL, *, account: str = ACCOUNT) -> str:
    sid = name(number)
    body = MessageCreated(sid=sid, sender="+1", recipient="+2", text="hi", status_callback=url)
    rows.add(Kind.MESSAGE, Type.ORIGINAL, sid, body, at=10.0, account=account)
    return sid


def waiting(rows: Rows, receiver: str = RECEIVER) -> list[tuple[float, str]]:
    return rows.replica.waiting_for(receiver, behind=FIRST, items_max=100)


def test_a_message_waits_from_the_moment_of_its_first_untold_step_until_all_are_told(
    rows: Rows,
) -> None:
    sid = create(rows, 1)
    assert waiting(rows) == []

    rows.add(Kind.MESSAGE, Type.CLAIM, sid, CLAIM, at=11.0)
    rows.add(Kind.MESSAGE, Type.OUTCOME, sid, TAKEN, at=12.0)
    rows.add(Kind.MESSAGE, Type.RECEIPT, sid, DELIVERED, at=13.0)
    assert waiting(rows) == [(11.0, sid)]

    for step, since in (("sending", 12.0), ("sent", 13.0)):
        rows.add(Kind.MESSAGE, Type.TOLD, sid, Told(status=step, attempts=1), at=20.0)
        assert waiting(rows) == [(since, sid)]
    rows.add(Kind.MESSAGE, Type.TOLD, sid, Told(status="delivered", attempts=1), at=20.0)
    assert waiting(rows) == []


def test_what_tells_nobody_does_not_wait(rows: Rows) -> None:
    sid = create(rows, 1, None)
    rows.add(Kind.MESSAGE, Type.CLAIM, sid, CLAIM, at=11.0)

    assert rows.replica.receivers_waited_for(behind="", items_max=10) == []


def test_receivers_are_what_an_account_has_at_a_host_and_port_and_are_found_in_order(
    rows: Rows,
) -> None:
    urls = [URL, "https://app.example/other", "http://app.example:8080/", "no url"]
    for number, url in enumerate(urls):
        rows.add(Kind.MESSAGE, Type.CLAIM, create(rows, number, url), CLAIM, at=11.0)
    sid = create(rows, 9, account=OTHER_ACCOUNT)
    rows.add(Kind.MESSAGE, Type.CLAIM, sid, CLAIM, at=11.0, account=OTHER_ACCOUNT)

    found = rows.replica.receivers_waited_for(behind="", items_max=10)

    assert found == sorted(found)
    assert found == [
        f"{ACCOUNT} http://app.example:8080",
        RECEIVER,
        f"{ACCOUNT} no url",
        f"{OTHER_ACCOUNT} https://app.example:443",
    ]
    assert rows.replica.receivers_waited_for(behind=found[1], items_max=1) == found[2:3]
    assert len(waiting(rows)) == 2
    assert "secret" not in "".join(found)


def test_a_walk_goes_on_behind_where_it_was(rows: Rows) -> None:
    sids = [create(rows, number) for number in range(5)]
    for number, sid in enumerate(sids):
        rows.add(Kind.MESSAGE, Type.CLAIM, sid, CLAIM, at=20.0 - number)

    first = rows.replica.waiting_for(RECEIVER, behind=FIRST, items_max=2)
    rest = rows.replica.waiting_for(RECEIVER, behind=first[-1], items_max=10)

    assert [sid for _, sid in (*first, *rest)] == sids[::-1]


def test_what_was_given_up_is_shown_until_it_is_told_again(tmp_path: Path, rows: Rows) -> None:
    sid = create(rows, 1)
    rows.add(Kind.MESSAGE, Type.CLAIM, sid, CLAIM, at=11.0)
    ended = Told(status="sending", attempts=9, is_given_up=True)
    rows.add(Kind.MESSAGE, Type.TOLD, sid, ended, at=12.0)

    with closing(schema.open_for_reading(tmp_path / "copy.sqlite3")) as database:
        assert callback_tables.newest_given_up(database, items_max=9) == [(sid, 12.0)]
        assert callback_tables.counts(database) == (0, 1)
        again = Told(status="sending", attempts=1, is_replay=True)
        rows.add(Kind.MESSAGE, Type.TOLD, sid, again, at=13.0)
        assert callback_tables.counts(database) == (0, 0)


def test_a_deleted_message_is_told_to_its_end_and_a_forgotten_one_leaves_nothing(
    tmp_path: Path, rows: Rows
) -> None:
    sid = create(rows, 1)
    rows.add(Kind.MESSAGE, Type.CLAIM, sid, CLAIM, at=11.0)
    rows.add(Kind.MESSAGE, Type.DELETED, sid, Deleted(), at=12.0)
    assert waiting(rows) == [(11.0, sid)]

    with closing(sqlite3.connect(tmp_path / "copy.sqlite3")) as database:
        database.execute("DELETE FROM message")
        database.commit()
    assert waiting(rows) == []


def test_the_step_finds_what_an_older_copy_shows_and_leaves_what_is_weeks_old(
    tmp_path: Path, rows: Rows
) -> None:
    now = time.time()  # noqa: TID251 - the database compares with its own clock
    young, old = create(rows, 1), create(rows, 2)
    rows.add(Kind.MESSAGE, Type.CLAIM, young, CLAIM, at=now - 3600.0)
    rows.add(Kind.MESSAGE, Type.CLAIM, old, CLAIM, at=now - 30 * 86_400.0)
    (version,) = (each for each, step in migrations.STEPS.items() if step is callback_tables.add)
    with closing(sqlite3.connect(tmp_path / "copy.sqlite3")) as database:
        database.executescript(
            "DROP TRIGGER callbacks_no_more; DROP TABLE untold; DROP TABLE given_up;"
            f"PRAGMA user_version = {version - 1};"
        )
        migrations.migrate(database)

    assert [sid for _, sid in waiting(rows)] == [young]
