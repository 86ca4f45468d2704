"""Processes of ours under one parent: started together, restarted when they die, stopped in order.

A child says that it is ready by writing its ready file. One that ends before it was ever ready is
an error to report, not to repeat; afterwards it is started again for as long as it takes. This
module runs in the parent of everything, so it imports nothing heavy.
"""

import asyncio
import contextlib
import json
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.host.refusal import ChildError
from trunkline.kernel import Backoff, Clock

CHILD_READY_S: Final = 90.0
"""The engine below a host may take a minute to recover a full store."""
CHILD_READY_POLL_S: Final = 0.01
CHILD_KILL_S: Final = 2.0
CHILD_STABLE_S: Final = 10.0
"""A child that lived this long starts its restart waits from the shortest again."""
CHILD_RESTART_BASE_S: Final = 0.05
CHILD_RESTART_CAP_S: Final = 2.0

PROGRAM: Final = (sys.executable, "-P", "-m", "trunkline")
"""How a process of ours is started. -P: a module in the working directory must not replace ours."""


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """One process: its name for people, its command line, and the file it writes when ready.
    `prepare` is called before each start, and may raise a `HostError`, which ends it for good."""

    name: str
    argv: tuple[str, ...]
    ready_file: Path
    pass_fds: tuple[int, ...] = ()
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class ChildReady:
    name: str
    pid: int
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ChildDied:
    name: str
    pid: int
    exit_code: int
    restart_in_s: float


ChildNews = ChildReady | ChildDied


class Child:
    """Run `run` in a task group; `ready` is set while the child is, with `facts` from its file."""

    def __init__(
        self,
        plan: ChildPlan,
        *,
        clock: Clock,
        backoff: Backoff,
        notify: Callable[[ChildNews], None],
    ) -> None:
        self.plan: Final = plan
        self.ready = asyncio.Event()
        self.pid: int | None = None
        self.facts: Mapping[str, object] = {}
        self._clock = clock
        self._backoff = backoff
        self._notify = notify
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._has_been_ready = False
        self._was_killed = False

    async def run(self) -> None:
        """Keep the child running until `stop` or cancellation; it is gone on return.

        Raises `ChildError` if it ends, or hangs, before it was ever ready.
        """
        attempt = 0
        try:
            while not self._stopping.is_set():
                started_at = self._clock.monotonic()
                code = await self._run_once()
                if self._stopping.is_set():
                    return
                if not self._has_been_ready:
                    raise ChildError(
                        f"the {self.plan.name} ended before it was ready (exit code {code})",
                        "see what it said above",
                    )
                if self._clock.monotonic() - started_at >= CHILD_STABLE_S:
                    attempt = 0
                wait_s = self._backoff.delay_s(attempt)
                attempt += 1
                self._notify(ChildDied(self.plan.name, self.pid or 0, code, wait_s))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._stopping.wait()
        finally:
            self._ended.set()

    async def stop(self, *, within_s: float) -> bool:
        """End the child and `run`; whether it ended by itself within the bound. A child that was
        not running has."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._ended.wait()
            return not self._was_killed
        self.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHILD_KILL_S):
                await self._ended.wait()
        return False

    def kill(self) -> None:
        """End it now, without asking."""
        self._was_killed = True
        self._signal(signal.SIGKILL)

    async def _run_once(self) -> int:
        """Start it, watch it, and give its exit code. It is gone on return."""
        self.plan.prepare()
        self.plan.ready_file.unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            *self.plan.argv,
            # The other end of this pipe is how a child notices our death where the system has no
            # signal for it. Its output goes where our errors go: our own output is for the banner.
            stdin=asyncio.subprocess.PIPE,
            stdout=sys.stderr,
            pass_fds=self.plan.pass_fds,
            # A session of its own: ctrl-C is for us, who stop the children in order.
            start_new_session=True,
        )
        self._process, self.pid = process, process.pid
        try:
            if self._stopping.is_set():
                process.terminate()
            if await self._until_ready(process):
                self._has_been_ready = True
                self.ready.set()
                self._notify(ChildReady(self.plan.name, process.pid, self.facts))
            code = await process.wait()
        finally:
            self._process = None
            self.ready.clear()
            await _kill(process)
        return code

    async def _until_ready(self, process: Process) -> bool:
        """Whether the ready file came before the end. One that hangs is killed."""
        give_up_at = self._clock.monotonic() + CHILD_READY_S
        while process.returncode is None and not self._stopping.is_set():
            facts = _read_facts(self.plan.ready_file)
            if facts is not None:
                self.facts = facts
                return True
            if self._clock.monotonic() >= give_up_at:
                process.kill()
                return False
            await self._clock.sleep(CHILD_READY_POLL_S)
        return False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def _read_facts(path: Path) -> Mapping[str, object] | None:
    """The content of a ready file, which is written in one step; None while there is none."""
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


async def _kill(process: Process) -> None:
    """Make sure that it is gone; does nothing after a normal end."""
    try:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHILD_KILL_S):
                    await process.wait()
    finally:
        if process.stdin is not None:
            process.stdin.close()
