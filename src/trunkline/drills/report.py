"""How a drill's result is shown: one line of JSON for programs, a table and a timeline for people."""

from collections.abc import Sequence
from typing import Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from trunkline.drills.backlog import BacklogFigures
from trunkline.drills.result import Overall, Result

BARS: Final = " ▁▂▃▄▅▆▇█"
_STYLES: Final = {"pass": "green", "fail": "bold red", "not-run": "yellow", "not-judged": "dim"}


def as_json(result: Result) -> str:
    """One line. The verdicts of the invariants stand under their names."""
    content = msgspec.to_builtins(result)
    content["invariants"] = {
        each["invariant"]: {name: value for name, value in each.items() if name != "invariant"}
        for each in content["invariants"]
    }
    return msgspec.json.encode(content).decode()


def show(result: Result, console: Console) -> None:
    """The verdict of each invariant, the figures, and what happened when."""
    title = f"drill {result.drill}, seed {result.seed}, {_hosts(result.hosts)}"
    if result.verdict is Overall.NOT_RUN:
        console.print(f"{title}: not run: {escape(result.reason)}", style=_STYLES["not-run"])
        return
    table = Table("", "invariant", "verdict", "", title=title)
    for each in result.invariants:
        words = [each.note] if each.note else []
        words += each.examples
        if each.broken > len(each.examples):
            words.append(f"... {each.broken} in all")
        verdict = Text(each.verdict, _STYLES[each.verdict])
        table.add_row(each.invariant, each.promise, verdict, escape("\n".join(words)))
    console.print(table)
    console.print(_figures(result))
    if result.backlog is not None:
        console.print(_backlog(result.backlog))
    _show_timeline(result, console)
    console.print(Text(result.verdict.upper(), _STYLES[result.verdict]))


def summary(results: Sequence[Result], console: Console) -> None:
    """One row a drill."""
    table = Table("drill", "seed", "verdict", "accepted", "lost", "doubled", "ambiguous")
    for name in ("gap ms", "slowest ms", "recovered s", "tries", "took s"):
        table.add_column(name, justify="right")
    for each in results:
        table.add_row(
            each.drill,
            str(each.seed),
            Text(each.verdict, _STYLES[each.verdict]),
            *map(str, (each.accepted, each.lost, each.doubled, each.ambiguous)),
            *map(_figure, (each.accept_gap_ms, each.slowest_accept_ms, each.recovered_s)),
            _figure(each.attempts_per_request),
            f"{each.duration_s:g}",
        )
    console.print(table)
    for each in results:
        if each.reason:
            console.print(f"{each.drill}, seed {each.seed}: {escape(each.reason)}")


def bars(counts: Sequence[int]) -> str:
    """A count a character, in eighths of the greatest; anything but nothing can be seen."""
    most = max(counts, default=0)
    return "".join(
        BARS[max(1, round(count / most * (len(BARS) - 1))) if count else 0] for count in counts
    )


def _figures(result: Result) -> str:
    return (
        f"accepted {result.accepted}, lost {result.lost}, doubled {result.doubled}, ambiguous "
        f"{result.ambiguous}, never learned {result.unknown}; accept gap "
        f"{_figure(result.accept_gap_ms)} ms, slowest accept {_figure(result.slowest_accept_ms)} ms, "
        f"of which {_figure(result.slowest_try_ms)} ms at most at the host that took it, "
        f"recovered in {_figure(result.recovered_s)} s, {_figure(result.attempts_per_request)} tries "
        f"a request; took {result.duration_s:g} s"
    )


def _backlog(backlog: BacklogFigures) -> str:
    hosts = ", ".join(
        f"{name} {first:g}" for name, first in backlog.first_after_open_s_by_host.items()
    )
    return (
        f"of {backlog.messages} that waited: lost {backlog.lost}, doubled {backlog.doubled}; handed "
        f"over after the carrier opened in {_figure(backlog.first_after_open_s)} to "
        f"{_figure(backlog.last_after_open_s)} s, {backlog.within_1_s} in the first second; after "
        f"the kill in {_figure(backlog.first_after_kill_s)} to "
        f"{_figure(backlog.last_after_kill_s)} s; first of each host: {hosts or '-'} s"
    )


def _show_timeline(result: Result, console: Console) -> None:
    console.print(f"accepts each second  |{bars(result.accepts_each_s)}|")
    for moment in result.timeline:
        console.print(f"  {moment.at_s:7.2f} s  {escape(moment.what)}")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _hosts(count: int) -> str:
    return "one host" if count == 1 else f"{count} hosts"


def exit_code(results: Sequence[Result]) -> int:
    """0: all passed; 1: something broke; 2: something could not be run. Of many, those that are not
    possible here do not count."""
    counted = [each for each in results if each.is_possible or len(results) == 1]
    verdicts = {each.verdict for each in counted}
    if Overall.FAIL in verdicts:
        return 1
    return 2 if Overall.NOT_RUN in verdicts else 0
