"""A host whose services are split over several processes: a child for each group behind the first.

The host's own process keeps the engine, the API's listener and the first group. A child that dies
is started again, and the others do not notice, because all they share is the log and the read copy.
"""

import asyncio
import random
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final, assert_never

import structlog

from trunkline.host import config, durable, metrics, supervise
from trunkline.host.config import Settings
from trunkline.host.layout import Layout
from trunkline.host.supervise import Child, ChildDied, ChildNews, ChildPlan, ChildReady
from trunkline.kernel import Backoff, Clock
from trunkline.log.shards import SHARDS
from trunkline.replica.progress import Progress

log: Final = structlog.get_logger(__name__)

GROUP_SETTLE_S: Final = 2.0
"""What a group may take beyond its drain to close what it had open."""


class Groups:
    """The children of one host: one for each of `groups`. `run` keeps them going until `stop` is
    set."""

    def __init__(
        self,
        groups: Sequence[tuple[str, ...]],
        settings: Settings,
        layout: Layout,
        listener: socket.socket,
        *,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        durable.write_file(layout.settings, config.to_json(settings))
        # What the last run's projector said must not be taken for what the next one has done.
        layout.progress.unlink(missing_ok=True)
        metrics.forget(layout.metrics)
        Progress(layout.progress, shards=SHARDS, clock=clock).close()
        self._drain_s = settings.host.drain_s + GROUP_SETTLE_S
        self._children = [
            Child(
                _plan(names, layout, listener),
                clock=clock,
                backoff=Backoff(supervise.CHILD_RESTART_BASE_S, supervise.CHILD_RESTART_CAP_S, rng),
                notify=_tell,
            )
            for names in groups
        ]

    async def run(self, stop: asyncio.Event) -> None:
        """Raises `ChildError` if one of them cannot start."""
        async with asyncio.TaskGroup() as tasks:
            for child in self._children:
                tasks.create_task(child.run())
            await stop.wait()
            for child in self._children:
                tasks.create_task(_end(child, self._drain_s))

    async def until_ready(self) -> None:
        """Each of them works."""
        for child in self._children:
            await child.ready.wait()


async def _end(child: Child, within_s: float) -> None:
    await child.stop(within_s=within_s)


def _plan(names: tuple[str, ...], layout: Layout, listener: socket.socket) -> ChildPlan:
    name = "-".join(names)
    ready_file: Path = layout.run / f"{name}.ready"
    return ChildPlan(
        name=name,
        argv=(
            *supervise.PROGRAM, "host", "--settings", str(layout.settings),
            "--services", ",".join(names), "--http-fd", str(listener.fileno()),
            "--ready-file", str(ready_file), "--die-with-parent",
        ),
        ready_file=ready_file,
        pass_fds=(listener.fileno(),),
    )  # fmt: skip


def _tell(news: ChildNews) -> None:
    match news:
        case ChildReady(name=name, pid=pid):
            log.info("group.ready", services=name, group_pid=pid)
        case ChildDied(name=name, pid=pid, exit_code=exit_code, restart_in_s=wait_s):
            log.warning(
                "group.died",
                services=name,
                group_pid=pid,
                exit_code=exit_code,
                restart_in_s=round(wait_s, 3),
            )
        case other:
            assert_never(other)
