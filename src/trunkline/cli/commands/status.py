"""`trunkline status`: what the host on this data folder does, and what it sees of its cluster."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from trunkline.host import config, status
from trunkline.host.layout import Layout
from trunkline.host.queues import QueueLine
from trunkline.host.reasons import is_missing, reasons
from trunkline.host.refusal import HostError
from trunkline.host.status import HostLine, OutLine, ProcessStatus
from trunkline.kernel import SystemClock


class NotRunningError(HostError):
    """No host runs on the data folder, or it hangs."""


def command(
    *,
    data: Annotated[Path | None, typer.Option(help="The host's data folder.")] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="The TOML file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the hosts of the cluster, the leaders of the log, and what is not well. Exits with 1
    where something is not ready."""
    settings = config.load(config_file, {"host.data": data}, config.environment())
    found = status.read(Layout(settings.host.data).run, wall=SystemClock().wall())
    if not found:
        raise NotRunningError(
            f"no host has said anything in {settings.host.data} for {status.STALE_S:.0f} s",
            "start it with 'trunkline up', or name its folder with --data",
        )
    if as_json:
        said = {"processes": msgspec.to_builtins(found), "reasons": reasons(found)}
        print(json.dumps(said, indent=1))
    else:
        _print(found)
    if any(each.not_ready for each in found):
        raise typer.Exit(1)


def _may_act(line: HostLine) -> str:
    """What a member said last is not so any more where it is not heard."""
    if is_missing(line):
        return "unknown"
    return "yes" if line.may_act else "no"


def _unknown(line: QueueLine) -> str:
    if not line.unknown_shards:
        return ""
    return f"{line.unknown_shards} shards could not be asked: at least"


def _next_probe(out: OutLine) -> str:
    if out.is_ignored:
        return "asked: too many are out"
    return f"in {out.probed_in_s:.1f} s" if out.probed_in_s else "due"


def _because(out: OutLine) -> str:
    return f"{out.rule} ({out.failures} of {out.outcomes} in 10 s failed)"


def _print(found: Sequence[ProcessStatus]) -> None:
    _show(
        f"Host {found[0].host}",
        ("services", "ready", "copy behind"),
        [
            (
                " ".join(each.services),
                "yes" if not each.not_ready else f"no: {', '.join(each.not_ready)}",
                "unknown" if each.copy_lag_ms < 0.0 else f"{each.copy_lag_ms:.0f} ms",
            )
            for each in found
        ],
    )
    for reason in reasons(found):
        print(f"Not ready, {reason}.")
    _print_cluster(max(found, key=lambda each: sum(bool(line.leader) for line in each.shards)))
    _print_waiting(found)


def _print_cluster(fullest: ProcessStatus) -> None:
    _show(
        "Cluster",
        ("host", "state", "may act", "zone", "heard for", "API", "incarnation"),
        [
            (
                line.host, line.state, _may_act(line), line.zone,
                f"{line.heard_for_s:.0f} s", line.base_url, line.incarnation,
            )
            for line in fullest.hosts
        ],
    )  # fmt: skip
    _show(
        "Log",
        ("stream", "worked on by", "led by", "its consumers by"),
        [
            (
                line.stream,
                line.owner or "nobody",
                line.leader or "unknown",
                " ".join(sorted({leader or "unknown" for leader in line.consumers.values()})),
            )
            for line in fullest.shards
        ],
    )


def _print_waiting(found: Sequence[ProcessStatus]) -> None:
    """What waits, and for whom nobody waits any more."""
    _show(
        "Waiting",
        ("service", "the oldest for", ""),
        [
            (line.service, f"{line.oldest_s:.1f} s", _unknown(line))
            for each in found
            for line in each.queues
        ],
    )
    _show(
        "Out of rotation",
        ("pool", "replica", "since", "next probe", "because", "last error"),
        [
            (
                line.pool, out.replica, f"{out.out_for_s:.0f} s", _next_probe(out), _because(out),
                out.last_error,
            )
            for each in found
            for line in each.pools
            for out in line.out
        ],
    )  # fmt: skip


def _show(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table, where there is anything in it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        # Not as markup: what others answered may have brackets in it.
        table.add_row(*map(Text, row))
    Console().print(table)
