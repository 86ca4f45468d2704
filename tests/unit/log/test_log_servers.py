"""What the engine knows of its servers, without any: copies of a word, and how long to wait."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from trunkline.log.engines.jetstream.bus import SENDERS_MAX, WINDOW, Once
from trunkline.log.engines.jetstream.pace import REFRESH_EVERY, TryTimes
from trunkline.log.limits import TRY_TIMEOUT_S

A, B = b"a" * 8, b"b" * 8


@given(
    st.lists(st.tuples(st.sampled_from((A, B)), st.integers(1, WINDOW - 1)), max_size=400),
    st.integers(0, 1 << 32),
)
def test_whatever_the_order_each_word_is_taken_once(
    words: list[tuple[bytes, int]], offset: int
) -> None:
    once = Once()

    taken = [(who, number) for who, number in words if once.is_first(who, number + offset)]

    assert taken == list(dict.fromkeys(words))


def test_a_word_from_long_ago_is_dropped() -> None:
    once = Once()

    assert once.is_first(A, 1)
    assert once.is_first(A, 1 + 3 * WINDOW)
    assert not once.is_first(A, 1 + WINDOW)
    assert once.is_first(A, 3 * WINDOW)


def test_of_many_senders_the_one_that_was_silent_longest_is_forgotten() -> None:
    once = Once()
    for number in range(SENDERS_MAX):
        assert once.is_first(number.to_bytes(8, "big"), 1)
    assert not once.is_first((0).to_bytes(8, "big"), 1)

    assert once.is_first(A, 1)

    assert not once.is_first((0).to_bytes(8, "big"), 1)
    assert once.is_first((1).to_bytes(8, "big"), 1)


def test_while_nothing_is_known_a_publish_may_take_its_whole_time() -> None:
    assert TryTimes(12).timeout_s == TRY_TIMEOUT_S


def test_the_bound_follows_what_publishes_take() -> None:
    times = TryTimes(12)

    answered(times, range(12), 0.03, 2 * REFRESH_EVERY)

    assert 0.085 < times.timeout_s < 0.095


def test_shards_that_are_away_do_not_slow_down_the_way_round_them() -> None:
    times = TryTimes(12)
    answered(times, range(12), 0.002, 1000)

    for _ in range(100):
        for shard in range(4):
            times.record(shard, times.timeout_s, is_answered=False)
        answered(times, range(4, 12), 0.002, 10)

    assert times.timeout_s == 0.05


def test_when_all_shards_became_slow_the_bound_grows() -> None:
    times = TryTimes(12)
    answered(times, range(12), 0.002, 1000)
    assert times.timeout_s == 0.05

    for _ in range(20):  # each answers just in time now and then
        for shard in range(12):
            times.record(shard, 0.05, is_answered=False)
        answered(times, range(12), 0.049, 12)

    assert times.timeout_s > 0.1


def answered(times: TryTimes, shards: range, took_s: float, count: int) -> None:
    for shard in itertools.islice(itertools.cycle(shards), count):
        times.record(shard, took_s, is_answered=True)
