"""Running the services of one process: what they lean on first, then they, and back in reverse."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final

from trunkline.host import collector
from trunkline.host.assemble import Assembly, Service, assemble
from trunkline.host.context import Context
from trunkline.host.not_ready import saying_so
from trunkline.host.refusal import DataFolderError
from trunkline.log.clock_check import can_be_trusted
from trunkline.replica.progress import ends_of, has_reached

CATCH_UP_POLL_S: Final = 0.01


async def serve(
    context: Context,
    names: Sequence[str],
    *,
    listener: socket.socket | None,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
) -> None:
    """Run the services `names` until `stop`; then drain them within the bound, and end the rest. A
    host of a cluster says first that it stops, and hands over what it leads.

    `listener` is where the API is served, in a process that has it; a host of a cluster says there
    that it is not ready, until its copy has caught up. Raises `DataFolderError` for a
    log that only a newer version can read; one that becomes so later is held still, and not ready.
    """
    caught_up = asyncio.Event()
    newer: list[str] = []

    def readiness() -> list[str]:
        log = context.log
        shards = range(log.shards)
        is_full = all(log.is_nearly_full(shard) for shard in shards)
        is_clock_off = not any(can_be_trusted(log.clock_off_s(shard)) for shard in shards)
        return [
            *([] if caught_up.is_set() and not assembly.progress.is_held else ["replica"]),
            *(["draining"] if stop.is_set() else []),
            *([] if assembly.part is None or assembly.part.is_connected else ["majority"]),
            *([] if log.is_connected else ["log"]),
            *(["room"] if is_full else []),
            *(["clock"] if is_clock_off else []),
        ]

    turned_away = None if context.peer_token is None else listener
    async with (
        saying_so(turned_away) as end_saying_so,
        assemble(context, names, readiness=readiness, on_newer=newer.append) as assembly,
        asyncio.TaskGroup() as supports,
    ):
        leaning = [supports.create_task(support.run()) for support in assembly.supports]
        await _until_caught_up(context, assembly, stop, newer)
        caught_up.set()
        await end_saying_so()
        await _work(context, assembly, listener, stop, on_ready)
        for task in leaning:
            task.cancel()


async def _work(
    context: Context,
    assembly: Assembly,
    listener: socket.socket | None,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
) -> None:
    parts: list[Service] = list(assembly.services)
    server = None
    if assembly.app is not None and listener is not None:
        from trunkline.host.serve_http import HttpServer  # noqa: PLC0415 - paid for where it is used

        server = HttpServer(assembly.app, listener)
        parts.append(server)
    async with asyncio.TaskGroup() as services:
        working = [services.create_task(part.run()) for part in parts]
        while server is not None and not server.is_serving and not stop.is_set():
            await context.clock.sleep(CATCH_UP_POLL_S)
        collector.settle()
        if assembly.part is not None:
            assembly.part.members.set_ready()
        on_ready()
        await stop.wait()
        if assembly.part is not None:
            await assembly.part.leave(context.clock)
        for part in parts:
            part.drain()
        if working:  # a process may have the projector alone, which is none of them
            await asyncio.wait(working, timeout=context.settings.host.drain_s)
        for task in working:
            task.cancel()


async def _until_caught_up(
    context: Context, assembly: Assembly, stop: asyncio.Event, newer: Sequence[str]
) -> None:
    """The copy holds all that the log held at the start: the first answers are not from the past."""
    ends = None
    while not stop.is_set() and (ends is None or not has_reached(assembly.progress, ends)):
        ends = ends or await ends_of(context.log)
        if newer:
            raise DataFolderError(
                f"the log in {context.layout.data} is of a newer version ({newer[0]})",
                "run the newer version of Trunkline, or restore a backup made by this one",
            )
        await context.clock.sleep(CATCH_UP_POLL_S)
