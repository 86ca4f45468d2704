"""Ejection: out after five failures in a row or one in five, back after one good answer."""

import random

from trunkline.kernel import EJECTION, Health, Standing
from trunkline.kernel.ejection import ejections_count


def health(seed: int = 1) -> Health:
    return Health(EJECTION, random.Random(seed))


def ejected(*, now: float = 0.0) -> Health:
    found = health()
    for _ in range(5):
        found.fail(began=now, now=now)
    return found


def test_five_failures_in_a_row_eject_and_four_do_not() -> None:
    replica = health()
    for _ in range(4):
        replica.fail(began=0.0, now=0.0)
    assert replica.standing(0.0) is Standing.IN

    replica.succeed(began=0.0, now=0.0)
    for _ in range(4):
        replica.fail(began=0.0, now=0.0)
    assert replica.standing(0.0) is Standing.IN

    replica.fail(began=0.0, now=0.0)
    assert replica.standing(0.0) is Standing.OUT


def test_a_replica_that_fails_one_time_in_three_is_ejected_though_never_twice_in_a_row() -> None:
    replica = health()

    for number in range(22):
        if number % 3:
            replica.succeed(began=0.0, now=0.0)
        else:
            replica.fail(began=0.0, now=0.0)

    assert replica.standing(0.0) is Standing.OUT


def test_one_failure_in_six_is_no_reason() -> None:
    replica = health()

    for number in range(600):
        if number % 6:
            replica.succeed(began=0.0, now=number / 50.0)
        else:
            replica.fail(began=0.0, now=number / 50.0)

    assert replica.is_in


def test_one_probe_is_due_after_one_or_two_seconds_and_only_one() -> None:
    replica = ejected()

    assert replica.standing(0.99) is Standing.OUT
    assert replica.standing(2.0) is Standing.DUE
    replica.probe(2.0)
    assert replica.standing(2.1) is Standing.OUT


def test_one_good_answer_readmits() -> None:
    replica = ejected()
    replica.probe(2.0)

    replica.succeed(began=2.0, now=2.1)

    assert replica.standing(2.1) is Standing.IN


def test_a_failed_probe_makes_the_next_term_longer_up_to_half_a_minute() -> None:
    replica = ejected()
    terms_s: list[float] = []
    now = 0.0

    for _ in range(8):
        began = now
        while replica.standing(now) is not Standing.DUE:
            now += 0.01
        terms_s.append(now - began)
        replica.probe(now)
        replica.fail(began=now, now=now)

    assert 1.0 <= terms_s[0] <= 2.02
    assert 2.0 <= terms_s[1] <= 4.02
    assert 15.0 <= terms_s[-1] <= 30.02


def test_an_answer_to_what_was_asked_before_the_ejection_readmits_nobody() -> None:
    replica = ejected(now=5.0)

    replica.succeed(began=4.9, now=5.2)
    assert replica.standing(5.2) is Standing.OUT


def test_a_probe_that_never_reported_is_given_up() -> None:
    replica = ejected()
    replica.probe(2.0)

    replica.abandon(began=2.0)
    assert replica.standing(2.0) is Standing.DUE

    replica.probe(2.0)
    assert replica.standing(3.0) is Standing.DUE


def test_a_try_of_before_the_ejection_that_ends_without_outcome_is_not_the_probe() -> None:
    replica = ejected()
    replica.probe(2.0)

    replica.abandon(began=0.0)

    assert replica.standing(2.1) is Standing.OUT


def test_what_was_well_for_half_a_minute_starts_anew() -> None:
    replica = ejected()
    for now in (2.0, 6.0, 14.0, 30.0):
        replica.probe(now)
        replica.fail(began=now, now=now)
    replica.probe(60.0)
    replica.succeed(began=60.0, now=60.0)

    for _ in range(5):
        replica.fail(began=91.0, now=91.0)

    assert replica.standing(93.0) is Standing.DUE


def test_not_every_client_probes_at_the_same_moment() -> None:
    moments = set()
    for seed in range(20):
        replica = health(seed)
        for _ in range(5):
            replica.fail(began=0.0, now=0.0)
        moments.add(
            next(step for step in range(300) if replica.standing(step / 100.0) is Standing.DUE)
        )

    assert len(moments) > 10


def test_when_more_than_half_of_a_pool_looks_bad_the_fault_is_elsewhere() -> None:
    assert ejections_count([ejected(), health()])
    assert ejections_count([ejected(), ejected(), health(), health(), health()])
    assert not ejections_count([ejected(), ejected(), health()])


def test_who_is_out_says_why_since_when_and_until_when() -> None:
    replica = health()
    for error in ("first", "second", "third", "fourth"):
        assert not replica.fail(began=1.0, now=1.0, error=error)
    assert replica.ejection is None
    assert replica.fail(began=1.0, now=1.0, error="fifth")

    out = replica.ejection
    assert out is not None
    assert (out.rule, out.failures, out.outcomes) == ("5 failures in a row", 5, 5)
    assert (out.last_error, out.since) == ("fifth", 1.0)
    assert out.until > 1.0

    # A probe that fails keeps it out; why it went, and when, stays.
    assert replica.fail(began=out.until, now=out.until, error="the probe's")
    still = replica.ejection
    assert still is not None
    assert (still.rule, still.since, still.last_error) == (out.rule, 1.0, "the probe's")
    assert still.until > out.until

    replica.succeed(began=still.until, now=still.until)
    assert replica.ejection is None


def test_who_fails_too_often_says_how_often() -> None:
    replica = health()
    number = 0
    while replica.is_in:
        number += 1
        if number % 3:
            replica.succeed(began=0.0, now=0.0)
        else:
            replica.fail(began=0.0, now=0.0, error="now and then")

    assert replica.ejection is not None
    assert replica.ejection.rule == "7 failures of 21 tries"
