"""What is said of messages that waited for a closed carrier."""

import json

from tests.unit.drills.histories import flawless, submission, text_of, with_more, without

from trunkline.drills import report
from trunkline.drills.backlog import Backlog, BacklogFigures
from trunkline.drills.checker import Terms
from trunkline.drills.observer.records import History
from trunkline.drills.result import Result, judge
from trunkline.drills.stage import Options

KILLED_AT, OPENED_AT = 0.5, 1.0
BACKLOG = Backlog((text_of(1), text_of(2), text_of(3)), "host-2", KILLED_AT, OPENED_AT)
"""The histories' messages 1 to 4 are handed over at second 1 to 4."""


def judged(history: History) -> Result:
    return judge("backlog", Options(), history, Terms(), marks=[], duration_s=1.0, backlog=BACKLOG)


def figures(history: History) -> BacklogFigures:
    found = judged(history).backlog
    assert found is not None
    return found


def test_the_first_and_the_last_hand_over_count_from_the_kill_and_from_the_opening() -> None:
    found = figures(flawless())

    assert (found.messages, found.lost, found.doubled, found.early) == (3, 0, 0, 0)
    assert (found.first_after_open_s, found.last_after_open_s) == (0.0, 2.0)
    assert (found.first_after_kill_s, found.last_after_kill_s) == (0.5, 2.5)
    assert found.within_1_s == 2


def test_what_the_carrier_turned_away_was_not_handed_over() -> None:
    turned_away = submission(90, text=text_of(3), at=1.2, outcome="throttle")

    assert figures(with_more(flawless(), submissions=[turned_away])).last_after_open_s == 2.0


def test_each_host_that_hands_over_is_named_with_its_first() -> None:
    history = without(flawless(), 2, "submissions")
    history = with_more(history, submissions=[submission(90, text=text_of(2), bind="host-1")])
    history = without(history, 3, "submissions")
    history = with_more(
        history, submissions=[submission(91, text=text_of(3), at=1.25, bind="host-3")]
    )

    assert figures(history).first_after_open_s_by_host["host-3"] == 0.25


def test_a_carrier_that_was_not_closed_is_seen() -> None:
    early = submission(90, text=text_of(2), at=0.9)
    history = with_more(without(flawless(), 2, "submissions"), submissions=[early])

    assert figures(history).early == 1


def test_only_the_losses_and_doubles_of_those_that_waited_are_counted() -> None:
    history = without(flawless(), 2, "submissions", "shown", "reads")
    history = with_more(history, submissions=[submission(n, text=text_of(n)) for n in (3, 4)])
    found = figures(history)

    assert (found.lost, found.doubled) == (1, 1)


def test_the_figures_are_in_the_json_and_shown() -> None:
    result = judged(flawless())

    assert json.loads(report.as_json(result))["backlog"]["messages"] == 3
    assert "of 3 that waited: lost 0, doubled 0" in report._backlog(figures(flawless()))
