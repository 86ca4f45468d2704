"""`trunkline up`: the parent of a simulated carrier and of a host, in which nothing heavy happens.

The parent holds the data folder's lock and the API's listener and hands both down, so a host
process can be replaced without a refused connection. If the parent is killed, its children end.
"""

import asyncio
import dataclasses
import json
import os
import random
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from trunkline.host import config, durable, listen, supervise
from trunkline.host.banner import banner, program_words
from trunkline.host.config import Settings
from trunkline.host.data_folder import DataFolder, open_folder
from trunkline.host.engine_conf import find_program
from trunkline.host.refusal import ChildError, ConfigError, DataFolderError
from trunkline.host.supervise import Child, ChildDied, ChildNews, ChildPlan, ChildReady
from trunkline.kernel import Backoff, Clock, SystemClock

SIMULATOR_STOP_S: Final = 2.0
HOST_SETTLE_S: Final = 5.0
"""What a host may take behind its drain: to cancel what was not finished and end its engine."""
DEATH_PIPE_FLAG: Final = "--die-with-parent"
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_up(settings: Settings, *, ready_file: Path | None) -> int:
    """Run everything until a stop signal; the exit code. Raises `HostError`s before it is ready."""
    if ready_file is not None:
        _require_writable(ready_file)
    if not settings.host.ephemeral:
        return _run_on(settings, ready_file)
    folder = Path(tempfile.mkdtemp(prefix="trunkline-"))
    try:
        host = dataclasses.replace(settings.host, data=folder)
        return _run_on(dataclasses.replace(settings, host=host), ready_file)
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


def _run_on(settings: Settings, ready_file: Path | None) -> int:
    if not settings.host.ephemeral:
        find_program(settings.host.nats_server)
    folder = open_folder(settings.host.data, entropy=secrets.token_bytes)
    try:
        with listen.open_listener(settings.host.http, setting="--http") as listener:
            is_simulator_ours = not settings.carrier.url
            settings = _resolve(settings, listener)
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)
            folder.layout.host_facts.unlink(missing_ok=True)
            durable.write_file(folder.layout.settings, config.to_json(settings))
            parent = _Parent(
                settings,
                folder,
                listener,
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
    finally:
        folder.release()


def _resolve(settings: Settings, listener: socket.socket) -> Settings:
    """The settings with free ports in place of 0, and with the carrier's address."""
    host = dataclasses.replace(settings.host, http=listen.address_of(listener))
    carrier = settings.carrier
    if not carrier.url:
        # A port of its own choice would be another one after a restart of the simulator.
        http = listen.free_address(carrier.simulator_http, setting="--simulator-http")
        carrier = dataclasses.replace(carrier, simulator_http=http, url=http.url)
        return dataclasses.replace(settings, host=host, carrier=carrier)
    return dataclasses.replace(settings, host=host)


@dataclass(frozen=True, slots=True)
class _Plans:
    host: ChildPlan
    simulator: ChildPlan | None


class _Parent:
    """The running parent: its children, the stop request, and what it tells the outside."""

    def __init__(
        self,
        settings: Settings,
        folder: DataFolder,
        listener: socket.socket,
        *,
        ready_file: Path | None,
        clock: Clock,
        is_simulator_ours: bool,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._listener = listener
        self._ready_file = ready_file
        self._clock = clock
        self._stop = asyncio.Event()
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311 - jitter
        plans = _plans(settings, folder, listener, is_simulator_ours=is_simulator_ours)
        self._host = self._child(plans.host)
        self._simulator = None if plans.simulator is None else self._child(plans.simulator)
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
        except* ChildError as group_of_errors:
            failures += group_of_errors.exceptions
        if failures:
            raise failures[0]
        return 0 if is_clean else 1

    def _child(self, plan: ChildPlan) -> Child:
        backoff = Backoff(supervise.CHILD_RESTART_BASE_S, supervise.CHILD_RESTART_CAP_S, self._rng)
        return Child(plan, clock=self._clock, backoff=backoff, notify=self._on_news)

    def _children(self) -> tuple[Child, ...]:
        return (self._host,) if self._simulator is None else (self._host, self._simulator)

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
        text = banner(
            base_url=self._base_url,
            carrier_url=self._settings.carrier.url,
            is_simulator_ours=self._simulator is not None,
            credentials=self._folder.credentials,
            data=self._settings.host.data,
            is_ephemeral=self._settings.host.ephemeral,
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
        """The host first, so that what it has in hand can still reach the carrier."""
        self._listener.close()
        host_s = self._settings.host.drain_s + HOST_SETTLE_S
        is_clean = await self._host.stop(within_s=host_s)
        if not is_clean:
            _say(
                f"the host did not finish in {host_s:g} s and was killed; nothing accepted is lost"
            )
        if self._simulator is not None:
            is_clean = await self._simulator.stop(within_s=SIMULATOR_STOP_S) and is_clean
        self._folder.layout.host_facts.unlink(missing_ok=True)
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)
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

    @property
    def _base_url(self) -> str:
        return self._settings.host.http.url

    def _write_facts(self) -> None:
        """Say how this host is reached; the token is only in the file that was asked for."""
        open_facts: dict[str, object] = {
            "base_url": self._base_url,
            "simulator_url": self._settings.carrier.url,
            "pid": os.getpid(),
            "hosts": [
                {
                    "name": self._settings.host.name,
                    "base_url": self._base_url,
                    "pid": self._host.pid,
                    "data": str(self._settings.host.data),
                }
            ],
        }
        durable.write_file(self._folder.layout.host_facts, _json(open_facts))
        if self._ready_file is not None:
            secret = dataclasses.asdict(self._folder.credentials)
            durable.write_file(self._ready_file, _json(open_facts | secret))


def _plans(
    settings: Settings, folder: DataFolder, listener: socket.socket, *, is_simulator_ours: bool
) -> _Plans:
    layout = folder.layout
    lock_fds = () if folder.lock is None else (folder.lock.descriptor,)
    host = ChildPlan(
        name="host",
        argv=(
            *supervise.PROGRAM, "host", "--settings", str(layout.settings),
            "--ready-file", str(layout.run / "host.ready"), "--is-locked",
            "--http-fd", str(listener.fileno()), DEATH_PIPE_FLAG,
        ),
        ready_file=layout.run / "host.ready",
        pass_fds=(listener.fileno(), *lock_fds),
    )  # fmt: skip
    if not is_simulator_ours:
        return _Plans(host, None)
    simulator = ChildPlan(
        name="simulator",
        argv=(
            *supervise.PROGRAM, "simulator", "--http", str(settings.carrier.simulator_http),
            "--data", str(layout.simulator), "--ready-file", str(layout.run / "simulator.ready"),
            DEATH_PIPE_FLAG,
        ),
        ready_file=layout.run / "simulator.ready",
    )  # fmt: skip
    return _Plans(host, simulator)


def _say(text: str) -> None:
    sys.stderr.write(f"trunkline: {text}\n")
    sys.stderr.flush()


def _json(facts: Mapping[str, object]) -> bytes:
    return json.dumps(facts, indent=1).encode() + b"\n"
