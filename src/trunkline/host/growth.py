"""One host's data become those of a new cluster's hosts: from a backup of the one, on each of the new.

`prepare` turns a restored folder into that of a host of the cluster: account, numbers, records and
read copy stay. The log cannot stay where it is, because an engine of a cluster would erase it; the
first host of the list sets it aside in `grow/`, and `bring_in` carries it over at the first start,
from an engine of its own. The other hosts wait until all of it is there.
"""

import asyncio
import contextlib
import random
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from trunkline.host import durable
from trunkline.host import format as data_format
from trunkline.host.config import Settings
from trunkline.host.engine_child import ENGINE_RESTART_BASE_S, ENGINE_RESTART_CAP_S, EngineChild
from trunkline.host.engine_conf import EnginePlan
from trunkline.host.format import Place
from trunkline.host.layout import Layout
from trunkline.host.refusal import EngineError
from trunkline.host.roster import REPLICAS
from trunkline.kernel import Backoff, Clock
from trunkline.log.engines.jetstream.carry_over import Asker, LogExists, carry_over, is_complete
from trunkline.log.engines.jetstream.connection import Connection
from trunkline.log.interface import LogUnavailable

log: Final = structlog.get_logger(__name__)


def prepare(layout: Layout, place: Place, *, brings_log: bool) -> None:
    """Of a folder of one host alone that nobody works in. Of several such, one brings the log."""
    found = data_format.read(layout)
    if found is None:
        raise EngineError(f"{layout.data} is no data folder", "restore a backup")
    durable.make_folder(layout.grow)
    if brings_log:
        layout.log.rename(layout.grow / layout.log.name)
    else:
        shutil.rmtree(layout.log)
    data_format.write(layout, data_format.in_cluster(found, place))


async def bring_in(
    settings: Settings, layout: Layout, target: Connection, *, clock: Clock, rng: random.Random
) -> None:
    """Have the log that was set aside in the cluster, if one was. Repeating it goes on with it.

    Raises `LogUnavailable` while it is not all there, and `EngineError` if it can never be.
    """
    if not layout.grow.is_dir():
        return
    asker = Asker(target, f"grow.{rng.getrandbits(64):016x}")
    if not await is_complete(asker):
        if not (layout.grow / layout.log.name).is_dir():
            first = settings.cluster.hosts[0].name
            raise LogUnavailable(f"{first} has not brought the log in yet")
        log.info("cluster.log_coming")
        try:
            async with _alone(settings, layout, clock=clock, rng=rng) as source:
                await carry_over(source, asker, replicas=REPLICAS, begun=_Notes(layout.grow))
        except* LogExists:
            raise EngineError(
                "the cluster has a log of its own already, and this host brings another one",
                "stop all hosts, and restore the same backup on each into a new folder",
            ) from None
        log.info("cluster.log_brought")
    await asyncio.to_thread(shutil.rmtree, layout.grow)


@dataclass(frozen=True, slots=True)
class _Notes:
    """What was begun, as empty files beside the log that is brought in."""

    folder: Path

    def has(self, stream: str) -> bool:
        return (self.folder / f"begun-{stream}").exists()

    def note(self, stream: str) -> None:
        durable.write_file(self.folder / f"begun-{stream}", b"")


@contextlib.asynccontextmanager
async def _alone(
    settings: Settings, layout: Layout, *, clock: Clock, rng: random.Random
) -> AsyncIterator[Asker]:
    """An engine on the log that was set aside, which nobody else knows of."""
    run: Path = layout.grow / "run"
    durable.make_folder(run)
    plan = EnginePlan(
        name=f"{settings.host.name}-before",
        program=settings.host.nats_server,
        store=layout.grow / layout.log.name,
        run=run,
        log_bytes_max=settings.log.bytes_max,
    )
    backoff = Backoff(ENGINE_RESTART_BASE_S, ENGINE_RESTART_CAP_S, rng)
    child = EngineChild(plan, clock=clock, backoff=backoff, notify=lambda _: None)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(child.run())
        try:
            await child.ready.wait()
            connection = Connection(child.url, child.token, clock=clock)
            async with connected(connection):
                yield Asker(connection, f"grow.{rng.getrandbits(64):016x}")
        finally:
            child.stop()


@contextlib.asynccontextmanager
async def connected(connection: Connection) -> AsyncIterator[Connection]:
    """Raises `LogUnavailable` if there is nobody at first."""
    await connection.open()
    try:
        async with asyncio.TaskGroup() as tasks:
            keeping_up = tasks.create_task(connection.run())
            try:
                yield connection
            finally:
                keeping_up.cancel()
    finally:
        connection.close()
