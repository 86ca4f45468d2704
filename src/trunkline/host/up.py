"""`trunkline up`: the parent of a simulated carrier and of its hosts, in which nothing heavy happens.

The parent holds each data folder's lock and each API's listener and hands both down, so a host
process can be replaced without a refused connection. If the parent is killed, its children end.
"""

import asyncio
import contextlib
import dataclasses
import functools
import json
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, assert_never

from trunkline.host import durable, listen, supervise
from trunkline.host.banner import banner, program_words
from trunkline.host.config import CarrierSettings, Settings
from trunkline.host.engine_conf import find_program
from trunkline.host.layout import Layout
from trunkline.host.local_hosts import (
    LocalHost,
    check_count,
    open_hosts,
    prepare,
    write_settings,
)
from trunkline.host.outward import tls_context
from trunkline.host.refusal import ConfigError, DataFolderError, HostError
from trunkline.host.supervise import Child, ChildDied, ChildNews, ChildPlan, ChildReady
from trunkline.kernel import Backoff, Clock, SystemClock

SIMULATOR_STOP_S: Final = 2.0
HOST_SETTLE_S: Final = 5.0
"""What a host may take behind its drain: to cancel what was not finished and end its engine."""
DEATH_PIPE_FLAG: Final = "--die-with-parent"
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_up(settings: Settings, *, ready_file: Path | None, hosts: int = 1) -> int:
    """Run everything until a stop signal; the exit code. Raises `HostError`s before it is ready."""
    check_count(settings, hosts)
    if ready_file is not None:
        _require_writable(ready_file)
    if not settings.host.ephemeral:
        return _run_on(settings, hosts, ready_file)
    folder = Path(tempfile.mkdtemp(prefix="trunkline-"))
    try:
        host = dataclasses.replace(settings.host, data=folder)
        return _run_on(dataclasses.replace(settings, host=host), hosts, ready_file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _require_writable(ready_file: Path) -> None:
    """It is written when all runs already; whether it can be is found out by trying, and now."""
    mend = "name a file in a folder that this user may write in, with --ready-file"
    if ready_file.is_dir():
        raise ConfigError(f"cannot write the ready file {ready_file} (it is a folder)", mend)
    try:
        durable.try_write(ready_file)
    except OSError as error:
        raise ConfigError(
            f"cannot write the ready file {ready_file} ({error.strerror})", mend
        ) from error


def _run_on(settings: Settings, count: int, ready_file: Path | None) -> int:
    tls_context(settings)
    if not settings.host.ephemeral:
        find_program(settings.host.nats_server)
    if count % 2 == 0:
        _say(f"{count} hosts survive the loss of no more than {count - 1} would: run an odd number")
    try:
        with contextlib.ExitStack() as stack:
            hosts = open_hosts(settings, count, stack)
            is_simulator_ours = not settings.carrier.url
            carrier = _resolve(settings.carrier)
            hosts = tuple(
                dataclasses.replace(
                    host, settings=dataclasses.replace(host.settings, carrier=carrier)
                )
                for host in hosts
            )
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)
            for host in hosts:
                host.folder.layout.host_facts.unlink(missing_ok=True)
                write_settings(host)
            parent = _Parent(
                hosts,
                Layout(settings.host.data),
                ready_file=ready_file,
                clock=SystemClock(),
                is_simulator_ours=is_simulator_ours,
            )
            return asyncio.run(parent.run())
    except OSError as error:
        raise DataFolderError(
            f"cannot write {error.filename or settings.host.data} ({error.strerror})",
            "make room, or give this user the folder",
        ) from error


def _resolve(carrier: CarrierSettings) -> CarrierSettings:
    """With the carrier's address: one of our own has a free port in place of 0."""
    if carrier.url:
        return carrier
    # A port of its own choice would be another one after a restart of the simulator.
    http = listen.free_address(carrier.simulator_http, setting="--simulator-http")
    return dataclasses.replace(carrier, simulator_http=http, url=http.url)


