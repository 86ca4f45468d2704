"""Latency: peaks are believed at once, failures are never fast, and bounds can grow again."""

import random

import pytest

from trunkline.kernel import PeakEwma, RecentLatencies, failure_cost_s, try_timeout_s


def recent(*samples_s: float) -> RecentLatencies:
    latencies = RecentLatencies()
    for sample_s in samples_s:
        latencies.record(sample_s)
    return latencies


def test_one_slow_answer_is_believed_at_once_and_forgotten_slowly() -> None:
    cost = PeakEwma(now=0.0)

    cost.observe(0.02, now=1.0)
    cost.observe(0.5, now=2.0)
    assert cost.cost_s(2.0) == 0.5

    cost.observe(0.02, now=2.1)
    assert 0.49 < cost.cost_s(2.1) < 0.5


def test_what_is_not_asked_any_more_looks_better_with_time() -> None:
    cost = PeakEwma(1.0, now=0.0)

    assert cost.cost_s(10.0) == pytest.approx(0.3679, abs=0.001)
    assert cost.cost_s(60.0) < 0.01


def test_a_failure_counts_as_a_second_however_fast_it_was() -> None:
    assert failure_cost_s(0.001) == 1.0
    assert failure_cost_s(3.0) == 3.0


def test_a_replica_that_asks_to_be_left_alone_is_believed_up_to_half_a_minute() -> None:
    assert failure_cost_s(0.001, retry_after_s=5.0) == 5.0
    assert failure_cost_s(0.001, retry_after_s=3600.0) == 30.0


def test_few_samples_say_nothing_about_percentiles() -> None:
    assert recent(*[0.02] * 19).percentile_s(0.99) is None
    assert recent(*[0.02] * 20).percentile_s(0.99) == 0.02


def test_percentiles_are_those_of_the_last_thousand() -> None:
    latencies = recent(*[9.0] * 1000)
    assert latencies.percentile_s(0.5) == 9.0

    samples_s = [number / 1000.0 for number in range(1000)]
    random.Random(1).shuffle(samples_s)
    for sample_s in samples_s:
        latencies.record(sample_s)

    assert latencies.percentile_s(0.5) == 0.5
    assert latencies.percentile_s(0.99) == 0.99
    assert latencies.percentile_s(1.0) == 0.999


def test_a_try_may_take_three_times_as_long_as_nearly_all_did() -> None:
    assert try_timeout_s(recent(*[0.03] * 100), cap_s=0.25) == pytest.approx(0.09)


def test_a_try_is_never_given_less_than_fifty_milliseconds_nor_more_than_the_cap() -> None:
    assert try_timeout_s(recent(*[0.001] * 100), cap_s=0.25) == 0.05
    assert try_timeout_s(recent(*[1.0] * 100), cap_s=0.25) == 0.25
    assert try_timeout_s(recent(), cap_s=0.25) == 0.25
