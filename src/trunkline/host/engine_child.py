"""The log engine as a child process: started, watched, replaced when it dies, and never orphaned.

It holds `run/engine.lock` for as long as it lives, so that two engines never open one store, not
even when the second is started while the first one is still being killed.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import ssl
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.host import durable, engine_conf, listen
from trunkline.host.engine_conf import EnginePlan
from trunkline.host.engine_probe import Answers, probe
from trunkline.host.give_way import giving_way
from trunkline.host.listen import Address
from trunkline.host.refusal import EngineError
from trunkline.host.roster import Member
from trunkline.kernel import Backoff, Clock
from trunkline.kernel.lifeline import DISMISSAL, HAS_PARENT_DEATH_SIGNAL, leashed

ENGINE_READY_S: Final = 60.0
"""Recovering a full store after a power failure takes seconds; a minute means that it hangs."""
ENGINE_STOP_S: Final = 5.0
ENGINE_KILL_S: Final = 2.0
ENGINE_PROBE_INTERVAL_S: Final = 0.01
ENGINE_RESTART_BASE_S: Final = 0.05
ENGINE_RESTART_CAP_S: Final = 2.0
ENGINE_STABLE_S: Final = 10.0
"""An engine that lived this long starts its restart waits from the shortest again."""
ENGINE_LOCK_S: Final = 5.0
_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class EngineReady:
    """It answers; clients may connect to `url`."""

    pid: int
    url: str


@dataclass(frozen=True, slots=True)
class EngineDied:
    """It ended by itself, and is started again after `restart_in_s`."""

    pid: int
    exit_code: int
    restart_in_s: float


@dataclass(frozen=True, slots=True)
class EngineMoved:
    """Its port was taken while it was away; clients must connect to `url` from now on."""

    url: str


EngineNews = EngineReady | EngineDied | EngineMoved


class EngineChild:
    """Run `run` in a task group; `ready` is set while the engine answers at `url` with `token`."""

    def __init__(
        self,
        plan: EnginePlan,
        *,
        clock: Clock,
        backoff: Backoff,
        notify: Callable[[EngineNews], None],
        portable: bool = not HAS_PARENT_DEATH_SIGNAL,
    ) -> None:
        self.ready = asyncio.Event()
        cluster = plan.cluster
        self.token: Final = secrets.token_hex(16) if cluster is None else cluster.client_token
        self.tls: Final = None if cluster is None or cluster.tls is None else cluster.tls.context()
        self.pid: int | None = None
        self._process: Process | None = None
        self._plan = plan
        self._program = engine_conf.find_program(plan.program)
        self._file_bytes = engine_conf.store_bytes(plan)
        self._address = (
            listen.free_address(Address(_LOOPBACK, 0), setting="host.nats_server")
            if cluster is None
            else cluster.own.log
        )
        self._clock = clock
        self._backoff = backoff
        self._notify = notify
        self._portable = portable
        self._stopping = asyncio.Event()
        self._has_been_ready = False
        self._is_returning = plan.store.exists()

    @property
    def url(self) -> str:
        return f"nats://{self._address}"

    @property
    def store_bytes(self) -> int:
        """What the streams together may reserve on disk."""
        return self._file_bytes

    async def run(self) -> None:
        """Keep the engine running until `stop` or cancellation; it is gone on return.

        Raises `EngineError`, or `ListenError`, if it does not come up the first time. Later it is started again for
        as long as it takes.
        """
        attempt = 0
        while not self._stopping.is_set():
            started_at = self._clock.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            if not self._has_been_ready:
                raise EngineError(
                    f"the log engine ended before it was ready (exit code {code})",
                    f"see {self._plan.run / 'nats.log'}; its last words were "
                    f"{engine_conf.last_words(self._plan.run)!r}",
                )
            if self._clock.monotonic() - started_at >= ENGINE_STABLE_S:
                attempt = 0
            wait_s = self._backoff.delay_s(attempt)
            attempt += 1
            self._notify(EngineDied(self.pid or 0, code, wait_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()

    def replace(self) -> None:
        """End the engine that runs now; `run` starts another one."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    def stop(self) -> None:
        """Ask `run` to end the engine and return."""
        self._stopping.set()

    async def _run_once(self) -> int:
        """Start the engine, watch it, and give its exit code. It is gone on return."""
        await self._choose_port()
        lock = await _take_engine_lock(self._plan.run / "engine.lock", self._clock)
        try:
            if self._plan.cluster is not None and not self._has_been_ready:
                _require_free(self._plan.cluster.own)
            process = await self._spawn(lock)
        finally:
            os.close(lock)
        self._process, self.pid = process, process.pid
        with contextlib.suppress(OSError):  # a full disk must not keep the engine from running
            durable.write_file(self._plan.run / "engine.pid", b"%d" % process.pid)
        try:
            async with self._precedence(process.pid):
                if await self._until_answering(process):
                    self._has_been_ready = True
                    self.ready.set()
                    self._notify(EngineReady(process.pid, self.url))
                await _first_of(process, self._stopping)
        finally:
            self.ready.clear()
            await _end(process)
        return process.returncode if process.returncode is not None else -signal.SIGKILL

    def _precedence(self, pid: int) -> AbstractAsyncContextManager[None]:
        """In a cluster others serve while an engine comes back; alone, all wait for it."""
        if self._plan.cluster is None or not (self._has_been_ready or self._is_returning):
            return contextlib.nullcontext()
        return giving_way(pid, self._clock)

    async def _choose_port(self) -> None:
        if self._plan.cluster is not None:
            return  # its peers know where it is; while the port is taken it is started in vain
        if not listen.is_free(self._address):
            self._address = listen.free_address(Address(_LOOPBACK, 0), setting="host.nats_server")
            self._notify(EngineMoved(self.url))

    async def _spawn(self, lock: int) -> Process:
        run = self._plan.run
        durable.make_folder(self._plan.store)
        conf = engine_conf.render(self._plan, self._address, self.token).encode()
        if not _is_content(run / "nats.conf", conf):  # on a full disk the one that is there will do
            durable.write_file(run / "nats.conf", conf)
        how = leashed(engine_conf.command(self._plan, self._program), portable=self._portable)
        errors = os.open(run / "nats.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, durable.FILE_MODE)
        try:
            # A session of its own: ctrl-C in the terminal must not end it before the host drained.
            return await asyncio.create_subprocess_exec(
                *how.argv,
                **how.arguments,
                stdout=errors,
                stderr=errors,
                pass_fds=(lock,),
                start_new_session=True,
            )
        finally:
            os.close(errors)

    async def _until_answering(self, process: Process) -> bool:
        """Whether it answers to our token before it ends, `ENGINE_READY_S` pass, or we stop."""
        give_up_at = self._clock.monotonic() + ENGINE_READY_S
        while self._clock.monotonic() < give_up_at and not self._stopping.is_set():
            if process.returncode is not None:
                return False
            if await answers(self._address, self.token, self.tls):
                return True
            await self._clock.sleep(ENGINE_PROBE_INTERVAL_S)
        if not self._stopping.is_set():
            process.kill()
        return False


async def answers(address: Address, token: str, tls: ssl.SSLContext | None = None) -> bool:
    """Whether an engine that knows `token` serves there; another program that took the port does
    not."""
    return isinstance(await probe(address, token, tls=tls), Answers)


async def _take_engine_lock(path: Path, clock: Clock) -> int:
    """A locked descriptor for the engine to inherit; the lock is free once the engine is gone."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, durable.FILE_MODE)
    give_up_at = clock.monotonic() + ENGINE_LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if clock.monotonic() >= give_up_at:
                os.close(descriptor)
                raise EngineError(
                    f"another log engine still works on the store beside {path}",
                    "end that process",
                ) from None
        await clock.sleep(ENGINE_PROBE_INTERVAL_S)


def _require_free(own: Member) -> None:
    """Raises `ListenError` where an address of this host's entry cannot be listened on."""
    for address in (own.route, own.log):
        listen.free_address(address, setting=f"the entry {own.name!r} of cluster.hosts")


async def _first_of(process: Process, stopping: asyncio.Event) -> None:
    """Return when the process has ended or a stop was asked for."""
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(process.wait()), group.create_task(stopping.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


async def _end(process: Process) -> None:
    """End it, politely for `ENGINE_STOP_S`; also used when this task is being cancelled."""
    try:
        for number, bound_s in ((signal.SIGTERM, ENGINE_STOP_S), (signal.SIGKILL, ENGINE_KILL_S)):
            if process.returncode is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(bound_s):
                    await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if process.stdin is not None:
            process.stdin.write(DISMISSAL)
            process.stdin.close()


def _is_content(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