class _Parent:
    """The running parent: its children, the stop request, and what it tells the outside. `home` is
    the folder that was named, which is that of the one host or holds those of several."""

    def __init__(
        self,
        hosts: Sequence[LocalHost],
        home: Layout,
        *,
        ready_file: Path | None,
        clock: Clock,
        is_simulator_ours: bool,
    ) -> None:
        self._hosts = tuple(hosts)
        self._home = home
        self._carrier = hosts[0].settings.carrier
        self._credentials = hosts[0].folder.credentials
        self._ready_file = ready_file
        self._clock = clock
        self._stop = asyncio.Event()
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311 - jitter
        is_alone = len(hosts) == 1
        self._seats = tuple(self._child(_plan(host, is_alone=is_alone)) for host in hosts)
        self._simulator = (
            self._child(_simulator_plan(self._carrier, home)) if is_simulator_ours else None
        )
        self._is_announced = False

    async def run(self) -> int:
        """Until a stop signal. The children are gone on return."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup, or a shell's background job: whoever started us wants it so
            loop.add_signal_handler(number, self._on_signal)
        failures: list[BaseException] = []
        is_clean = False
        try:
            async with asyncio.TaskGroup() as group:
                for child in self._children():
                    group.create_task(child.run())
                await self._announce_when_ready()
                await self._stop.wait()
                is_clean = await self._stop_children()
        except* HostError as group_of_errors:
            failures += group_of_errors.exceptions
        if failures:
            raise failures[0]
        return 0 if is_clean else 1

    def _child(self, plan: ChildPlan) -> Child:
        backoff = Backoff(supervise.CHILD_RESTART_BASE_S, supervise.CHILD_RESTART_CAP_S, self._rng)
        return Child(plan, clock=self._clock, backoff=backoff, notify=self._on_news)

    def _children(self) -> tuple[Child, ...]:
        return self._seats if self._simulator is None else (*self._seats, self._simulator)

    def _on_signal(self) -> None:
        """The first one drains; a second one means now."""
        if self._stop.is_set():
            for child in self._children():
                child.kill()
        self._stop.set()

    async def _announce_when_ready(self) -> None:
        async with asyncio.TaskGroup() as group:
            stopped = group.create_task(self._stop.wait())
            ready = group.create_task(self._all_ready())
            await asyncio.wait((stopped, ready), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            ready.cancel()
        if self._stop.is_set():
            return
        self._is_announced = True
        self._write_facts()
        first = self._hosts[0].settings.host
        text = banner(
            base_urls=[(host.name, host.base_url) for host in self._hosts],
            carrier_url=self._carrier.url,
            is_simulator_ours=self._simulator is not None,
            credentials=self._credentials,
            data=self._home.data,
            is_ephemeral=first.ephemeral,
            program=program_words(
                sys.argv[0], python=sys.executable, found=shutil.which("trunkline")
            ),
        )
        sys.stdout.write(text)
        sys.stdout.flush()

    async def _all_ready(self) -> None:
        for child in self._children():
            await child.ready.wait()

    async def _stop_children(self) -> bool:
        """The hosts first, so that what they have in hand can still reach the carrier."""
        for host in self._hosts:
            host.listener.close()
        async with asyncio.TaskGroup() as group:
            stops = [
                group.create_task(self._stop_host(host, child))
                for host, child in zip(self._hosts, self._seats, strict=True)
            ]
        is_clean = all(stop.result() for stop in stops)
        if self._simulator is not None:
            is_clean = await self._simulator.stop(within_s=SIMULATOR_STOP_S) and is_clean
        for layout in self._told():
            layout.host_facts.unlink(missing_ok=True)
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)
        return is_clean

    async def _stop_host(self, host: LocalHost, child: Child) -> bool:
        within_s = host.settings.host.drain_s + HOST_SETTLE_S
        is_clean = await child.stop(within_s=within_s)
        if not is_clean:
            _say(
                f"the {child.plan.name} did not finish in {within_s:g} s and was killed; "
                "nothing accepted is lost"
            )
        return is_clean

    def _on_news(self, news: ChildNews) -> None:
        match news:
            case ChildReady():
                if self._is_announced:
                    self._write_facts()
                    _say(f"the {news.name} is back (process {news.pid})")
            case ChildDied():
                _say(
                    f"the {news.name} (process {news.pid}) ended with exit code {news.exit_code}; "
                    f"starting it again in {news.restart_in_s:.2f} s"
                )
            case _:
                assert_never(news)

    def _told(self) -> set[Layout]:
        """Where others look for how the hosts are reached."""
        return {self._home, *(host.folder.layout for host in self._hosts)}

    def _write_facts(self) -> None:
        """Say how the hosts are reached; the token is only in the file that was asked for."""
        open_facts: dict[str, object] = {
            "base_url": self._hosts[0].base_url,
            "simulator_url": self._carrier.url,
            "pid": os.getpid(),
            "hosts": [
                {
                    "name": host.name,
                    "base_url": host.base_url,
                    "pid": child.pid,
                    "data": str(host.settings.host.data),
                }
                for host, child in zip(self._hosts, self._seats, strict=True)
            ],
        }
        for layout in self._told():
            # A folder that was removed is made again before its host is started again.
            with contextlib.suppress(FileNotFoundError):
                durable.write_file(layout.host_facts, _json(open_facts))
        if self._ready_file is not None:
            secret = dataclasses.asdict(self._credentials)
            durable.write_file(self._ready_file, _json(open_facts | secret))


def _plan(host: LocalHost, *, is_alone: bool) -> ChildPlan:
    layout = host.folder.layout
    lock_fds = () if host.folder.lock is None else (host.folder.lock.descriptor,)
    return ChildPlan(
        name="host" if is_alone else f"host {host.name!r}",
        argv=(
            *supervise.PROGRAM, "host", "--settings", str(layout.settings),
            "--ready-file", str(layout.run / "host.ready"), "--is-locked",
            "--http-fd", str(host.listener.fileno()), DEATH_PIPE_FLAG,
        ),
        ready_file=layout.run / "host.ready",
        pass_fds=(host.listener.fileno(), *lock_fds),
        prepare=functools.partial(prepare, host),
    )  # fmt: skip


def _simulator_plan(carrier: CarrierSettings, home: Layout) -> ChildPlan:
    return ChildPlan(
        name="simulator",
        argv=(
            *supervise.PROGRAM, "simulator", "--http", str(carrier.simulator_http),
            "--data", str(home.simulator), "--ready-file", str(home.run / "simulator.ready"),
            DEATH_PIPE_FLAG,
        ),
        ready_file=home.run / "simulator.ready",
    )  # fmt: skip


def _say(text: str) -> None:
    sys.stderr.write(f"trunkline: {text}\n")
    sys.stderr.flush()


def _json(facts: Mapping[str, object]) -> bytes:
    return json.dumps(facts, indent=1).encode() + b"\n"
