"""Processes of a drill: started so that they die with it, found below one another, and all ended."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from trunkline.drills.refusal import DrillError
from trunkline.kernel import Clock
from trunkline.kernel.lifeline import leashed

PROGRAM: Final = (sys.executable, "-P", "-m", "trunkline")
LOOK_EVERY_S: Final = 0.02
STOP_MAX_S: Final = 30.0
KILL_MAX_S: Final = 5.0
TOOL_MAX_S: Final = 60.0
WORDS_CHARS_MAX: Final = 2_000

FREEZE: Final = signal.SIGSTOP
CONTINUE: Final = signal.SIGCONT


class Program:
    """One process of ours that runs in the background, with its words in a file."""

    def __init__(
        self, argv: Sequence[str], *, words: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Starts it. To be called in the main thread, whose end is then its end."""
        leash = leashed(argv)
        self._words = words
        with words.open("ab") as file:
            self._process = subprocess.Popen(
                leash.argv,
                env={**os.environ, **(environment or {})},  # noqa: TID251 - what it is started with
                stdout=file,
                stderr=file,
                **leash.arguments,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def last_words(self) -> str:
        with contextlib.suppress(OSError):
            return self._words.read_text("utf-8", "replace")[-WORDS_CHARS_MAX:].strip()
        return ""

    async def end(self, clock: Clock, *, within_s: float = STOP_MAX_S) -> int:
        """Ask it to stop; kill it, and all below it, if it does not. Its exit code."""
        below = tree(self.pid)
        if self.exit_code is None:
            self._process.send_signal(signal.SIGTERM)
            await until(lambda: self.exit_code is not None, clock, within_s=within_s)
        kill_all(below)
        await until(lambda: self.exit_code is not None, clock, within_s=KILL_MAX_S)
        return -1 if self.exit_code is None else self.exit_code


async def until(happened: Callable[[], bool], clock: Clock, *, within_s: float) -> bool:
    """Look until it happened; whether it did."""
    give_up_at = clock.monotonic() + within_s
    while not happened():
        if clock.monotonic() >= give_up_at:
            return False
        await asyncio.sleep(LOOK_EVERY_S)
    return True


def tree(pid: int) -> dict[int, str]:
    """The process `pid` and every one below it, by id, with their names; empty if it is gone."""
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        name = name_of(each)
        if name:
            found[each] = name
            for task in Path(f"/proc/{each}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    waiting += map(int, task.read_text("ascii").split())
    return found


def name_of(pid: int) -> str:
    """What a process is called; empty if it is gone, or waits only to be collected."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except OSError:
        return ""
    is_gone = status.rpartition(")")[2].split()[0] in "ZX"
    return "" if is_gone else status.partition("(")[2].rpartition(")")[0]


def send_all(pids: Iterable[int], number: signal.Signals) -> None:
    """The same signal to each; one that is gone already is passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_all(pids: Iterable[int]) -> None:
    """SIGKILL to each. They were looked up a moment ago and are children of ours."""
    send_all(pids, signal.SIGKILL)


class Batch:
    """A program of the machine that is started beforehand, and does what it reads once it is given."""

    def __init__(self, *argv: str) -> None:
        """Starts it; it ends when this process does. Raises `DrillError`."""
        self._argv = argv
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        except OSError as error:
            raise _unusable(argv, str(error)) from error

    def give(self, lines: str) -> None:
        """All that it is to do; it begins at once and is not awaited. To be called once."""
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: it is a pipe
        with contextlib.suppress(BrokenPipeError):  # one that ended early says why in `end`
            self._process.stdin.write(lines)
            self._process.stdin.flush()

    def end(self) -> None:
        """Wait until it is done. Raises `DrillError` if it failed."""
        try:
            _, errors = self._process.communicate(timeout=TOOL_MAX_S)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            raise _unusable(self._argv, str(error)) from error
        if self._process.returncode != 0:
            raise _failed(self._argv, errors)


def run_tool(*argv: str) -> str:
    """Run a program of the machine to its end; what it printed. Raises `DrillError`."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=TOOL_MAX_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unusable(argv, str(error)) from error
    if done.returncode != 0:
        raise _failed(argv, done.stderr or done.stdout)
    return done.stdout


def _unusable(argv: Sequence[str], why: str) -> DrillError:
    return DrillError(f"cannot run {argv[0]!r} ({why})", "install it, or see its words")


def _failed(argv: Sequence[str], words: str) -> DrillError:
    return DrillError(f"{' '.join(argv)!r} failed ({words.strip()})", "do what it says")
