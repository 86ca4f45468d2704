"""The host's log, with the engine behind it watched over for as long as it is open."""

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, assert_never

import structlog

from trunkline.host import durable, growth, storage
from trunkline.host.ablations import parts_of
from trunkline.host.config import Settings
from trunkline.host.engine_child import (
    ENGINE_RESTART_BASE_S,
    ENGINE_RESTART_CAP_S,
    EngineChild,
    EngineDied,
    EngineMoved,
    EngineNews,
    EngineReady,
)
from trunkline.host.engine_cluster import EngineCluster, TlsFiles
from trunkline.host.engine_conf import DISK_RESERVE_BYTES, EnginePlan
from trunkline.host.engine_words import EngineWords, Refusal, is_of_recovery, refusal_in
from trunkline.host.layout import Layout
from trunkline.host.quorum import Waiting
from trunkline.host.roster import REPLICAS
from trunkline.kernel import Backoff, Clock
from trunkline.log.engines.jetstream import open_jetstream
from trunkline.log.engines.jetstream.connection import Connection
from trunkline.log.engines.memory import MemoryLog
from trunkline.log.interface import LogUnavailable, RetainedLog, ShardMissing

log: Final = structlog.get_logger(__name__)

LISTEN_EVERY_S: Final = 1.0
REFUSAL_EVERY_S: Final = 60.0
REFUSALS_KNOWN_MAX: Final = 100
WRITE_FAILED: Final = "critical write error"
"""How the engine says that a shard takes nothing more until it is started anew."""


@dataclass(frozen=True, slots=True)
class Door:
    """How another process of this host reaches the engine; a secret, kept in a file of mode 0600.
    `urls` are those of every engine of the cluster, this host's own first; `tls` are the files for
    a connection to them, or empty; `positions` is the file for how far services are; `former` are
    shown to an engine that refuses the token."""

    urls: tuple[str, ...]
    token: str
    bytes_max: int
    store: str
    positions: str
    replicas: int = 1
    tls: tuple[str, ...] = ()
    former: tuple[str, ...] = ()

    def leave(self, layout: Layout) -> None:
        durable.write_file(layout.engine_door, json.dumps(asdict(self)).encode())

    def tls_context(self) -> ssl.SSLContext | None:
        return TlsFiles(*map(Path, self.tls)).context() if self.tls else None

    @classmethod
    def find(cls, layout: Layout) -> "Door":
        found = json.loads(layout.engine_door.read_bytes())
        return cls(
            tuple(map(str, found["urls"])),
            str(found["token"]),
            int(found["bytes_max"]),
            str(found["store"]),
            str(found["positions"]),
            int(found["replicas"]),
            tuple(map(str, found["tls"])),
            tuple(map(str, found["former"])),
        )

    @classmethod
    def to(cls, child: EngineChild, cluster: EngineCluster | None, layout: Layout) -> "Door":
        """To the engine `child`, and to its peers in the cluster."""
        store, positions = str(layout.log), str(layout.positions)
        if cluster is None:
            return cls((child.url,), child.token, child.store_bytes, store, positions)
        files = cluster.tls
        return cls(
            (child.url, *(f"nats://{member.log}" for member in cluster.peers)),
            child.token,
            child.store_bytes,
            store,
            positions,
            REPLICAS,
            () if files is None else (str(files.cert), str(files.key), str(files.ca)),
            cluster.former_tokens,
        )


@contextlib.asynccontextmanager
async def open_engine(
    settings: Settings,
    layout: Layout,
    *,
    cluster: EngineCluster | None,
    clock: Clock,
    rng: random.Random,
    stop: asyncio.Event,
    on_moved: Callable[[], None],
) -> AsyncIterator[RetainedLog]:
    """The log; its engine is ended on leaving. Raises `EngineError` if it does not start.

    In a cluster it waits for a majority of hosts, for as long as it takes; raises `Stopped` if
    `stop` is set meanwhile. `on_moved` is called when the engine had to change its port: this
    process cannot follow it.
    """
    if settings.host.ephemeral:
        yield MemoryLog(clock=clock)
        return
    parts = parts_of(settings.host.break_protection, settings.host.data)
    plan = EnginePlan(
        name=settings.host.name,
        program=settings.host.nats_server,
        store=layout.log,
        run=layout.run,
        log_bytes_max=settings.log.bytes_max,
        monitor_http=settings.log.monitor_http,
        cores=settings.log.cores,
        cluster=cluster,
        is_flushed=parts.is_flushed,
        is_watched=parts.is_watched,
    )
    child = EngineChild(
        plan,
        clock=clock,
        backoff=Backoff(ENGINE_RESTART_BASE_S, ENGINE_RESTART_CAP_S, rng),
        notify=lambda news: _tell(news, on_moved),
    )
    waiting = None if cluster is None else Waiting(cluster, clock, stop)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(child.run())
        listening = tasks.create_task(_listen(child, layout, clock))
        try:
            await child.ready.wait()
            if waiting is not None:
                await waiting.until_led(child.tls)
            door = Door.to(child, cluster, layout)
            door.leave(layout)

            async def before() -> None:
                connection = Connection(child.url, child.token, clock=clock, tls=child.tls)
                async with growth.connected(connection):
                    await growth.bring_in(settings, layout, connection, clock=clock, rng=rng)

            async with _open_at_last(
                door,
                waiting,
                clock=clock,
                rng=rng,
                is_born=layout.log_birth.exists(),
                before=before if layout.grow.is_dir() else None,
            ) as engine:
                durable.write_file(layout.log_birth, b"")
                yield engine
        finally:
            listening.cancel()
            child.stop()


