"""The judge, judged: a flawless history passes, and each promise that is broken once turns red alone."""

from dataclasses import replace

import pytest
from tests.unit.drills.histories import (
    HOSTS,
    MESSAGES,
    callback,
    create,
    flawless,
    read,
    shown,
    sid_of,
    submission,
    text_of,
    with_more,
    without,
)

from trunkline.drills.checker import (
    Finding,
    Terms,
    Verdict,
    accept_gap_s,
    check,
    tries_per_question,
)
from trunkline.drills.observer.records import Debit, History, Outcome, Summed, Text, TurnedAway


def red(history: History, terms: Terms | None = None) -> list[str]:
    found = check(history, terms or Terms())
    return [each.invariant for each in found if each.verdict is Verdict.FAIL]


def finding(history: History, name: str, terms: Terms | None = None) -> Finding:
    return next(each for each in check(history, terms or Terms()) if each.invariant == name)


def test_a_flawless_history_passes_everything_that_is_judged() -> None:
    terms = Terms(gap_max_ms=1500, wait_max_ms=100, tries_max=2.0)
    verdicts = {each.invariant: each.verdict for each in check(flawless(), terms)}

    assert set(verdicts) == {f"I{number}" for number in range(1, 12)}
    assert set(verdicts.values()) == {Verdict.PASS}


def test_what_was_accepted_and_never_reached_the_carrier_is_lost() -> None:
    history = without(flawless(), 2, "submissions", "callbacks", "debits", "reads", "shown")
    history = with_more(history, shown=[shown(2, host, status="queued") for host in history.hosts])

    assert red(history) == ["I1"]
    assert sid_of(2) in finding(history, "I1").examples[0]


def test_what_reached_the_carrier_and_never_came_to_an_end_is_not_kept_either() -> None:
    history = without(flawless(), 2, "callbacks", "reads", "shown")
    history = with_more(
        history,
        shown=[shown(2, host, status="sent") for host in history.hosts],
        callbacks=[callback(2, "sending"), callback(2, "sent")],
    )

    assert red(history) == ["I1"]
    assert red(history, Terms(is_receipt_certain=False)) == []


def test_what_failed_with_a_reason_is_not_lost() -> None:
    history = without(flawless(), 2, "submissions", "callbacks", "debits", "reads", "shown")
    failed = [shown(2, host, status="failed", error_code=30008) for host in history.hosts]
    history = with_more(history, shown=failed, callbacks=[callback(2, "failed")])

    assert red(history) == []


def test_what_failed_without_a_reason_is_lost() -> None:
    history = without(flawless(), 2, "submissions", "callbacks", "debits", "reads", "shown")
    failed = [shown(2, host, status="failed") for host in history.hosts]
    history = with_more(history, shown=failed, callbacks=[callback(2, "failed")])

    assert red(history) == ["I1"]


def test_what_nobody_asked_for_is_a_ghost() -> None:
    assert red(with_more(flawless(), submissions=[submission(99)])) == ["I2"]


def test_what_went_to_somebody_else_is_a_ghost_too() -> None:
    wrong = submission(98, text=text_of(1), recipient="+12025550199", outcome="refuse")

    assert red(with_more(flawless(), submissions=[wrong])) == ["I2"]


def test_what_the_carrier_was_given_twice_is_doubled() -> None:
    history = with_more(flawless(), submissions=[submission(98, text=text_of(3))])

    assert red(history) == ["I3"]


def test_what_the_carrier_turned_away_before_is_not_doubled() -> None:
    away = submission(98, text=text_of(3), outcome="throttle")

    assert red(with_more(flawless(), submissions=[away])) == []


def test_a_marked_repeat_counts_as_ambiguous_up_to_the_windows_that_were_lost() -> None:
    history = with_more(
        flawless(),
        submissions=[submission(98, text=text_of(3))],
        reads=[read(3, ambiguous=1, at=9.0, until=9.1)],
    )

    assert red(history, Terms(ambiguous_max=1)) == []
    assert red(history, Terms(ambiguous_max=None)) == []
    assert red(history, Terms(ambiguous_max=0)) == ["I3"]


def test_one_key_that_was_answered_with_two_messages_is_broken() -> None:
    history = with_more(flawless(), creates=[create(2, sid=sid_of(77))])

    assert "I4" in red(history)
    assert sid_of(77) in finding(history, "I4").examples[0]


