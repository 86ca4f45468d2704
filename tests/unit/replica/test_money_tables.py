"""The copy's sums and keywords: the same in any order, once for each message, kept through a step."""

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from tests.unit.replica.test_queries import ACCOUNT, OTHER_ACCOUNT, Rows, name

from trunkline.domain.events import (
    Ambiguous,
    Body,
    Canceled,
    Deleted,
    HandedOver,
    Kind,
    MessageCreated,
    MessageReceived,
    NumberOwned,
    Receipt,
    Redacted,
    Type,
)
from trunkline.domain.message import Message, fold
from trunkline.domain.price import DAY_S, Category
from trunkline.log.interface import Unreadable
from trunkline.replica import migrations, schema
from trunkline.replica.folding import Folding
from trunkline.replica.money_tables import KEYWORDS_KEPT_MAX
from trunkline.replica.opt_outs import WORDS_REMEMBERED_MAX
from trunkline.replica.queries import Usage

OURS, HANDSET = "+15125550100", "+15125550123"
NOON = 20_000 * DAY_S + DAY_S / 2
HANDED_OVER = HandedOver(attempt=1, carrier="c", carrier_message_id="1")


def created(number: int) -> MessageCreated:
    return MessageCreated(
        sid=name(number),
        sender=OURS,
        recipient=HANDSET,
        text="hi",
        num_segments=2,
        price_micros=15_800,
    )


def said(number: int, text: str) -> MessageReceived:
    return MessageReceived(
        sid=name(number), sender=HANDSET, recipient=OURS, text=text, price_micros=7_900
    )


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Rows]:
    made = Rows(tmp_path / "copy.sqlite3")
    yield made
    made.close()


def send(rows: Rows, number: int, *, at: float = NOON) -> None:
    rows.add(Kind.MESSAGE, Type.ORIGINAL, name(number), created(number), at=at)
    rows.add(Kind.MESSAGE, Type.OUTCOME, name(number), HANDED_OVER, at=at)


def hear(rows: Rows, number: int, text: str, *, at: float) -> None:
    rows.add(Kind.INBOUND, Type.ORIGINAL, name(number), said(number, text), at=at)


def usage(rows: Rows, account: str = ACCOUNT) -> list[Usage]:
    return rows.replica.usage(account, 0, 30_000)


def test_what_has_left_is_summed_by_day_and_category(rows: Rows) -> None:
    for number in (1, 2):
        send(rows, number)
    send(rows, 3, at=NOON + DAY_S)
    hear(rows, 4, "hello", at=NOON)
    rows.add(Kind.MESSAGE, Type.ORIGINAL, name(5), created(5), at=NOON)

    assert usage(rows) == [
        Usage(20_000, Category.SMS_INBOUND, 1, 1, 7_900),
        Usage(20_000, Category.SMS_OUTBOUND, 2, 4, 31_600),
        Usage(20_001, Category.SMS_OUTBOUND, 1, 2, 15_800),
    ]
    assert rows.replica.usage(ACCOUNT, 20_001, 20_001) == usage(rows)[2:]
    assert usage(rows, OTHER_ACCOUNT) == []


EVENTS: tuple[tuple[Type, Body], ...] = (
    (Type.ORIGINAL, created(1)),
    (Type.AMBIGUOUS, Ambiguous(attempt=1)),
    (Type.OUTCOME, HANDED_OVER),
    (Type.RECEIPT, Receipt(status="delivered", carrier="c", carrier_message_id="1")),
)


@pytest.mark.parametrize("order", [*itertools.permutations(range(len(EVENTS)))])
def test_a_message_is_in_the_sums_once_whatever_comes_when_and_twice(
    rows: Rows, order: tuple[int, ...]
) -> None:
    for number in (*order, *order):
        type_, body = EVENTS[number]
        rows.add(Kind.MESSAGE, type_, name(1), body, at=NOON)

    assert usage(rows) == [Usage(20_000, Category.SMS_OUTBOUND, 1, 2, 15_800)]


