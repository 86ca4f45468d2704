"""`make bench-kernel`: the experiments behind the kernel's constants, and what a call costs.

The first table is in virtual time and the same for the same seed. A promise that does not hold is
named below it, and the exit code is 1. The second is in real time, of this machine.
"""

import argparse
import asyncio
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rich.console import Console
from rich.table import Table

from bench import kernel_cost
from bench.kernel_model import TRY_TIMEOUT_CAP_S, Experiment, Result, Server, Setup, run
from trunkline.kernel import BudgetLimits, PoolLimits

POOL: Final = PoolLimits(try_timeout_cap_s=TRY_TIMEOUT_CAP_S)
NO_BUDGET: Final = replace(POOL, retry_budget=BudgetLimits(ratio=float("inf"), per_s=1.0))

IN_TURN: Final = Setup("each in turn, one try", None)
WHOLE: Final = Setup("pool", POOL)
HEDGED: Final = Setup("pool, hedged", POOL, may_hedge=True)

TABLE_WIDTH: Final = 124
RECOVERS_LATE_S: Final = 5.0
"""With half of the protection off, requests still fail so long after the fault at least."""


def _nothing(servers: Sequence[Server]) -> None:
    del servers


def _fail_first(servers: Sequence[Server]) -> None:
    servers[0].is_failing = True


def _freeze_first(servers: Sequence[Server]) -> None:
    servers[0].is_frozen = True


def _fail_all(servers: Sequence[Server]) -> None:
    for server in servers:
        server.is_failing = True


def _slow_down_all(servers: Sequence[Server]) -> None:
    for server in servers:
        server.slowness = 4.0


def _mend_all(servers: Sequence[Server]) -> None:
    for server in servers:
        server.is_failing = False
        server.slowness = 1.0


ONE_FAILS: Final = Experiment(500.0, 25.0, 5.0, 24.9, _fail_first, _nothing)
ONE_FREEZES: Final = Experiment(500.0, 25.0, 5.0, 24.9, _freeze_first, _nothing)
ALL_FAIL: Final = Experiment(500.0, 20.0, 5.0, 15.0, _fail_all, _mend_all)
ALL_SLOW: Final = Experiment(1400.0, 29.0, 5.0, 9.0, _slow_down_all, _mend_all)


