"""A host, from its data folder to served requests and back: what the process of a host does.

Order is everything here. The format is checked and the folder locked before the engine starts; the
copy has caught up before anything is served; on the way out services drain before what they lean
on ends, and the engine goes last.
"""

import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Final

import prometheus_client
import structlog
import uvloop

from trunkline.host import data_folder, durable, listen, logs
from trunkline.host import format as data_format
from trunkline.host.birth import BIRTH_DEADLINE_S, CLUSTER_BIRTH_DEADLINE_S, give_birth
from trunkline.host.cluster_secret import Purpose
from trunkline.host.config import Settings
from trunkline.host.context import Context
from trunkline.host.copies import Copies
from trunkline.host.data_folder import DataFolder, seat_of
from trunkline.host.engine import Door, open_door, open_engine
from trunkline.host.engine_cluster import EngineCluster, cluster_of
from trunkline.host.entropy import BufferedEntropy
from trunkline.host.give_way import coming_back
from trunkline.host.groups import Groups
from trunkline.host.layout import Layout
from trunkline.host.not_ready import saying_so
from trunkline.host.quorum import Stopped
from trunkline.host.refusal import DataFolderError, EngineError, HostError
from trunkline.host.serving import serve
from trunkline.kernel import SystemClock
from trunkline.log.author import Author
from trunkline.log.interface import LogUnavailable, RetainedLog
from trunkline.replica.restore import CopyLost, make_ready

log: Final = structlog.get_logger(__name__)


def run_host(
    settings: Settings, *, ready_file: Path, is_locked: bool = False, has_stepped_back: bool = False
) -> int:
    """Run a whole host until SIGTERM or SIGINT; the exit code. Raises `HostError`s before it serves.

    `is_locked` says that the parent process holds the data folder's lock for us; `has_stepped_back`,
    that this process gives way to others until it is ready (`give_way.step_back`).
    """
    seat = seat_of(settings)
    cluster = None if seat is None else cluster_of(settings, seat.secret)
    folder = data_folder.open_folder(
        settings.host.data, entropy=secrets.token_bytes, is_locked=is_locked, seat=seat
    )
    try:
        host = _Process(settings, folder.layout, ready_file, has_stepped_back=has_stepped_back)
        return _run(settings, lambda: host.run_host(folder, cluster))
    finally:
        folder.release()


def run_group(
    settings: Settings, names: Sequence[str], *, ready_file: Path, has_stepped_back: bool = False
) -> int:
    """Run some services of a host whose parent process keeps the engine; the exit code."""
    layout = Layout(settings.host.data)
    group = _Process(settings, layout, ready_file, has_stepped_back=has_stepped_back)
    return _run(settings, lambda: group.run_group(names))


def _run(settings: Settings, main: Callable[[], Awaitable[int]]) -> int:
    logs.configure(
        settings.host.log_level, host=settings.host.name, is_terminal=sys.stderr.isatty()
    )
    failures: list[BaseException] = []
    exit_code = 1

    async def awaited() -> int:
        return await main()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            exit_code = runner.run(awaited())
    except* HostError as refusals:
        failures.append(_first(refusals))
    except* LogUnavailable as unavailable:
        reason = str(_first(unavailable))
        mend = "see run/nats.log in the data folder, and restore a backup if its files are damaged"
        failures.append(EngineError(reason, mend))
    except* CopyLost as lost:
        failures.append(_lost(_first(lost)))
    if failures:
        raise failures[0]
    return exit_code


