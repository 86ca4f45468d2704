"""Many drills in a row, and going on where an earlier run was cut off."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from trunkline.drills.campaign import Seeds, Task, plan, run_all
from trunkline.drills.refusal import DrillError
from trunkline.drills.result import Overall, Result, not_run
from trunkline.drills.scenarios import SCENARIOS
from trunkline.drills.stage import Options, Scenario, Stage


async def act(stage: Stage) -> None:
    raise NotImplementedError


KILL = Scenario("kill", "", act, is_deep=True)
FREEZE = Scenario("freeze", "", act, lengths_s=(1.0, 10.0))
SLOW = Scenario("slow", "", act, is_quick=False)


class Runner:
    """Runs nothing, and notes what it was asked for."""

    def __init__(self, verdict: Overall = Overall.PASS) -> None:
        self.ran: list[tuple[str, int]] = []
        self.verdict = verdict

    def __call__(self, scenario: Scenario, options: Options) -> Result:
        self.ran.append((scenario.name, options.seed))
        ran = not_run(scenario.name, options, "")
        return msgspec.structs.replace(ran, verdict=self.verdict)


def run(tasks: list[Task], runner: Runner, state: Path | None = None) -> list[Result]:
    return list(run_all(tasks, runner, state=state, tell=lambda *_: None))


def test_the_quick_run_leaves_out_what_takes_long() -> None:
    tasks = plan([KILL, SLOW], Options(), Seeds(first=5), is_full=False)

    assert [(task.scenario.name, task.options.seed) for task in tasks] == [("kill", 5)]


def test_the_full_run_goes_through_all_before_any_is_repeated() -> None:
    tasks = plan([KILL, SLOW], Options(), Seeds(plain=1, deep=3), is_full=True)

    assert [(task.scenario.name, task.options.seed) for task in tasks] == [
        ("kill", 1),
        ("slow", 1),
        ("kill", 2),
        ("kill", 3),
    ]


def test_the_full_run_tries_a_fault_for_each_of_its_lengths() -> None:
    tasks = plan([FREEZE], Options(), Seeds(plain=3), is_full=True)

    assert [task.options.seconds for task in tasks] == [1.0, 10.0, 1.0]


def test_what_was_done_is_not_done_again(tmp_path: Path) -> None:
    state, first, second = tmp_path / "state", Runner(), Runner()
    tasks = plan([KILL, SLOW], Options(), Seeds(), is_full=True)

    run(tasks[:1], first, state)
    results = run(tasks, second, state)

    assert first.ran == [("kill", 1)]
    assert second.ran == [("slow", 1)]
    assert [each.drill for each in results] == ["kill", "slow"]


@pytest.mark.parametrize(
    "otherwise",
    [
        {"seconds": 60.0},
        {"rate_per_s": 10.0},
        {"is_keyed": False},
        {"is_timing_judged": True},
        {"broken": "flush"},
        {"hosts": 1},
    ],
)
def test_what_is_asked_for_otherwise_was_not_done(
    tmp_path: Path, otherwise: dict[str, Any]
) -> None:
    state, again = tmp_path / "state", Runner()
    run(plan([KILL], Options(), Seeds(), is_full=True), Runner(), state)

    run(plan([KILL], Options(**otherwise), Seeds(), is_full=True), again, state)

    assert again.ran == [("kill", 1)]


def test_each_length_of_a_fault_is_gone_on_with(tmp_path: Path) -> None:
    state, again = tmp_path / "state", Runner()
    tasks = plan([FREEZE], Options(), Seeds(plain=2), is_full=True)
    run(tasks[:1], Runner(), state)

    run(tasks, again, state)

    assert again.ran == [("freeze", 2)]


def test_what_could_not_be_run_is_tried_again(tmp_path: Path) -> None:
    state, again = tmp_path / "state", Runner()
    tasks = plan([KILL], Options(), Seeds(), is_full=True)
    run(tasks, Runner(Overall.NOT_RUN), state)

    run(tasks, again, state)

    assert again.ran == [("kill", 1)]


def test_a_line_that_was_cut_off_is_run_again(tmp_path: Path) -> None:
    state, again = tmp_path / "state", Runner()
    tasks = plan([KILL], Options(), Seeds(), is_full=True)
    run(tasks, Runner(), state)
    state.write_bytes(state.read_bytes()[:-10])

    run(tasks, again, state)

    assert again.ran == [("kill", 1)]
    assert run(tasks, Runner(), state)[0].verdict is Overall.PASS


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("a diary\n")

    with pytest.raises(DrillError, match="name another file"):
        run(plan([KILL], Options(), Seeds(), is_full=True), Runner(), state)


def test_what_was_not_run_keeps_its_reason() -> None:
    assert not_run("kill", Options(), "no root").reason == "no root"


def test_every_drill_stands_under_its_own_name() -> None:
    assert all(name == scenario.name for name, scenario in SCENARIOS.items())