@dataclass(frozen=True, slots=True)
class Promise:
    """What a row must show."""

    says: str
    holds: Callable[[Result], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """One experiment under one setup, and what it must show."""

    experiment_name: str
    experiment: Experiment
    setup: Setup
    promises: tuple[Promise, ...] = ()


HEDGES_FEW: Final = Promise(
    "hedges add at most 5 %", lambda result: result.hedges_per_request() <= 0.05
)
TRIES_FEW: Final = Promise(
    "at most 1.15 tries a request", lambda result: result.tries_per_request() <= 1.15
)
# The budget counts over ten seconds, so a shorter storm may spend in its time what the quiet time
# before it has left.
TRIES_FEW_IN_STORM: Final = Promise(
    "at most 1.15 tries a request while the storm lasts",
    lambda result: result.tries_per_request_in_fault() <= 1.15,
)
SHUNNED: Final = Promise(
    "the failing one gets less than 1 %", lambda result: result.share_at_first() < 0.01
)
SUCCESS: Final = Promise("99.9 % succeed", lambda result: result.success() >= 0.999)
RECOVERS: Final = Promise(
    "99 % succeed within 1 s of the end",
    lambda result: (
        (recovery_s := result.recovery_s()) is not None
        and recovery_s <= 1.0
        and result.success(result.experiment.fault_until_s + 1.0) >= 0.99
    ),
)
DOES_NOT_RECOVER: Final = Promise(
    f"it has not recovered {RECOVERS_LATE_S:.0f} s after the end",
    lambda result: (recovery_s := result.recovery_s()) is None or recovery_s > RECOVERS_LATE_S,
)

FAILS, FREEZES = "one of five fails in 1 ms", "one of five is frozen"
STORM, SLOW = "all five fail for 10 s", "all 4 times slower for 4 s, at 70 % load"

ROWS: Final = (
    Row(FAILS, ONE_FAILS, IN_TURN),
    Row(FAILS, ONE_FAILS, WHOLE, (SHUNNED, SUCCESS, TRIES_FEW)),
    Row(FAILS, ONE_FAILS, HEDGED, (SHUNNED, SUCCESS, TRIES_FEW, HEDGES_FEW)),
    Row(FREEZES, ONE_FREEZES, IN_TURN),
    Row(
        FREEZES,
        ONE_FREEZES,
        WHOLE,
        (SUCCESS, Promise("p99.9 <= 170 ms", lambda result: result.percentile_s(0.999) <= 0.17)),
    ),
    Row(
        FREEZES,
        ONE_FREEZES,
        HEDGED,
        (
            SUCCESS,
            HEDGES_FEW,
            Promise("p99.9 <= 70 ms", lambda result: result.percentile_s(0.999) <= 0.07),
        ),
    ),
    Row(STORM, ALL_FAIL, Setup("3 tries, no budget", NO_BUDGET)),
    Row(STORM, ALL_FAIL, WHOLE, (TRIES_FEW_IN_STORM,)),
    Row(STORM, ALL_FAIL, HEDGED, (TRIES_FEW_IN_STORM, HEDGES_FEW)),
    Row(SLOW, ALL_SLOW, replace(IN_TURN, tells_deadline=False)),
    Row(
        SLOW,
        ALL_SLOW,
        Setup("no budget, expired work done", NO_BUDGET, tells_deadline=False),
        (DOES_NOT_RECOVER,),
    ),
    Row(
        SLOW,
        ALL_SLOW,
        Setup("no budget, expired work dropped", NO_BUDGET),
        (DOES_NOT_RECOVER,),
    ),
    Row(
        SLOW,
        ALL_SLOW,
        Setup("budget, expired work done", POOL, tells_deadline=False),
        (DOES_NOT_RECOVER, TRIES_FEW),
    ),
    Row(SLOW, ALL_SLOW, Setup("budget, expired work dropped", POOL), (RECOVERS, TRIES_FEW)),
    Row(
        SLOW,
        ALL_SLOW,
        Setup("same, hedged, 100 ms queue", POOL, may_hedge=True, queue_wait_s=0.1),
        (RECOVERS, TRIES_FEW, HEDGES_FEW),
    ),
)


def main() -> int:
    arguments = _arguments()
    console = Console(width=TABLE_WIDTH)
    table = _table(arguments.seed)
    broken: list[str] = []
    for experiment_name, rows in itertools.groupby(ROWS, key=lambda row: row.experiment_name):
        table.add_section()
        table.add_row(f"[bold]{experiment_name}[/bold]")
        for row in rows:
            result = run(row.setup, row.experiment, seed=arguments.seed)
            missed = [promise.says for promise in row.promises if not promise.holds(result)]
            broken += [f"{experiment_name}, {row.setup.name}: not true that {it}" for it in missed]
            verdict = "" if not row.promises else "NO" if missed else "yes"
            table.add_row(f"  {row.setup.name}", *_figures(result), verdict)
    console.print(table)
    for line in broken:
        console.print(f"[bold]{line}[/bold]", highlight=False)
    if not arguments.model_only:
        console.print(_cost_table())
    return 1 if broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-kernel ARGS=...", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="another run of the same experiments")
    parser.add_argument("--model-only", action="store_true", help="leave out the real-time part")
    return parser.parse_args()


def _table(seed: int) -> Table:
    table = Table(
        title=f"5 replicas of 8 workers, 20 ms an answer, 4 clients, virtual time, seed {seed}",
        caption="success and percentiles since the fault began; tries are per request; kept: see ROWS",
    )
    table.add_column("fault, and what clients and servers do", no_wrap=True)
    for heading in (
        "success", "to faulty", "p99 ms", "p99.9", "tries", "in fault", "hedges", "well after",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    table.add_column("kept")
    return table


def _figures(result: Result) -> tuple[str, ...]:
    experiment = result.experiment
    recovery_s = result.recovery_s()
    has_end = experiment.relieve is not _nothing
    return (
        f"{result.success(experiment.fault_from_s):.2%}",
        "" if has_end else f"{result.share_at_first():.2%}",
        f"{result.percentile_s(0.99) * 1000.0:.0f}",
        f"{result.percentile_s(0.999) * 1000.0:.0f}",
        f"{result.tries_per_request():.3f}",
        f"{result.tries_per_request_in_fault():.3f}",
        f"{result.hedges_per_request():.2%}",
        "" if not has_end else "never" if recovery_s is None else f"{recovery_s:.1f} s",
    )


def _cost_table() -> Table:
    table = Table(
        title="what a call costs in this process (real time, best of several rounds)",
        caption="the act takes one turn of the event loop and nothing else",
    )
    table.add_column("through")
    table.add_column("us a call", justify="right")
    table.add_column("over a bare await", justify="right")
    costs = asyncio.run(kernel_cost.measure())
    bare_us = costs[0].call_us
    for cost in costs:
        table.add_row(cost.through, f"{cost.call_us:.1f}", f"{cost.call_us - bare_us:+.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