def test_what_turns_out_to_have_failed_leaves_the_sums(rows: Rows) -> None:
    send(rows, 1)
    failed = Receipt(status="failed", carrier="c", carrier_message_id="1")
    rows.add(Kind.MESSAGE, Type.RECEIPT, name(1), failed, at=NOON)

    assert usage(rows) == []


def test_a_record_that_is_forgotten_stays_in_the_sums(rows: Rows, tmp_path: Path) -> None:
    send(rows, 1)
    before = usage(rows)
    with closing(sqlite3.connect(tmp_path / "copy.sqlite3")) as database, database:
        database.execute("DELETE FROM message")

    assert usage(rows) == before


@pytest.mark.parametrize("type_", [Type.REDACTED, Type.DELETED])
def test_what_was_erased_stays_in_the_sums_as_what_it_was(rows: Rows, type_: Type) -> None:
    body = Redacted() if type_ is Type.REDACTED else Deleted()
    picture = replace(created(1), media_urls=("https://media.example/1",), price_micros=20_000)
    rows.add(Kind.MESSAGE, Type.ORIGINAL, name(1), picture, at=NOON)
    rows.add(Kind.MESSAGE, Type.OUTCOME, name(1), HANDED_OVER, at=NOON)
    before = usage(rows)

    rows.add(Kind.MESSAGE, type_, name(1), body, at=NOON + 1)

    assert before == [Usage(20_000, Category.MMS_OUTBOUND, 1, 2, 20_000)]
    assert usage(rows) == before


def test_what_was_canceled_never_was_in_the_sums(rows: Rows) -> None:
    later = replace(created(1), send_at=NOON + DAY_S)
    rows.add(Kind.MESSAGE, Type.ORIGINAL, name(1), later, at=NOON)
    rows.add(Kind.MESSAGE, Type.CANCEL, name(1), Canceled(), at=NOON + 1)

    assert usage(rows) == []


@pytest.mark.parametrize("erased", [Redacted(), Deleted()], ids=["redacted", "deleted"])
def test_a_stop_that_was_erased_counts_also_in_a_copy_that_never_showed_it(
    tmp_path: Path, erased: Body
) -> None:
    path = tmp_path / "copy.sqlite3"
    old_copy(path, folded(said(1, "STOP"), erased))
    assert schema.bring_up_to_date(path, cluster="test")
    rows = Rows(path)
    folding = Folding(schema.open_for_writing(path, cluster="test"))
    other = MessageReceived(sid=name(2), sender="+15125550199", recipient=OURS, text="stop")
    folding.mend(folded(other, erased))
    folding.write()
    folding.commit()

    assert rows.replica.has_opted_out(ACCOUNT, OURS, HANDSET)
    assert rows.replica.has_opted_out(ACCOUNT, OURS, "+15125550199")
    folding.close()
    rows.close()


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_the_last_word_counts_in_whatever_order_they_are_heard(
    rows: Rows, order: tuple[int, ...]
) -> None:
    words = ((1, "START", NOON), (2, "Stop", NOON + 1), (3, "help", NOON + 2))
    for index in (*order, *order):
        number, text, at = words[index]
        hear(rows, number, text, at=at)

    assert rows.replica.has_opted_out(ACCOUNT, OURS, HANDSET)
    assert not rows.replica.has_opted_out(ACCOUNT, OURS, HANDSET, before=(NOON + 1, name(2)))
    assert not rows.replica.has_opted_out(ACCOUNT, OURS, "+15125550199")
    assert not rows.replica.has_opted_out(OTHER_ACCOUNT, OURS, HANDSET)


def test_a_copy_that_cannot_be_read_says_so_to_whoever_sends(rows: Rows, tmp_path: Path) -> None:
    assert rows.replica.opt_out(ACCOUNT, OURS, HANDSET) is False
    with closing(sqlite3.connect(tmp_path / "copy.sqlite3")) as database, database:
        database.execute("DROP TABLE keyword")

    assert isinstance(rows.replica.opt_out(ACCOUNT, "+15125550101", HANDSET), Unreadable)