@contextlib.asynccontextmanager
async def _open_at_last(
    door: Door,
    waiting: Waiting | None,
    *,
    clock: Clock,
    rng: random.Random,
    is_born: bool,
    before: Callable[[], Awaitable[None]] | None,
) -> AsyncIterator[RetainedLog]:
    """As `open_door`, but in a cluster a log that is not there yet is waited for: its shards elect
    their leaders one by one. One that has lost a shard is not. What must be done `before` is tried
    again with it."""
    async with contextlib.AsyncExitStack() as stack:
        engine: RetainedLog | None = None
        while engine is None:
            reason = ""
            opening = open_door(door, clock=clock, rng=rng, is_born=is_born)
            try:
                if before is not None:
                    await before()
                engine = await stack.enter_async_context(opening)
            except* LogUnavailable as failures:
                if waiting is None or failures.subgroup(ShardMissing) is not None:
                    raise
                reason = str(_first(failures))
            if engine is None and waiting is not None:
                await waiting.for_log(reason, door.tls_context(), is_born=is_born)
        if waiting is not None:
            waiting.done()
        yield engine


@contextlib.asynccontextmanager
async def open_door(
    door: Door, *, clock: Clock, rng: random.Random, is_born: bool = True
) -> AsyncIterator[RetainedLog]:
    """The log of an engine that this process or another one of this host watches over."""
    store = Path(door.store)
    async with open_jetstream(
        door.urls,
        door.token,
        former=door.former,
        clock=clock,
        rng=rng,
        replicas=door.replicas,
        bytes_max=door.bytes_max,
        is_born=is_born,
        has_room=lambda: storage.free_bytes(store) >= DISK_RESERVE_BYTES,
        tls=door.tls_context(),
        positions=Path(door.positions),
    ) as engine:
        yield engine


@contextlib.asynccontextmanager
async def open_door_to_read(
    door: Door, *, clock: Clock, rng: random.Random
) -> AsyncIterator[RetainedLog]:
    """The same for who only looks: it notes no positions, which are those of the host's services."""
    async with open_jetstream(
        door.urls,
        door.token,
        former=door.former,
        clock=clock,
        rng=rng,
        replicas=door.replicas,
        bytes_max=door.bytes_max,
        is_born=True,
        tls=door.tls_context(),
    ) as engine:
        yield engine


def _first(group: BaseExceptionGroup[LogUnavailable]) -> BaseException:
    cause: BaseException = group
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause


async def _listen(child: EngineChild, layout: Layout, clock: Clock) -> None:
    """Until cancelled: pass on what the engine complains of; and replace it when there is room
    again after a write of it failed, because it does not take such a shard up again by itself."""
    words = EngineWords(layout.run / "nats.log")
    refusals: dict[Refusal, float] = {}
    is_sick = False
    while True:
        for severity, text in words.new():
            refusal = refusal_in(text)
            if refusal is not None:
                _tell_of(refusal, refusals, clock.monotonic())
            elif is_of_recovery(text):
                log.debug("engine.said", text=text)
            elif severity == "WRN":
                log.warning("engine.said", text=text)
            else:
                log.error("engine.said", text=text)
            is_sick = is_sick or WRITE_FAILED in text.lower()
        if is_sick and storage.free_bytes(layout.log) >= 2 * DISK_RESERVE_BYTES:
            log.warning("engine.replaced", reason="a write failed, and there is room again")
            is_sick = False
            child.replace()
        await clock.sleep(LISTEN_EVERY_S)


def _tell_of(refusal: Refusal, told_at: dict[Refusal, float], now: float) -> None:
    """Say it once a minute: a host with another secret comes back every second."""
    if now < told_at.get(refusal, -REFUSAL_EVERY_S) + REFUSAL_EVERY_S:
        return
    while len(told_at) >= REFUSALS_KNOWN_MAX:
        told_at.pop(next(iter(told_at)))
    told_at[refusal] = now
    log.error("cluster.refused", peer=refusal.peer, is_host=refusal.is_host)


def _tell(news: EngineNews, on_moved: Callable[[], None]) -> None:
    match news:
        case EngineReady(pid=pid):
            log.info("engine.ready", engine_pid=pid)
        case EngineDied(pid=pid, exit_code=exit_code, restart_in_s=wait_s):
            log.warning(
                "engine.died", engine_pid=pid, exit_code=exit_code, restart_in_s=round(wait_s, 3)
            )
        case EngineMoved():
            log.error("engine.moved")
            on_moved()
        case other:
            assert_never(other)