def test_a_second_message_that_only_a_list_shows_breaks_its_key() -> None:
    history = with_more(flawless(), shown=[shown(77, "host-2", text=text_of(2))])

    assert red(history) == ["I4"]


def test_two_messages_of_one_text_without_keys_are_two_messages() -> None:
    history = flawless()
    creates = [create(number, key="") for number in range(1, 5)]
    history = with_more(without(history, 0), shown=[shown(77, "host-2", text=text_of(2))])
    history = replace(history, creates=creates)

    assert "I4" not in red(history)


def test_a_status_that_went_back_on_one_host_is_broken() -> None:
    history = with_more(flawless(), reads=[read(2, "sent", at=50.0, until=50.1)])

    assert red(history) == ["I5"]


def test_a_status_that_another_host_shows_later_is_not() -> None:
    lagging = read(2, "sent", at=50.0, until=50.1, host="host-2")

    assert red(with_more(flawless(), reads=[lagging])) == []


def test_reads_that_overlapped_have_no_order() -> None:
    overlapping = read(2, "sent", at=2.505, until=2.6)

    assert red(with_more(flawless(), reads=[overlapping])) == []


def test_a_status_told_behind_a_later_one_is_broken() -> None:
    history = without(flawless(), 2, "callbacks")
    told = [callback(2, step) for step in ("sending", "delivered", "sent")]

    assert red(with_more(history, callbacks=told)) == ["I5"]


def test_a_repeat_of_an_earlier_step_is_not() -> None:
    assert red(with_more(flawless(), callbacks=[callback(2, "sending")])) == []


def test_a_step_that_was_never_told_is_missing() -> None:
    history = without(flawless(), 2, "callbacks")
    told = [callback(2, "sending"), callback(2, "delivered")]

    assert red(with_more(history, callbacks=told)) == ["I6"]


def test_a_step_that_was_told_and_refused_is_missing() -> None:
    history = without(flawless(), 2, "callbacks")
    told = [callback(2, "sending"), callback(2, "sent"), callback(2, "delivered", answer=503)]

    assert red(with_more(history, callbacks=told)) == ["I6"]


def test_a_repeat_under_another_token_is_broken() -> None:
    again = callback(2, "delivered", token="another")

    assert red(with_more(flawless(), callbacks=[again])) == ["I6"]


def test_a_wrong_signature_is_broken() -> None:
    assert red(with_more(flawless(), callbacks=[callback(2, "sent", is_signed=False)])) == ["I6"]


def test_a_second_debit_is_broken() -> None:
    assert red(with_more(flawless(), debits=[Debit(sid_of(2), 7900)])) == ["I7"]


def test_a_missing_debit_is_broken() -> None:
    assert red(without(flawless(), 2, "debits")) == ["I7"]


def test_a_debit_for_what_the_carrier_never_had_is_broken() -> None:
    assert "I7" in red(without(flawless(), 2, "submissions"))


def test_a_debit_for_a_message_that_nobody_asked_for_is_broken() -> None:
    assert red(with_more(flawless(), debits=[Debit("SM" + "f" * 32, 7900)])) == ["I7"]


def test_an_ambiguous_message_may_have_a_debit_or_none_and_never_two() -> None:
    unsure = with_more(flawless(), reads=[read(2, ambiguous=1)])
    terms = Terms(ambiguous_max=1)

    assert finding(unsure, "I7", terms).verdict is Verdict.PASS
    assert finding(without(unsure, 2, "debits"), "I7", terms).verdict is Verdict.PASS
    doubled = with_more(unsure, debits=[Debit(sid_of(2), 7900)])
    assert finding(doubled, "I7", terms).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("summed", "is_broken"),
    [
        (Summed("", MESSAGES, MESSAGES * 7900), False),
        (Summed("", MESSAGES + 1, MESSAGES * 7900), True),
        (Summed("", MESSAGES, MESSAGES * 7900 + 7900), True),
    ],
)
def test_sums_that_are_not_those_of_the_prices_are_broken(
    summed: Summed, *, is_broken: bool
) -> None:
    assert red(with_more(flawless(), sums=[summed])) == (["I7"] if is_broken else [])