def test_a_start_behind_a_stop_ends_it(rows: Rows) -> None:
    hear(rows, 1, "STOP", at=NOON)
    hear(rows, 2, "unstop", at=NOON + 1)

    assert not rows.replica.has_opted_out(ACCOUNT, OURS, HANDSET)


def test_of_many_words_the_newest_are_kept(rows: Rows, tmp_path: Path) -> None:
    for number in range(3 * KEYWORDS_KEPT_MAX):
        hear(rows, number, "STOP" if number % 2 else "START", at=NOON + number)

    with closing(sqlite3.connect(tmp_path / "copy.sqlite3")) as database:
        (count,) = database.execute("SELECT count(*) FROM keyword").fetchone()
    assert count == KEYWORDS_KEPT_MAX
    assert rows.replica.has_opted_out(ACCOUNT, OURS, HANDSET)


def test_a_stop_counts_although_it_was_remembered_that_there_was_none(rows: Rows) -> None:
    for number, text in enumerate(("STOP", "START", "stop")):
        is_opted_out = rows.replica.has_opted_out(ACCOUNT, OURS, HANDSET)
        assert is_opted_out is (text == "START")
        hear(rows, number, text, at=NOON + number)

    assert rows.replica.has_opted_out(ACCOUNT, OURS, HANDSET)


def test_of_a_number_with_many_words_each_handset_is_asked_about(rows: Rows) -> None:
    handsets = [f"+1512555{number:04d}" for number in range(WORDS_REMEMBERED_MAX + 1)]
    for number, handset in enumerate(handsets):
        body = replace(said(number, "STOP" if number % 2 else "START"), sender=handset)
        rows.add(Kind.INBOUND, Type.ORIGINAL, name(number), body, at=NOON)
        if number % 8 == 0 or number >= WORDS_REMEMBERED_MAX - 1:
            heard = [rows.replica.has_opted_out(ACCOUNT, OURS, each) for each in handsets]
            assert heard == [at % 2 == 1 and at <= number for at in range(len(handsets))]


