"""Erasing: what a finished message said is gone from the copy, in whatever order it hears of it."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.log.scripted_log import Fate, Publish
from tests.unit.messaging.message_bench import Bench, Copy

from trunkline.domain.message import merge
from trunkline.kernel import Deadline
from trunkline.log.limits import TRY_TIMEOUT_S
from trunkline.log.shards import SHARDS
from trunkline.messaging.erase import Eraser
from trunkline.messaging.record import EventRecorder
from trunkline.replica.queries import MessageFilter

pytestmark = pytest.mark.anyio

NAME = "a" * 32
SID = "SM" + NAME


@pytest.fixture
async def copy(bench: Bench, tmp_path: Path) -> AsyncIterator[Copy]:
    async with Copy(bench, tmp_path / "replica.db").following() as copy:
        await bench.put(NAME)
        await copy.catch_up()
        yield copy


def eraser(bench: Bench, copy: Copy) -> Eraser:
    author = bench.author("one")
    return Eraser(EventRecorder(bench.log, author=author), copy.replica, author)


def soon(bench: Bench) -> Deadline:
    return Deadline.after(10.0, bench.clock)


async def test_what_was_redacted_is_gone_from_the_copy(bench: Bench, copy: Copy) -> None:
    known = copy.replica.message(SID)
    assert known is not None
    assert known.original is not None
    assert known.original.text

    redacted = await bench.within_time(eraser(bench, copy).redact(known, deadline=soon(bench)))
    await copy.catch_up()

    shown = copy.replica.message(SID)
    assert shown is not None
    assert shown.original is not None
    assert redacted.original == shown.original
    assert shown.original.text == ""


@pytest.mark.parametrize("what", ["redact", "delete"])
async def test_a_copy_made_anew_and_one_mended_by_an_older_one_do_not_show_it_either(
    bench: Bench, copy: Copy, tmp_path: Path, what: str
) -> None:
    before = copy.replica.message(SID)
    assert before is not None
    own = eraser(bench, copy)

    erase = own.redact if what == "redact" else own.delete
    assert await bench.within_time(erase(before, deadline=soon(bench)))

    async with Copy(bench, tmp_path / "anew.db").following() as anew:
        for each in (copy, anew):
            await each.catch_up()
            shown = each.replica.message(SID)
            assert shown is not None
            for joined in (shown, merge(shown, before), merge(before, shown)):
                assert joined.original is not None
                assert joined.original.text == ""
                assert joined.is_deleted == (what == "delete")


async def test_a_deleted_message_is_in_no_list_and_its_row_does_not_say_whose_it_was(
    bench: Bench, copy: Copy, tmp_path: Path
) -> None:
    known = copy.replica.message(SID)
    assert known is not None

    assert await bench.within_time(eraser(bench, copy).delete(known, deadline=soon(bench)))
    await copy.catch_up()

    kept = copy.replica.message(SID)
    assert kept is not None
    assert kept.is_deleted
    assert copy.replica.messages(known.account, MessageFilter(), items_max=10) == []
    with closing(sqlite3.connect(tmp_path / "replica.db")) as database:
        assert database.execute("SELECT sender, recipient FROM message").fetchall() == [("", "")]


async def test_what_no_shard_takes_is_not_said_to_be_done(bench: Bench, copy: Copy) -> None:
    known = copy.replica.message(SID)
    assert known is not None
    for shard in range(SHARDS):
        bench.log.always(Fate.LOST, shard)

    assert not await bench.within_time(eraser(bench, copy).delete(known, deadline=soon(bench)))


@pytest.mark.parametrize("what", ["redact", "delete"])
async def test_while_the_log_is_away_the_answer_comes_within_its_deadline(
    bench: Bench, copy: Copy, what: str
) -> None:
    known = copy.replica.message(SID)
    assert known is not None
    asked: list[float] = []

    async def is_away(publish: Publish) -> None:
        del publish
        asked.append(bench.clock.monotonic())
        await bench.clock.sleep(TRY_TIMEOUT_S)

    bench.log.on_publish = is_away
    bench.log.always(Fate.LOST)
    began, own = bench.clock.monotonic(), eraser(bench, copy)
    erase = own.redact if what == "redact" else own.delete

    assert not await bench.within_time(erase(known, deadline=Deadline.after(1.0, bench.clock)))
    assert asked
    assert max(asked) - began <= 1.0
