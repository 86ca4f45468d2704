"""The host's log, with the engine behind it watched over for as long as it is open."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from typing import Final, assert_never

import structlog

from trunkline.host import durable
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
from trunkline.host.engine_conf import EnginePlan
from trunkline.host.layout import Layout
from trunkline.kernel import Backoff, Clock
from trunkline.log.engines.jetstream import open_jetstream
from trunkline.log.engines.memory import MemoryLog
from trunkline.log.interface import Log

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Door:
    """How another process of this host reaches the engine; a secret, kept in a file of mode 0600."""

    url: str
    token: str
    bytes_max: int

    def leave(self, layout: Layout) -> None:
        durable.write_file(layout.engine_door, json.dumps(asdict(self)).encode())

    @classmethod
    def find(cls, layout: Layout) -> "Door":
        found = json.loads(layout.engine_door.read_bytes())
        return cls(str(found["url"]), str(found["token"]), int(found["bytes_max"]))


@contextlib.asynccontextmanager
async def open_engine(
    settings: Settings,
    layout: Layout,
    *,
    clock: Clock,
    rng: random.Random,
    on_moved: Callable[[], None],
) -> AsyncIterator[Log]:
    """The log; its engine is ended on leaving. Raises `EngineError` if it does not start.

    `on_moved` is called when the engine had to change its port: this process cannot follow it.
    """
    if settings.host.ephemeral:
        yield MemoryLog(clock=clock)
        return
    plan = EnginePlan(
        name=settings.host.name,
        program=settings.host.nats_server,
        store=layout.log,
        run=layout.run,
        log_bytes_max=settings.log.bytes_max,
        monitor_http=settings.log.monitor_http,
    )
    child = EngineChild(
        plan,
        clock=clock,
        backoff=Backoff(ENGINE_RESTART_BASE_S, ENGINE_RESTART_CAP_S, rng),
        notify=lambda news: _tell(news, on_moved),
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(child.run())
        try:
            await child.ready.wait()
            door = Door(child.url, child.token, child.store_bytes)
            door.leave(layout)
            async with open_door(door, clock=clock, rng=rng) as engine:
                yield engine
        finally:
            child.stop()


@contextlib.asynccontextmanager
async def open_door(door: Door, *, clock: Clock, rng: random.Random) -> AsyncIterator[Log]:
    """The log of an engine that another process of this host watches over."""
    async with open_jetstream(
        door.url, door.token, clock=clock, rng=rng, bytes_max=door.bytes_max
    ) as engine:
        yield engine


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
