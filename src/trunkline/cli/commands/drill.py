"""`trunkline drill`: hurt hosts on purpose, and count from outside what became of the messages."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    name: Annotated[
        str | None, typer.Argument(help="Which drill; without it, all are listed.")
    ] = None,
    *,
    is_all: Annotated[bool, typer.Option("--all", help="Run all the quick ones.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a drill.")] = False,
    hosts: Annotated[int, typer.Option(help="How many hosts: 1, or 3 and more.", min=1)] = 3,
    seed: Annotated[int | None, typer.Option(help="Repeats the same choices.")] = None,
    rate: Annotated[float, typer.Option(help="Creates a second.", min=1.0)] = 50.0,
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
    keep: Annotated[
        Path | None, typer.Option(help="An empty folder in which all files are kept.")
    ] = None,
) -> None:
    """Run drills on hosts that are started for it, and judge them by what was seen from outside."""
    import secrets

    from rich.console import Console

    from trunkline.drills import report
    from trunkline.drills.run import run_one
    from trunkline.drills.scenarios import SCENARIOS
    from trunkline.drills.stage import Options

    console = Console(file=sys.stderr if as_json else sys.stdout)
    if name is None and not is_all:
        for each in SCENARIOS.values():
            typer.echo(f"{each.name:18}{each.summary}")
        return
    if name is not None and name not in SCENARIOS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(SCENARIOS)}")
    options = Options(
        hosts=hosts,
        seed=secrets.randbelow(1_000_000) if seed is None else seed,
        rate_per_s=rate,
        seconds=seconds,
        is_keyed=not without_keys,
        is_timing_judged=judge_timings,
    )
    result = run_one(SCENARIOS[str(name)], options, keep=keep)
    if as_json:
        typer.echo(report.as_json(result))
    else:
        report.show(result, console)
    raise typer.Exit(report.exit_code([result]))
