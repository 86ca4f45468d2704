"""Who has opted out is read once, and again when that may have changed."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from trunkline.kernel import FakeClock
from trunkline.replica.opt_outs import REMEMBERED_MAX_S, WORDS_REMEMBERED_MAX, OptOuts
from trunkline.replica.progress import Progress

pytestmark = pytest.mark.anyio

OURS, HANDSET = "+15125550100", "+15125550123"


class Words:
    """A copy's keywords, and how often they were read."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self.progress = Progress(path, shards=3, clock=clock)
        self.words = [(HANDSET, "start"), (HANDSET, "stop"), ("+15125550124", "start")]
        self.reads = 0
        self._opt_outs = OptOuts(self._read, self.progress, clock)

    def _read(self, account: str, phone_number: str, items_max: int) -> list[tuple[str, str]]:
        self.reads += 1
        assert (account, phone_number) == ("AC1", OURS)
        return self.words[:items_max]

    def has(self, handset: str = HANDSET) -> bool | None:
        return self._opt_outs.has("AC1", OURS, handset)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def words(tmp_path: Path, clock: FakeClock) -> Iterator[Words]:
    made = Words(tmp_path / "progress", clock)
    with closing(made.progress):
        yield made


def test_all_handsets_of_a_number_are_known_from_one_reading(words: Words) -> None:
    assert [words.has(), words.has("+15125550124"), words.has("+1"), words.has()] == [
        *(True, False, False, True)
    ]
    assert words.reads == 1


def test_another_stop_or_start_is_seen_at_once(words: Words) -> None:
    assert words.has()
    words.progress.record(1, sequence=7, complete_at=None)
    assert words.has()
    words.progress.keywords_change()
    words.words.append((HANDSET, "start"))
    assert words.has() is None
    words.progress.keywords_changed()

    assert words.has() is False
    assert words.reads == 2


def test_a_projector_that_dies_while_it_writes_leaves_nothing_to_be_remembered(
    words: Words, tmp_path: Path, clock: FakeClock
) -> None:
    assert words.has()
    words.progress.keywords_change()
    with closing(Progress(tmp_path / "progress", shards=3, clock=clock)) as next_one:
        assert words.has() is None
        next_one.keywords_change()
        assert words.has() is None
        next_one.keywords_changed()
    words.words.clear()

    assert words.has() is False


async def test_nothing_is_remembered_for_long(words: Words, clock: FakeClock) -> None:
    assert words.has()
    words.words.clear()
    await clock.advance(REMEMBERED_MAX_S / 2)
    assert words.has()
    await clock.advance(REMEMBERED_MAX_S / 2)

    assert words.has() is False


def test_a_number_with_many_words_is_not_remembered_whole(words: Words) -> None:
    words.words = [(f"+{number}", "stop") for number in range(WORDS_REMEMBERED_MAX + 1)]
    assert words.has() is None
    assert words.has() is None
    assert words.reads == 1
