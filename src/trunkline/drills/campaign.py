"""Many drills in a row: which, with which seeds, and which of them a file says are done already."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from trunkline.drills.refusal import DrillError
from trunkline.drills.result import Overall, Result
from trunkline.drills.stage import Options, Scenario

STATE_BYTES_MAX: Final = 256 * 1024 * 1024

Runner = Callable[[Scenario, Options], Result]


@dataclass(frozen=True, slots=True)
class Seeds:
    """How often each drill is run: those that are worth it `deep` times, the others `plain` times."""

    first: int = 1
    plain: int = 1
    deep: int = 1

    def of(self, scenario: Scenario) -> range:
        count = max(self.plain, self.deep) if scenario.is_deep else self.plain
        return range(self.first, self.first + count)


@dataclass(frozen=True, slots=True)
class Task:
    """One drill with one seed."""

    scenario: Scenario
    options: Options


def plan(
    scenarios: Iterable[Scenario], options: Options, seeds: Seeds, *, is_full: bool
) -> list[Task]:
    """First every drill once, then every drill with its next seed, and so on. The quick run leaves
    out what takes long; the full one goes through the lengths that a fault is tried with."""
    chosen = [each for each in scenarios if is_full or each.is_quick]
    rounds = max((len(seeds.of(each)) for each in chosen), default=0)
    tasks: list[Task] = []
    for number in range(rounds):
        for scenario in chosen:
            if number < len(seeds.of(scenario)):
                own = replace(options, seed=seeds.first + number)
                if is_full and scenario.lengths_s and options.seconds is None:
                    seconds = scenario.lengths_s[number % len(scenario.lengths_s)]
                    own = replace(own, seconds=seconds)
                tasks.append(Task(scenario, own))
    return tasks


def run_all(
    tasks: Sequence[Task],
    run: Runner,
    *,
    state: Path | None,
    tell: Callable[[int, int, Task], None],
) -> Iterator[Result]:
    """Each task's result, as it is known: those that `state` holds at once, the others when they
    were run and added to it. `tell` is told before each of these."""
    done = {} if state is None else _done_in(state)
    for number, task in enumerate(tasks, 1):
        known = done.get(_name(task.scenario.name, task.options))
        if known is not None:
            yield known
            continue
        tell(number, len(tasks), task)
        result = run(task.scenario, task.options)
        if state is not None:
            _add(state, result)
        yield result


_Name = tuple[str, int, int, str, float | None, float | None, bool, bool]


def _name(drill: str, asked: Options | Result) -> _Name:
    """What a result is of: another drill, or the same one asked for otherwise, was not run by it."""
    return (
        drill,
        asked.seed,
        asked.hosts,
        asked.broken,
        asked.rate_per_s,
        asked.seconds,
        asked.is_keyed,
        asked.is_timing_judged,
    )


def _done_in(state: Path) -> dict[_Name, Result]:
    """By name. What could not be run, or was cut off in the middle of its line, is tried again."""
    if not state.exists():
        return {}
    done: dict[_Name, Result] = {}
    for line in state.read_bytes().split(b"\n"):
        try:
            result = msgspec.json.decode(line, type=Result)
        except msgspec.ValidationError as error:
            raise DrillError(
                f"{state} holds a line that is no result ({error})", "name another file"
            ) from error
        except msgspec.DecodeError as error:
            if line[:1] in {b"", b"{"}:
                continue
            raise DrillError(
                f"{state} holds a line that is no result ({error})", "name another file"
            ) from error
        if result.verdict is not Overall.NOT_RUN:
            done[_name(result.drill, result)] = result
    return done


def _add(state: Path, result: Result) -> None:
    with state.open("ab") as file:
        # Behind a line that was cut off, a new one begins.
        is_torn = file.tell() and state.read_bytes()[-1:] != b"\n"
        file.write((b"\n" if is_torn else b"") + msgspec.json.encode(result) + b"\n")
        file.flush()
