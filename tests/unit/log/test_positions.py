"""How far services are: what is told to others, what is noted, and what is made of it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import ParamSpec, cast

import msgspec
import pytest

from trunkline.host.layout import Layout
from trunkline.kernel.virtual import VirtualClock, run_in_virtual_time
from trunkline.log.engines.jetstream import positions
from trunkline.log.engines.jetstream.positions import Key, Note, Position, Positions
from trunkline.log.engines.jetstream.requests import Requests, Unanswered
from trunkline.log.local_bus import LocalBus

DISPATCH = Key("EV_3", "dispatch", ("ev.3.message.>",))
INTAKE = Key("EV_3", "intake", ("ev.3.message.>", "ev.3.call.>"))
AT = "2026-01-02T03:04:05.678901234Z"
NOTES = {
    DISPATCH: Note(DISPATCH, Position(7, (3, 5)), AT),
    INTAKE: Note(INTAKE, Position(9_000_000_000), AT),
}


class Shard:
    """Answers when the message of a sequence was stored; a silent one does not."""

    def __init__(self, at: str = AT) -> None:
        self.at = at
        self.is_silent = False

    async def ask(self, subject: str, payload: bytes = b"", *, timeout_s: float) -> object:
        del subject, payload, timeout_s
        if self.is_silent:
            return Unanswered("nobody")
        return msgspec.json.encode({"message": {"time": self.at}})


Arguments = ParamSpec("Arguments")


def in_virtual_time(test: Callable[Arguments, Awaitable[None]]) -> Callable[Arguments, None]:
    @wraps(test)
    def play(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        run_in_virtual_time(main())

    return play


@asynccontextmanager
async def listening(*all_of_them: Positions) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(each.run()) for each in all_of_them]
        await told()
        yield
        for task in running:
            task.cancel()


async def told() -> None:
    """What was sent has come."""
    await asyncio.sleep(0.001)


def make(
    shard: Shard, path: Path | None = None, bus: LocalBus | None = None
) -> tuple[Positions, LocalBus]:
    bus = bus or LocalBus()
    return Positions(cast(Requests, shard), bus, path, VirtualClock()), bus


def test_a_position_names_what_is_open_in_order_and_no_more_than_can_be_said() -> None:
    assert Position.of(9, [7, 3]) == Position(9, (3, 7))
    assert Position.of(9, [7, 3]).floor == 2
    assert Position.of(9, []).floor == 9

    many = Position.of(10_000, list(range(1, 10_000, 2)))

    assert len(many.open) == positions.OPEN_MAX
    assert many.upto == 2 * positions.OPEN_MAX  # what is behind is said to be done by nobody
    assert many.floor == 0


def test_of_two_true_positions_the_one_that_says_more_is_kept() -> None:
    ladder = [Position(), Position(5, (1,)), Position(9, (1, 4)), Position(9, (1,)), Position(9)]

    for less, more in itertools.combinations(ladder, 2):
        assert less.is_behind(more)
        assert not more.is_behind(less)
    assert not Position(9, (4,)).is_behind(Position(9, (4,)))


@in_virtual_time
async def test_what_a_reader_has_done_is_known_here_and_told_to_others(tmp_path: Path) -> None:
    here, bus = make(Shard())
    there, _ = make(Shard(), bus=bus)
    async with listening(here, there):
        done = [Position(3)]
        end = here.reading(DISPATCH, lambda: done[0])
        assert there.known(DISPATCH) == Position()

        here.say()
        await told()
        assert there.known(DISPATCH) == Position(3)

        done[0] = Position(8, (5,))
        assert here.floors("EV_3") == {"dispatch": 4}
        end()
        done[0] = Position(99)
        here.say()
        await told()
        assert there.known(DISPATCH) == Position(8, (5,))
        assert there.floors("EV_3") == {"dispatch": 4}
        assert there.floors("EV_4") == {}


@in_virtual_time
async def test_who_starts_asks_and_hears_the_last_word_of_one_that_is_gone() -> None:
    heard, bus = make(Shard())
    async with listening(heard):
        gone, _ = make(Shard(), bus=bus)
        gone.reading(DISPATCH, lambda: Position(8))
        gone.say()
        await told()

        new, _ = make(Shard(), bus=bus)
        async with listening(new):
            assert new.known(DISPATCH) == Position(8)


@in_virtual_time
async def test_a_service_that_is_only_expected_is_told_to_nobody_as_known() -> None:
    here, bus = make(Shard())
    there, _ = make(Shard(), bus=bus)
    here.expect(DISPATCH)
    there.expect(DISPATCH)
    async with listening(here, there):
        await asyncio.sleep(2.0 * positions.NOTE_EVERY_S)
        assert not here.is_fresh(DISPATCH)
        assert not there.is_fresh(DISPATCH)

        end = here.reading(DISPATCH, lambda: Position(8))
        await asyncio.sleep(2.0 * positions.SAY_EVERY_S)
        end()
        assert here.is_fresh(DISPATCH)
        assert there.is_fresh(DISPATCH)


@in_virtual_time
async def test_a_note_makes_nothing_known_to_those_who_ask(tmp_path: Path) -> None:
    path = tmp_path / "positions.json"
    positions.write(path, NOTES)
    noted, bus = make(Shard(), path)
    async with listening(noted):
        assert await noted.best(DISPATCH) == Position(7, (3, 5))
        assert not noted.is_fresh(DISPATCH)

        new, _ = make(Shard(), bus=bus)
        async with listening(new):
            assert not new.is_fresh(DISPATCH)
            assert new.known(DISPATCH) == Position()


@in_virtual_time
async def test_words_that_make_no_sense_are_passed_over() -> None:
    here, bus = make(Shard())
    async with listening(here):
        for word in (b"", b"[]", b'{"positions":[[1,2]]}', b"\xff"):
            bus.send("positions.said", word)
        await told()
        assert here.floors("EV_3") == {}


@in_virtual_time
async def test_a_service_that_nothing_was_heard_of_has_done_nothing() -> None:
    here, _ = make(Shard())
    here.expect(DISPATCH)

    assert here.floors("EV_3") == {"dispatch": 0}
    assert await here.best(DISPATCH) == Position()


@in_virtual_time
async def test_a_note_counts_once_its_message_is_found_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "positions.json"
    positions.write(path, NOTES)
    shard = Shard()
    here, _ = make(shard, path)

    shard.is_silent = True
    assert await here.best(DISPATCH) == Position()
    shard.is_silent = False
    assert await here.best(DISPATCH) == Position(7, (3, 5))

    other, _ = make(Shard(at="2025-01-01T00:00:00Z"), path)
    assert await other.best(DISPATCH) == Position()


@in_virtual_time
async def test_what_is_noted_joins_what_the_other_processes_noted(tmp_path: Path) -> None:
    path = tmp_path / "positions.json"
    here, _ = make(Shard(), path)
    here.reading(DISPATCH, lambda: Position(9, (4,)))
    positions.write(path, {INTAKE: NOTES[INTAKE]})

    await here.note()

    assert positions.read(path) == {
        INTAKE: NOTES[INTAKE],
        DISPATCH: Note(DISPATCH, Position(9, (4,)), AT),
    }


def test_what_was_noted_is_read_again_and_a_later_note_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "positions.json"

    positions.write(path, NOTES)
    assert positions.read(path) == NOTES

    later = {DISPATCH: Note(DISPATCH, Position(8), AT)}
    positions.write(path, later)
    assert positions.read(path) == later
    assert [entry.name for entry in tmp_path.iterdir()] == ["positions.json"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"format":2}',
        b'{"format":1,"notes":[]}',
        b'{"format":2,"notes":[{"key":{"stream":"","service":""},"position":{"upto":7},"at":"x"}]}',
        b'{"format":2,"notes":[{"key":{"stream":"","service":"","filters":[]},"position":7,"at":"x"}]}',
        b'{"format":2,"notes":[{"key":{"stream":"","service":"","filters":[]},"position":{},"at":""}]}',
    ],
)
def test_a_file_that_says_nothing_sensible_is_no_note(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "positions.json"
    path.write_bytes(content)

    assert positions.read(path) == {}


def test_a_file_cut_short_or_too_large_or_missing_is_no_note(tmp_path: Path) -> None:
    path = tmp_path / "positions.json"
    assert positions.read(path) == {}

    positions.write(path, NOTES)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert positions.read(path) == {}

    path.write_bytes(whole + b" " * (positions.FILE_BYTES_MAX - len(whole)))
    assert positions.read(path) == NOTES
    path.write_bytes(whole + b" " * (positions.FILE_BYTES_MAX + 1 - len(whole)))
    assert positions.read(path) == {}


def test_no_more_notes_are_kept_than_fit(tmp_path: Path) -> None:
    path = tmp_path / "positions.json"
    keys = [Key("EV_0", f"service-{number}", ()) for number in range(positions.NOTES_MAX + 5)]

    positions.write(path, {key: Note(key, Position(1), AT) for key in keys})

    assert list(positions.read(path)) == keys[5:]


def test_the_notes_stand_in_the_folder_of_the_log_they_are_of(tmp_path: Path) -> None:
    layout = Layout(tmp_path)

    assert layout.positions.parent == layout.log
