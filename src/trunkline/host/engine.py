"""The host's log, with the engine behind it watched over for as long as it is open."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, assert_never

import structlog

from trunkline.host import durable, storage
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
from trunkline.host.engine_conf import DISK_RESERVE_BYTES, EnginePlan
from trunkline.host.engine_words import EngineWords
from trunkline.host.layout import Layout
from trunkline.kernel import Backoff, Clock
from trunkline.log.engines.jetstream import open_jetstream
from trunkline.log.engines.memory import MemoryLog
from trunkline.log.interface import RetainedLog

log: Final = structlog.get_logger(__name__)

LISTEN_EVERY_S: Final = 1.0
WRITE_FAILED: Final = "critical write error"
"""How the engine says that a shard takes nothing more until it is started anew."""


@dataclass(frozen=True, slots=True)
class Door:
    """How another process of this host reaches the engine; a secret, kept in a file of mode 0600."""

    url: str
    token: str
    bytes_max: int
    store: str

    def leave(self, layout: Layout) -> None:
        durable.write_file(layout.engine_door, json.dumps(asdict(self)).encode())

    @classmethod
    def find(cls, layout: Layout) -> "Door":
        found = json.loads(layout.engine_door.read_bytes())
        return cls(
            str(found["url"]), str(found["token"]), int(found["bytes_max"]), str(found["store"])
        )


@contextlib.asynccontextmanager
async def open_engine(
    settings: Settings,
    layout: Layout,
    *,
    clock: Clock,
    rng: random.Random,
    on_moved: Callable[[], None],
) -> AsyncIterator[RetainedLog]:
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
            door = Door(child.url, child.token, child.store_bytes, str(layout.log))
            door.leave(layout)
            async with open_door(
                door, clock=clock, rng=rng, is_born=layout.log_birth.exists()
            ) as engine:
                durable.write_file(layout.log_birth, b"")
                listening = tasks.create_task(_listen(child, layout, clock))
                yield engine
                listening.cancel()
        finally:
            child.stop()


@contextlib.asynccontextmanager
async def open_door(
    door: Door, *, clock: Clock, rng: random.Random, is_born: bool = True
) -> AsyncIterator[RetainedLog]:
    """The log of an engine that this process or another one of this host watches over."""
    store = Path(door.store)
    async with open_jetstream(
        [door.url],
        door.token,
        clock=clock,
        rng=rng,
        bytes_max=door.bytes_max,
        is_born=is_born,
        has_room=lambda: storage.free_bytes(store) >= DISK_RESERVE_BYTES,
    ) as engine:
        yield engine


async def _listen(child: EngineChild, layout: Layout, clock: Clock) -> None:
    """Until cancelled: pass on what the engine complains of; and replace it when there is room
    again after a write of it failed, because it does not take such a shard up again by itself."""
    words = EngineWords(layout.run / "nats.log")
    is_sick = False
    while True:
        for severity, text in words.new():
            if severity == "WRN":
                log.warning("engine.said", text=text)
            else:
                log.error("engine.said", text=text)
            is_sick = is_sick or WRITE_FAILED in text.lower()
        if is_sick and storage.free_bytes(layout.log) >= 2 * DISK_RESERVE_BYTES:
            log.warning("engine.replaced", reason="a write failed, and there is room again")
            is_sick = False
            child.replace()
        await clock.sleep(LISTEN_EVERY_S)


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