def test_each_host_is_judged_by_what_it_shows_itself() -> None:
    debits = [
        Debit(sid_of(number), 7900, host) for number in range(1, MESSAGES + 1) for host in HOSTS
    ]
    history = replace(flawless(), debits=debits)

    assert red(history) == []
    assert red(replace(history, debits=debits[1:])) == ["I7"]


def test_where_nothing_is_billed_debits_are_not_judged() -> None:
    history = replace(flawless(), debits=None)

    assert finding(history, "I7").verdict is Verdict.NOT_JUDGED


def test_a_text_that_was_acknowledged_and_is_no_message_is_lost() -> None:
    history = with_more(flawless(), texts=[Text("inbound-2", "hello again", is_acked=True)])

    assert red(history) == ["I8"]


def test_a_text_of_which_the_application_was_never_asked_is_lost() -> None:
    assert red(without(flawless(), 900, "callbacks")) == ["I8"]


def test_an_application_that_failed_to_answer_was_asked() -> None:
    history = without(flawless(), 900, "callbacks")
    failed = callback(900, "received", text="hello", answer=503)

    assert red(with_more(history, callbacks=[failed])) == []


def test_a_text_that_nobody_acknowledged_may_be_missing() -> None:
    assert red(with_more(flawless(), texts=[Text("inbound-2", "hello again")])) == []


def test_a_text_that_became_two_messages_is_broken() -> None:
    twin = shown(901, "host-1", text="hello", direction="inbound", status="received")

    assert red(with_more(flawless(), shown=[twin])) == ["I8"]


def test_201_and_then_404_is_a_contradiction() -> None:
    gone = read(2, "", http=404, at=50.0, until=50.1)

    assert red(with_more(flawless(), reads=[gone])) == ["I9"]


def test_404_before_the_201_is_none() -> None:
    early = read(2, "", http=404, at=1.0, until=1.1)

    assert red(with_more(flawless(), reads=[early])) == []


def test_what_one_host_does_not_list_at_the_end_is_a_contradiction() -> None:
    history = flawless()
    kept = [each for each in history.shown if (each.host, each.sid) != ("host-2", sid_of(2))]

    assert red(replace(history, shown=kept)) == ["I9"]


def test_what_was_surely_not_accepted_and_is_sent_is_a_contradiction() -> None:
    refused = create(9, outcome=Outcome.REFUSED, http=503, sid="", due=3.0)
    history = with_more(flawless(), creates=[refused], submissions=[submission(9)])

    assert red(history) == ["I9", "I10"]


def test_what_was_refused_and_then_unknown_may_be_sent() -> None:
    refused = create(9, outcome=Outcome.REFUSED, http=503, sid="", key="")
    unknown = create(9, outcome=Outcome.UNKNOWN, http=0, sid="", key="")
    history = with_more(flawless(), creates=[refused, unknown], submissions=[submission(9)])

    assert red(history) == []


def test_the_accept_gap_is_the_longest_time_from_one_accept_to_the_next() -> None:
    history = without(flawless(), 3, "creates")

    assert accept_gap_s(history) == pytest.approx(2.0)
    assert finding(history, "I10", Terms(gap_max_ms=1500)).verdict is Verdict.FAIL
    assert finding(history, "I10").verdict is Verdict.NOT_JUDGED


def test_a_create_that_waits_is_a_pause_where_every_host_is_in_reach() -> None:
    """From when it was due, whatever became of the tries before the one that was accepted."""
    unknown = create(9, outcome=Outcome.UNKNOWN, http=0, sid="", until=11.0)
    accepted = create(9, due=9.0, at=11.0, until=15.0)
    others = [create(each, due=9.0, at=9.0, until=9.0) for each in (10, 11)]
    history = with_more(flawless(), creates=[unknown, accepted, *others])

    def pauses(wait_max_ms: float | None) -> Finding:
        return finding(history, "I10", Terms(wait_max_ms=wait_max_ms))

    assert pauses(None).verdict is Verdict.NOT_JUDGED
    assert pauses(6_001.0).verdict is Verdict.PASS
    assert pauses(5_999.0).verdict is Verdict.FAIL
    assert pauses(5_999.0).examples == ("run-9 waited 6.000 s in 2 tries, while others did not",)


