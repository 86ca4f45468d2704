"""What a drill comes to, in figures and as it is shown."""

import io
import json
from dataclasses import replace

from rich.console import Console
from tests.unit.drills.histories import create, flawless, submission, with_more, without

from trunkline.drills import report
from trunkline.drills.checker import Terms
from trunkline.drills.observer.records import History, Outcome
from trunkline.drills.result import Overall, Result, judge, not_run
from trunkline.drills.stage import Mark, Options


def judged(history: History, marks: list[Mark] | None = None) -> Result:
    return judge(
        "kill-host", Options(hosts=3, seed=7), history, Terms(), marks=marks or [], duration_s=12.34
    )


def shown(result: Result) -> str:
    written = io.StringIO()
    console = Console(width=120, file=written)
    report.show(result, console)
    return written.getvalue()


def test_the_json_has_every_figure_under_its_name() -> None:
    content = json.loads(report.as_json(judged(flawless())))

    assert content["drill"] == "kill-host"
    assert (content["seed"], content["hosts"], content["verdict"]) == (7, 3, "pass")
    assert (content["accepted"], content["lost"], content["doubled"]) == (4, 0, 0)
    assert content["accept_gap_ms"] == 1000.0
    assert content["slowest_accept_ms"] == 10.0
    assert content["attempts_per_request"] == 1.0
    assert content["invariants"]["I3"]["verdict"] == "pass"
    assert content["invariants"]["I10"]["verdict"] == "not-judged"


def test_a_broken_promise_fails_the_drill_and_is_named() -> None:
    history = with_more(flawless(), submissions=[submission(98, text="run-3")])
    result = judged(history)

    assert result.verdict is Overall.FAIL
    assert (result.reason, result.doubled, result.red) == ("I3", 1, ["I3"])
    assert report.exit_code([result]) == 1
    assert "run-3 was given to the carrier 2 times" in shown(result)


def test_what_could_not_be_run_says_why_and_is_no_pass() -> None:
    result = not_run("partition", Options(), "run it as root")

    assert report.exit_code([result]) == 2
    assert "not run: run it as root" in shown(result)


def test_of_many_drills_those_that_are_not_possible_here_do_not_count() -> None:
    impossible = not_run("partition", Options(), "run it as root")
    broken_off = not_run("power-loss", Options(), "the simulator did not start", is_possible=True)

    assert report.exit_code([judged(flawless()), impossible]) == 0
    assert report.exit_code([judged(flawless()), impossible, broken_off]) == 2


def test_a_failure_counts_for_more_than_what_was_not_run() -> None:
    lost = judged(without(flawless(), 2, "submissions", "shown", "reads"))

    assert report.exit_code([not_run("partition", Options(), "no"), lost]) == 1


def test_the_recovery_ends_with_the_last_create_that_was_hurt() -> None:
    slow = create(9, due=5.0, at=7.0, until=7.5)
    tried_before = create(9, due=5.0, at=5.0, until=7.0, outcome=Outcome.UNKNOWN, sid="", http=0)
    history = with_more(flawless(), creates=[tried_before, slow])
    result = judged(history, [Mark(4.9, "killed")])

    assert result.recovered_s == 2.6
    assert result.attempts_per_request == 1.2


def test_a_create_that_was_never_answered_never_recovered() -> None:
    unknown = create(9, due=5.0, at=5.0, until=7.0, outcome=Outcome.UNKNOWN, sid="", http=0)
    result = judged(with_more(flawless(), creates=[unknown]), [Mark(4.9, "killed")])

    assert result.recovered_s is None
    assert result.unknown == 1


def test_a_history_without_a_single_accept_has_no_figures_and_fails() -> None:
    result = judged(replace(flawless(), creates=[], reads=[], submissions=[], callbacks=[]))

    assert result.accept_gap_ms is None
    assert result.verdict is Overall.FAIL


def test_the_timeline_counts_from_the_first_create() -> None:
    result = judged(flawless(), [Mark(3.5, "host-2 killed")])

    assert result.timeline[0].at_s == 2.5
    assert "2.50 s  host-2 killed" in shown(result)
    assert result.accepts_each_s == (1, 1, 1, 1)


def test_bars_show_anything_but_nothing() -> None:
    assert report.bars([0, 1, 50, 100]) == " ▁▄█"
    assert report.bars([]) == ""


def test_the_summary_has_a_row_for_each_drill() -> None:
    written = io.StringIO()
    console = Console(width=160, file=written)
    report.summary([judged(flawless()), not_run("partition", Options(), "no root")], console)
    text = written.getvalue()

    assert "kill-host" in text
    assert "partition, seed 1: no root" in text
