"""`trunkline drill`: hurt hosts on purpose, and count from outside what became of the messages."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from trunkline.drills.result import Result
    from trunkline.drills.stage import Options

SEED_MAX: Final = 1_000_000
SUMMARY_COLUMNS_MIN: Final = 130
"""A narrower table cuts its figures off; where the output is no terminal, 80 are assumed."""
RATE_PER_S: Final = 50.0
"""Little enough that one small machine carries three hosts, a carrier and the witnesses."""


def command(
    name: Annotated[
        str | None, typer.Argument(help="Which drill; without it, all are listed.")
    ] = None,
    *,
    is_all: Annotated[bool, typer.Option("--all", help="Run all the quick ones.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a drill.")] = False,
    hosts: Annotated[int, typer.Option(help="How many hosts: 1, or 3 and more.", min=1)] = 3,
    seed: Annotated[int | None, typer.Option(help="Repeats the same choices.")] = None,
    rate: Annotated[float, typer.Option(help="Creates a second.", min=1.0)] = RATE_PER_S,
    seconds: Annotated[
        float | None, typer.Option(help="How long the fault lasts, where it can be chosen.")
    ] = None,
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Send no Idempotency-Key with creates.")
    ] = False,
    judge_timings: Annotated[
        bool,
        typer.Option("--judge-timings", help="Fail if the API pauses for longer than promised."),
    ] = False,
    broken: Annotated[
        str, typer.Option("--break", help="Leave out this protection: the drill must fail.")
    ] = "",
    keep: Annotated[
        Path | None, typer.Option(help="An empty folder in which all files of one are kept.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="With --all: the full run, so many times each.", min=1)
    ] = None,
    deep_seeds: Annotated[
        int | None, typer.Option(help="With --seeds: so often where it pays.", min=1)
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="With --all: keep results here, and skip what it holds.")
    ] = None,
) -> None:
    """Run drills on hosts that are started for it, and judge them by what was seen from outside.

    Exits with 0 if all passed, 1 if a promise was broken, 2 if something could not be run.
    """
    from trunkline.drills.scenarios import SCENARIOS
    from trunkline.drills.stage import Options

    if name is None and not is_all:
        for each in SCENARIOS.values():
            typer.echo(f"{each.name:20}{each.summary}")
        return
    if is_all == (name is not None) or (name is not None and name not in SCENARIOS):
        raise typer.BadParameter(f"name one of {', '.join(SCENARIOS)}, or --all")
    if hosts == 2:
        raise typer.BadParameter("two hosts have no majority without each other: 1, or 3 and more")
    if broken:
        _require_known(broken)
    options = Options(
        hosts=hosts,
        seed=_seed(seed, state),
        rate_per_s=rate,
        seconds=seconds,
        is_keyed=not without_keys,
        is_timing_judged=judge_timings,
        broken=broken,
    )
    if name is not None:
        results = [_one(name, options, keep=keep, as_json=as_json)]
    else:
        results = _all(options, seeds=seeds, deep_seeds=deep_seeds, state=state, as_json=as_json)
    from trunkline.drills.report import exit_code

    raise typer.Exit(exit_code(results))


def _require_known(broken: str) -> None:
    from trunkline.host.ablations import ABLATIONS

    if broken not in ABLATIONS:
        raise typer.BadParameter(f"--break takes one of {', '.join(ABLATIONS)}")


def _seed(given: int | None, state: Path | None) -> int:
    """What is to be gone on with must make the same choices the next time."""
    if given is not None:
        return given
    return 1 if state is not None else secrets.randbelow(SEED_MAX)


def _one(name: str, options: "Options", *, keep: Path | None, as_json: bool) -> "Result":
    from rich.console import Console

    from trunkline.drills import report
    from trunkline.drills.run import run_one
    from trunkline.drills.scenarios import SCENARIOS

    typer.echo(f"drill {name}, seed {options.seed}", err=True)
    result = run_one(SCENARIOS[name], options, keep=keep)
    if as_json:
        typer.echo(report.as_json(result))
    else:
        report.show(result, Console())
    return result


def _all(
    options: "Options",
    *,
    seeds: int | None,
    deep_seeds: int | None,
    state: Path | None,
    as_json: bool,
) -> "list[Result]":
    from rich.console import Console

    from trunkline.drills import campaign, report
    from trunkline.drills.run import run_one
    from trunkline.drills.scenarios import SCENARIOS

    plain = seeds or 1
    tasks = campaign.plan(
        SCENARIOS.values(),
        options,
        campaign.Seeds(options.seed, plain, deep_seeds or plain),
        is_full=seeds is not None,
    )

    def tell(number: int, count: int, task: campaign.Task) -> None:
        name, seed = task.scenario.name, task.options.seed
        typer.echo(f"{number} of {count}: {name}, seed {seed}", err=True)

    results: list[Result] = []
    for result in campaign.run_all(tasks, run_one, state=state, tell=tell):
        results.append(result)
        words = f"  {result.verdict} in {result.duration_s:g} s"
        typer.echo(f"{words}: {result.reason}" if result.reason else words, err=True)
        if as_json:
            typer.echo(report.as_json(result))
    console = Console(stderr=as_json)
    console.width = max(console.width, SUMMARY_COLUMNS_MIN)
    report.summary(results, console)
    return results
