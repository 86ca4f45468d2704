"""The simulator's file: flushed before the callback, cut where it is torn, refused where damaged."""

import asyncio
import os
from pathlib import Path

import pytest

from trunkline.simulator.entries import Started, encode_entries
from trunkline.simulator.journal import FILE_NAME, JournalError, open_journal

FULL = Path("/dev/full")


def broken(error: OSError) -> None:
    raise error


def line(n: int) -> bytes:
    return encode_entries([Started(n=n, at=1.0, pid=n)])


def read_again(directory: Path) -> list[int]:
    journal, entries = open_journal(directory)
    found = [entry.n for entry in entries]
    journal.close()
    return found


@pytest.mark.anyio
async def test_what_was_called_back_is_in_the_file_in_order(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path)
    journal.start(asyncio.get_running_loop(), broken)
    seen: list[int] = []
    done = asyncio.Event()

    for n in range(1, 101):
        journal.append(line(n), lambda n=n: seen.append(n))  # type: ignore[misc]  # a default binds the number
    journal.append(b"", done.set)
    await done.wait()

    assert seen == list(range(1, 101))
    assert (tmp_path / FILE_NAME).read_bytes() == b"".join(map(line, range(1, 101)))
    journal.close()


@pytest.mark.anyio
async def test_closing_writes_what_still_waits(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path)
    journal.start(asyncio.get_running_loop(), broken)

    journal.append(line(1))
    journal.close()

    assert read_again(tmp_path) == [1]


@pytest.mark.anyio
async def test_what_nobody_waits_for_goes_with_what_comes_next_or_soon(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path)
    journal.start(asyncio.get_running_loop(), broken)
    done = asyncio.Event()

    journal.append(line(1))
    journal.append(line(2), done.set)
    await done.wait()
    assert (tmp_path / FILE_NAME).read_bytes() == line(1) + line(2)

    journal.append(line(3))
    async with asyncio.timeout(10):
        while (tmp_path / FILE_NAME).read_bytes() != line(1) + line(2) + line(3):
            await asyncio.sleep(0.01)
    journal.close()


@pytest.mark.parametrize("tail", [line(3)[:-1], b"{", b"\0" * 4096, b"\0\0\n\0", b'{"ev\0\0\n'])
def test_a_torn_tail_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(line(1) + line(2) + tail)

    assert read_again(tmp_path) == [1, 2]
    assert path.read_bytes() == line(1) + line(2)


def test_a_file_that_is_all_torn_becomes_empty(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"x" * 100_000)

    assert read_again(tmp_path) == []


def test_a_damaged_line_inside_is_refused_and_nothing_is_cut(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(line(1) + b'{"event":"unheard-of","n":2,"at":1}\n' + line(3))

    journal, entries = open_journal(tmp_path)
    with pytest.raises(JournalError, match="line 2 is damaged"):
        list(entries)
    journal.close()

    assert path.read_bytes().endswith(line(3))


def test_two_simulators_do_not_share_a_folder(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path)

    with pytest.raises(JournalError, match="another simulator"):
        open_journal(tmp_path)

    journal.close()
    assert read_again(tmp_path) == []


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
@pytest.mark.anyio
async def test_a_disk_that_fails_is_told_once_and_confirms_nothing(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path)
    failures: list[OSError] = []
    failed = asyncio.Event()

    def fail(error: OSError) -> None:
        failures.append(error)
        failed.set()

    full = os.open(FULL, os.O_WRONLY)
    os.dup2(full, journal._descriptor)
    os.close(full)
    journal.start(asyncio.get_running_loop(), fail)
    journal.append(line(1), lambda: pytest.fail("nothing was written"))
    await failed.wait()

    assert len(failures) == 1
    journal.close()
