"""The figures of `make bench-faults`, run by run and over all runs, for people and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.fault_figures import (
    LAST_GOAL_S,
    ON_TIME_S,
    Change,
    Deliveries,
    HandOvers,
    Window,
    median_and_worst,
)

PAPER_COLUMNS: Final = 200
"""Where the output is no terminal, nothing is cut off."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `since` is from the fault's beginning to the end of the load, its mending included.
    Messages that were in hand then, or accepted since, are told apart as `Classes` says."""

    number: int
    fault: str
    victim: str
    shards_led: int
    is_balanced: bool
    troubles: Sequence[str]
    """Why the load ended before its time; none where it did not."""
    load_average: float
    """Of the last minute, the hosts' and the load's own part included: above the number of cores,
    everything waits for everything."""
    before: Window
    since: Window
    deliveries: Deliveries
    ambiguous: Sequence[str]
    led_by_victim: HandOvers
    leader_changed: HandOvers
    steady: HandOvers
    changes: Sequence[Change]
    cpu_before_us: Mapping[str, float]
    cpu_since_us: Mapping[str, float]

    @property
    def is_kept(self) -> bool:
        """Nothing was lost or doubled unmarked, and nothing left without an answer."""
        found = self.deliveries
        return not found.lost and not found.doubled_unmarked and not self.troubles

    def facts(self) -> dict[str, str]:
        """What the run was, for people."""
        return {
            "fault": self.fault,
            "victim": self.victim + ("" if self.is_balanced else " (leaders unbalanced)"),
            "shards that it led": str(self.shards_led),
            "machine's load average": f"{self.load_average:.1f}",
            "accepted": str(self.deliveries.accepted),
            "accepted before, in the window": str(self.before.accepted),
            "accepted since": str(self.since.accepted),
            **{
                f"{whose}: messages": str(seen.messages) for whose, seen in self._by_class().items()
            },
            "leader changes seen": str(len(self.changes)),
        }

    def figures(self) -> dict[str, float | None]:
        """By name, with the unit last; of each of them more is worse."""
        return {
            **{
                f"{when} {name}": figure
                for when, seen in (("before", self.before), ("since", self.since))
                for name, figure in _of_window(seen).items()
            },
            "lost": len(self.deliveries.lost),
            "doubled, unmarked": len(self.deliveries.doubled_unmarked),
            "doubled": len(self.deliveries.doubled),
            "ambiguous": len(self.ambiguous),
            **{
                f"{whose}: {name}": figure
                for whose, seen in self._by_class().items()
                for name, figure in _of_hand_overs(seen).items()
            },
            **{
                f"CPU {when} {name}, us/message": figure
                for when, costs in (("before", self.cpu_before_us), ("since", self.cpu_since_us))
                for name, figure in costs.items()
            },
        }

    def late_by_second(self) -> list[str]:
        """A line for each class that has late ones."""
        return [
            f"run {self.number}, {whose}: "
            + ", ".join(f"{second} s {count}" for second, count in seen.late_by_second.items())
            for whose, seen in self._by_class().items()
            if seen.late
        ]

    def _by_class(self) -> dict[str, HandOvers]:
        return {
            "led by the victim": self.led_by_victim,
            "leader changed": self.leader_changed,
            "steady": self.steady,
        }


def _of_window(seen: Window) -> dict[str, float | None]:
    return {
        "longest gap, ms": seen.gap_ms,
        "load's stall in it, ms": seen.gap_stall_ms,
        "create p50, ms": seen.p50_ms,
        "create p99, ms": seen.p99_ms,
        "slowest create, ms": seen.slowest_ms,
        "load's longest stall, ms": seen.load_stall_ms,
        "refused": sum(seen.refused.values()),
    }


def _of_hand_overs(seen: HandOvers) -> dict[str, float | None]:
    return {
        f"later than {ON_TIME_S:g} s": seen.late,
        "p50, s": seen.p50_s,
        "p99, s": seen.p99_s,
        "slowest, s": seen.slowest_s,
        "last late one, s after the fault": seen.last_late_s,
        "not handed over": seen.missing,
    }


def in_a_line(run: Run) -> str:
    """For who waits while it runs."""
    victims, changed, steady = run.led_by_victim, run.leader_changed, run.steady
    return (
        f"gap {run.before.gap_ms:.0f} ms before and {run.since.gap_ms:.0f} since, at "
        f"{run.since.gap_at_s:.1f} s (load's own stall "
        f"{run.since.gap_stall_ms:.0f}), slowest create {run.since.slowest_ms:.0f} ms "
        f"at {run.since.slowest_at_s:.1f} s, accepted "
        f"{run.deliveries.accepted}, refused {sum(run.since.refused.values())}, lost "
        f"{len(run.deliveries.lost)}, doubled {len(run.deliveries.doubled)}, ambiguous "
        f"{len(run.ambiguous)}, late {victims.late} of {victims.messages} led by it, "
        f"{changed.late} of {changed.messages} whose leader changed, {steady.late} of "
        f"{steady.messages} others{''.join(f'; {each}' for each in run.troubles)}"
    )


def as_content(
    runs: Sequence[Run], failures: Sequence[str], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """What `--json` writes: what was chosen, each run whole, and the figures over all of them."""
    over_all = median_and_worst([run.figures() for run in runs])
    return {
        **chosen,
        "goals_s": {"on_time": ON_TIME_S, "last": LAST_GOAL_S},
        "runs": [asdict(run) for run in runs],
        "failures": list(failures),
        "median": {name: pair[0] for name, pair in over_all.items()},
        "worst": {name: pair[1] for name, pair in over_all.items()},
    }


def show(
    runs: Sequence[Run],
    failures: Sequence[str],
    *,
    fault: str,
    rate: float,
    to: Console | None = None,
) -> None:
    """A table of the runs, then the median and the worst of each figure over them."""
    console = to or Console()
    if not console.is_terminal:
        console.width = PAPER_COLUMNS
    if runs:
        console.print(_table(runs, f"{fault}, {rate:g} creates a second"))
    if any(run.late_by_second() for run in runs):
        console.print("\nlate ones, by the second since the fault in which they were accepted")
    for words in (words for run in runs for words in run.late_by_second()):
        console.print(words, markup=False, highlight=False)
    for words in [f"run {run.number}: {each}" for run in runs for each in run.troubles]:
        console.print(words, markup=False)
    for failure in failures:
        console.print(f"failed: {failure}", markup=False)


def _table(runs: Sequence[Run], title: str) -> Table:
    table = Table(
        "figure",
        title=f"{title}; load, carrier and hosts on the same machine",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for heading in [*(f"run {run.number}" for run in runs), "median", "worst"]:
        table.add_column(heading, justify="right")
    for name in runs[0].facts():
        table.add_row(name, *(run.facts()[name] for run in runs))
    each = [run.figures() for run in runs]
    for name, pair in median_and_worst(each).items():
        table.add_row(name, *(_shown(figures[name]) for figures in each), *map(_shown, pair))
    return table


def _shown(figure: float | None) -> str:
    if figure is None:
        return "-"
    return f"{figure:.0f}" if figure == int(figure) or figure >= 100.0 else f"{figure:.3g}"