def _lost(lost: BaseException) -> HostError:
    return DataFolderError(
        f"there is no read copy to serve from: {lost}; no snapshot fits the log, no other host has "
        "given one, and the log is trimmed, so serving would hide finished messages",
        "in a cluster, start this host again when another one is ready; on a host alone, put the "
        "newest backup in place with 'trunkline restore', and leave this folder as it is",
    )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first cause in groups of groups: a task group wraps what its tasks raise."""
    cause: BaseException = group
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause


class _Process:
    """One process: its clock, its stop request, and what it tells when it is ready."""

    def __init__(
        self, settings: Settings, layout: Layout, ready_file: Path, *, has_stepped_back: bool
    ) -> None:
        self._settings = settings
        self._layout = layout
        self._ready_file = ready_file
        self._clock = SystemClock()
        self._entropy = BufferedEntropy()
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311 - jitter
        self._stop = asyncio.Event()
        self._is_ready = asyncio.Event()
        self._has_stepped_back = has_stepped_back
        self._exit_code = 0

    async def run_host(self, folder: DataFolder, cluster: EngineCluster | None) -> int:
        """The exit code; one that was stopped while it waited for other hosts did as it was told."""
        self._listen_to_signals()
        listener = listen.api_listener(self._settings.host.http, self._settings.http_fd)
        http = listen.address_of(listener)  # with the port that the system chose for 0
        self._settings = replace(self._settings, host=replace(self._settings.host, http=http))
        if cluster is not None and cluster.hosts % 2 == 0:
            log.warning("cluster.even", hosts=cluster.hosts, as_safe_as=cluster.hosts - 1)
        try:
            async with self._coming_back():
                await self._run_host(folder, cluster, listener)
        except* Stopped:
            log.info("host.stopped_waiting")
        return self._exit_code

    async def _run_host(
        self, folder: DataFolder, cluster: EngineCluster | None, listener: socket.socket
    ) -> None:
        async with open_engine(
            self._settings,
            self._layout,
            cluster=cluster,
            clock=self._clock,
            rng=self._rng,
            stop=self._stop,
            on_moved=self._give_up,
        ) as engine:
            within_s = BIRTH_DEADLINE_S if cluster is None else CLUSTER_BIRTH_DEADLINE_S
            await self._give_birth(engine, folder, within_s)
            await self._serve_all(engine, folder.format.cluster, listener)

    async def _give_birth(self, engine: RetainedLog, folder: DataFolder, within_s: float) -> None:
        """Raises `Stopped`: a shard without a leader is waited for, and its hosts may be stopping."""
        author = Author(self._settings.host.name, self._clock, self._entropy)
        birth = give_birth(engine, folder.credentials, author=author, within_s=within_s)
        async with asyncio.TaskGroup() as tasks:
            giving, stopping = tasks.create_task(birth), tasks.create_task(self._stop.wait())
            await asyncio.wait((giving, stopping), return_when=asyncio.FIRST_COMPLETED)
            giving.cancel()  # does nothing to one that is done
            stopping.cancel()
        if giving.cancelled():
            raise Stopped

    async def _make_ready(self, engine: RetainedLog, cluster: str, listener: socket.socket) -> None:
        """A copy for the groups to serve from."""
        context = self._context(engine, cluster)
        async with contextlib.AsyncExitStack() as stack:
            copies = Copies(context, stack)
            await stack.enter_async_context(saying_so(listener if copies.peers else None))
            await make_ready(engine, self._layout.replica, cluster, copies.refill)

    async def run_group(self, names: Sequence[str]) -> int:
        self._listen_to_signals()
        found = data_format.read(self._layout)
        if found is None:
            raise DataFolderError(
                f"{self._layout.data} is not a data folder", "start the host with 'trunkline up'"
            )
        listener = None
        if "api" in names:
            listener = listen.api_listener(self._settings.host.http, self._settings.http_fd)
        async with (
            self._coming_back(),
            open_door(Door.find(self._layout), clock=self._clock, rng=self._rng) as engine,
        ):
            context = self._context(engine, found.cluster)
            await serve(context, names, listener=listener, stop=self._stop, on_ready=self._on_ready)
        return self._exit_code

    async def _serve_all(self, engine: RetainedLog, cluster: str, listener: socket.socket) -> None:
        """Serve the first group here, and have each of the others served by a child."""
        own, *others = self._settings.host.groups
        if "projector" not in own:
            await self._make_ready(engine, cluster, listener)
        serving = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            groups = None
            if others:
                groups = Groups(
                    others,
                    self._settings,
                    self._layout,
                    listener,
                    clock=self._clock,
                    rng=self._rng,
                )
                tasks.create_task(groups.run(self._stop))
            telling = tasks.create_task(self._tell_when_ready(serving, groups))
            await serve(
                self._context(engine, cluster),
                own,
                listener=listener,
                stop=self._stop,
                on_ready=serving.set,
            )
            telling.cancel()

    async def _tell_when_ready(self, serving: asyncio.Event, groups: Groups | None) -> None:
        await serving.wait()
        if groups is not None:
            await groups.until_ready()
        self._on_ready()

    def _coming_back(self) -> AbstractAsyncContextManager[None]:
        if not self._has_stepped_back:
            return contextlib.nullcontext()
        return coming_back(self._is_ready, self._clock)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    def _context(self, engine: RetainedLog, cluster: str) -> Context:
        seat = seat_of(self._settings)
        return Context(
            settings=self._settings,
            layout=self._layout,
            cluster=cluster,
            log=engine,
            clock=self._clock,
            entropy=self._entropy,
            rng=self._rng,
            registry=prometheus_client.CollectorRegistry(),
            peer_token=None if seat is None else seat.secret.derive(Purpose.HOST_TO_HOST),
            former_peer_tokens=() if seat is None else seat.secret.former(Purpose.HOST_TO_HOST),
        )

    def _on_ready(self) -> None:
        log.info("host.ready", base_url=self._settings.host.http.url)
        self._is_ready.set()
        facts = {"pid": os.getpid(), "base_url": self._settings.host.http.url}
        durable.write_file(self._ready_file, json.dumps(facts).encode())

    def _give_up(self) -> None:
        """Stop, and let our parent start a new process, which finds the engine where it is now."""
        self._exit_code = 1
        self._stop.set()