def old_copy(path: Path, *messages: Message) -> None:
    """A copy as the version before these tables left it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(schema.BASE_TABLES)
        database.execute("CREATE TABLE origin (cluster TEXT NOT NULL)")
        database.execute("INSERT INTO origin VALUES ('test')")
        for each in messages:
            row = (each.sid[2:], each.sid, each.account, "", "", each.created_at, 0.0)
            database.execute(
                "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, msgspec.msgpack.encode(each)),
            )
        database.execute(f"PRAGMA user_version = {migrations.OLDEST}")


def folded(kind_of: Body, *later: Body) -> Message:
    message = Message(account=ACCOUNT)
    for number, body in enumerate((kind_of, *later)):
        message = fold(message, body, at=NOON, event_id=str(number), position=0)
    return message


def test_an_older_copy_is_brought_up_to_date_with_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "copy.sqlite3"
    old_copy(path, folded(created(1), HANDED_OVER), folded(created(2)), folded(said(3, "stop")))

    assert schema.bring_up_to_date(path, cluster="test") == len(migrations.STEPS)

    assert schema.look(path, cluster="test") is schema.Look.OURS
    assert schema.bring_up_to_date(path, cluster="test") == 0
    rows = Rows(path)
    assert usage(rows) == [
        Usage(20_000, Category.SMS_INBOUND, 1, 1, 7_900),
        Usage(20_000, Category.SMS_OUTBOUND, 1, 2, 15_800),
    ]
    assert rows.replica.has_opted_out(ACCOUNT, OURS, HANDSET)
    rows.add(Kind.MESSAGE, Type.OUTCOME, name(1), HANDED_OVER, at=NOON)
    rows.add(Kind.MESSAGE, Type.OUTCOME, name(2), HANDED_OVER, at=NOON)
    assert usage(rows)[1] == Usage(20_000, Category.SMS_OUTBOUND, 2, 4, 31_600)
    rows.close()


def test_a_copy_of_another_cluster_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "copy.sqlite3"
    old_copy(path)

    assert schema.bring_up_to_date(path, cluster="another") == 0
    assert schema.look(path, cluster="another") is schema.Look.OTHER
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (migrations.OLDEST,)


def test_a_record_that_a_peer_gave_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "copy.sqlite3"
    rows = Rows(path)
    folding = Folding(schema.open_for_writing(path, cluster="test"))
    for _ in range(2):
        folding.mend(folded(created(1), HANDED_OVER))
        folding.mend(folded(said(2, "STOP")))
        folding.write()
        folding.commit()
        folding.forget_written()

    assert [each.messages for each in usage(rows)] == [1, 1]
    assert rows.replica.has_opted_out(ACCOUNT, OURS, HANDSET)
    folding.close()
    rows.close()


def test_a_record_that_cannot_be_read_leaves_the_sums_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "copy.sqlite3"
    rows = Rows(path)
    send(rows, 1)
    before = usage(rows)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE message SET state = x'00'")
    folding = Folding(schema.open_for_writing(path, cluster="test"))

    folding.mend(folded(created(1), HANDED_OVER))
    folding.write()
    folding.commit()

    assert before == usage(rows) == [Usage(20_000, Category.SMS_OUTBOUND, 1, 2, 15_800)]
    folding.close()
    rows.close()


def test_a_write_that_is_taken_back_and_done_again_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "copy.sqlite3"
    rows = Rows(path)
    folding = Folding(schema.open_for_writing(path, cluster="test"))
    folding.mend(folded(created(1), HANDED_OVER))
    for is_failing in (True, False):
        folding.write()
        if is_failing:
            folding.take_back()
    folding.commit()
    folding.forget_written()
    failed = Receipt(status="failed", carrier="c", carrier_message_id="1")
    folding.mend(folded(created(1), HANDED_OVER, failed))
    for is_failing in (True, False):
        folding.write()
        if is_failing:
            folding.take_back()
    folding.commit()

    assert usage(rows) == []
    folding.close()
    rows.close()


def test_a_message_that_is_in_memory_no_more_is_still_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.replica.folding.MESSAGES_CACHED_MAX", 1)
    rows = Rows(tmp_path / "copy.sqlite3")
    for number in (1, 2, 3, 1, 2, 3):
        send(rows, number)

    assert usage(rows) == [Usage(20_000, Category.SMS_OUTBOUND, 3, 6, 47_400)]
    rows.close()


def test_a_stop_to_a_number_that_was_moved_counts_for_whoever_has_it_now(rows: Rows) -> None:
    hear(rows, 1, "STOP", at=NOON)
    owned = NumberOwned(sid="PN" + "1" * 32, phone_number=OURS, friendly_name="desk")
    moved = replace(owned, former_accounts=(ACCOUNT,))

    def own(body: NumberOwned | Deleted, type_: Type, account: str = OTHER_ACCOUNT) -> None:
        rows.add(Kind.NUMBER, type_, owned.sid, body, at=NOON, account=account)

    own(owned, Type.ORIGINAL)
    assert not rows.replica.has_opted_out(OTHER_ACCOUNT, OURS, HANDSET)
    for _ in range(2):
        own(moved, Type.CHANGE)
        assert rows.replica.has_opted_out(OTHER_ACCOUNT, OURS, HANDSET)
        assert not rows.replica.has_opted_out(OTHER_ACCOUNT, HANDSET, OURS)

    rows.add(
        Kind.INBOUND,
        Type.ORIGINAL,
        name(2),
        said(2, "START"),
        at=NOON + 60.0,
        account=OTHER_ACCOUNT,
    )
    assert not rows.replica.has_opted_out(OTHER_ACCOUNT, OURS, HANDSET)
    hear(rows, 3, "STOP", at=NOON + 120.0)
    own(Deleted(), Type.DELETED)
    assert not rows.replica.has_opted_out(OTHER_ACCOUNT, OURS, HANDSET)