def test_a_create_that_waits_while_the_machine_slows_down_for_all_is_no_pause() -> None:
    early = [create(each, due=9.0, at=9.0, until=9.0) for each in (10, 11)]
    slow = [create(each, due=12.0, at=12.0, until=17.0) for each in (12, 13)]
    history = with_more(flawless(), creates=[create(9, due=9.0, until=15.0), *early, *slow])

    assert finding(history, "I10", Terms(wait_max_ms=4_000)).verdict is Verdict.PASS


def test_creates_that_wait_for_most_of_the_shards_are_found_by_those_that_do_not() -> None:
    quick = [create(each, due=9.0, at=9.0, until=9.0) for each in (10, 11)]
    stuck = [create(each, due=9.0, at=9.0, until=15.0) for each in range(20, 28)]
    history = with_more(flawless(), creates=[*quick, *stuck])

    assert finding(history, "I10", Terms(wait_max_ms=4_000)).broken == len(stuck)


def test_one_create_in_a_hundred_may_wait() -> None:
    quick = [create(each, due=9.0, at=9.0, until=9.0) for each in range(100, 300)]

    def waiting(count: int) -> Verdict:
        stuck = [create(each, due=9.0, at=9.0, until=15.0) for each in range(20, 20 + count)]
        history = with_more(flawless(), creates=[*quick, *stuck])
        return finding(history, "I10", Terms(wait_max_ms=4_000)).verdict

    assert (waiting(2), waiting(3)) == (Verdict.PASS, Verdict.FAIL)


def test_where_all_wait_it_is_the_gap_that_tells() -> None:
    """As on a machine that stood still."""
    slow = [create(each, due=9.0, at=9.0, until=15.0) for each in (9, 10, 11)]
    history = with_more(flawless(), creates=slow)

    assert finding(history, "I10", Terms(wait_max_ms=1_000)).verdict is Verdict.PASS
    assert finding(history, "I10", Terms(wait_max_ms=1_000, gap_max_ms=9_000)).verdict is (
        Verdict.FAIL
    )


def test_a_repeat_of_what_was_accepted_already_is_no_wait() -> None:
    history = with_more(flawless(), creates=[create(2, at=60.0, until=61.0)])

    assert finding(history, "I10", Terms(wait_max_ms=100)).verdict is Verdict.PASS


def asked(question: int, *, tries: int, n: int = 0) -> list[TurnedAway]:
    """A question to a carrier that fails, in second `question` of its failure."""
    return [TurnedAway(n, 1.0 + question, "host-1", attempt) for attempt in range(1, tries + 1)]


def test_who_fails_for_long_is_asked_little_more_than_once() -> None:
    calm = with_more(
        flawless(), turned_away=[each for n in range(20) for each in asked(n, tries=1)]
    )
    storm = with_more(
        flawless(), turned_away=[each for n in range(20) for each in asked(n, tries=3)]
    )

    assert red(calm, Terms(tries_max=2.0)) == []
    assert red(storm, Terms(tries_max=2.0)) == ["I11"]
    assert red(storm) == [], "it was not asked for"


def test_what_the_budget_had_saved_before_may_be_spent() -> None:
    first = [each for n in range(10) for each in asked(n, tries=3)]
    rest = [each for n in range(10, 20) for each in asked(n, tries=1)]
    history = with_more(flawless(), turned_away=[*first, *rest])

    assert finding(history, "I11", Terms(tries_max=2.0)).verdict is Verdict.PASS
    assert tries_per_question(history) == 1.0


def test_a_failure_that_was_too_short_judges_no_budget() -> None:
    history = replace(flawless(), turned_away=asked(0, tries=3))

    assert finding(history, "I11", Terms(tries_max=2.0)).verdict is Verdict.NOT_JUDGED


def test_a_create_that_was_never_accepted_however_often_it_was_tried_is_a_pause() -> None:
    tries = [create(9, outcome=Outcome.UNKNOWN, http=0, sid="", at=9.0 + n) for n in range(3)]
    later = create(10, at=99.0, until=99.1)
    history = with_more(flawless(), creates=[*tries, later])

    assert finding(history, "I10").examples == ("run-9 was tried 3 times, and never accepted",)


def test_an_api_that_never_came_back_is_broken_whoever_judges_timings() -> None:
    refused = create(9, outcome=Outcome.REFUSED, http=0, sid="")

    assert red(with_more(flawless(), creates=[refused])) == ["I10"]
