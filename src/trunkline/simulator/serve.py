"""The simulator as a process: reads its file, listens, says that it is ready, stops when told.

`serve` is the whole life inside an event loop, also for tests; `run` is the process around it.
"""

import asyncio
import contextlib
import gc
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from trunkline.blobs.store import BlobStore
from trunkline.kernel import Clock, SystemClock
from trunkline.simulator.bodies import BadRequest, bad_request, json_response
from trunkline.simulator.exchange import Exchange
from trunkline.simulator.inspection import inspection_routes
from trunkline.simulator.journal import JournalError, open_journal
from trunkline.simulator.media import KEPT_S
from trunkline.simulator.network import Network
from trunkline.simulator.offers import REOFFER_S
from trunkline.simulator.wire import connection_class

BACKLOG_CONNECTIONS_MAX: Final = 2_048
CONNECTIONS_MAX: Final = 4_096
"""Beyond it a request is answered 503 before anything is taken."""
MEDIA_FOLDER: Final = "media"
STOP_DEADLINE_S: Final = 2
KEEP_ALIVE_S: Final = 75
"""An idle connection is closed by us only after any client of ours has dropped it."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to listen (port 0: any) and to write. `seed` makes the dice repeat."""

    host: str
    port: int
    data: Path
    ready_file: Path | None = None
    reoffer_s: float = REOFFER_S
    seed: int | None = None


class SimulatorError(Exception):
    """The simulator cannot run; the text says why and what to do."""


class _Server(uvicorn.Server):
    """Leaves signals to us, and tells when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # uvicorn raises a caught signal again after the stop; a clean stop must exit with 0.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_ready()


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; gives the exit code. Raises `SimulatorError`."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings))


async def _run(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    rng = random.Random(settings.seed)  # noqa: S311 - dice, not secrets

    def ready(url: str) -> None:
        gc.freeze()  # what the file held stays; the collector need not walk it again
        if settings.ready_file is not None:
            write_ready_file(settings.ready_file, url, os.getpid())
        _log.info("simulator.ready", url=url, data=str(settings.data), pid=os.getpid())

    return await serve(settings, clock=SystemClock(), rng=rng, stop=stop, on_ready=ready)


async def serve(
    settings: Settings,
    *,
    clock: Clock,
    rng: random.Random,
    stop: asyncio.Event,
    on_ready: Callable[[str], None],
) -> int:
    """Serve until `stop` is set; `on_ready` is called once with the URL. 1 if the disk failed."""
    listener, url = _listen(settings)
    with contextlib.closing(listener):
        try:
            journal, entries = open_journal(settings.data)
        except (JournalError, OSError) as error:
            raise SimulatorError(f"cannot use {settings.data}: {error}") from error
        failed = asyncio.Event()

        def fail(error: OSError) -> None:
            _log.critical("simulator.journal.failed", path=str(journal.path), error=str(error))
            failed.set()
            stop.set()

        try:
            network = Network(rng=rng, reoffer_s=settings.reoffer_s)
            try:
                for entry in entries:
                    network.apply(entry, now=clock.monotonic(), wall=clock.wall())
            except JournalError as error:
                raise SimulatorError(str(error)) from error
            journal.start(asyncio.get_running_loop(), fail)
            exchange = Exchange(network=network, journal=journal, clock=clock)
            exchange.start(os.getpid())
            media = BlobStore(settings.data / MEDIA_FOLDER)
            await asyncio.to_thread(media.remove_unwanted, clock.wall() - KEPT_S)
            await _serve_until(stop, exchange, media, listener, lambda: on_ready(url))
        finally:
            journal.close()
        return 1 if failed.is_set() else 0


async def _serve_until(
    stop: asyncio.Event,
    exchange: Exchange,
    media: BlobStore,
    listener: socket.socket,
    on_ready: Callable[[], None],
) -> None:
    server = _Server(_config(exchange, media), on_ready)

    async def stop_when_told() -> None:
        await stop.wait()
        exchange.stop()
        server.should_exit = True

    async with asyncio.TaskGroup() as tasks:
        stopping = tasks.create_task(stop_when_told())
        await server.serve(sockets=[listener])
        stopping.cancel()


def application(exchange: Exchange, media: BlobStore) -> Starlette:
    """The inspection API and the page. The wire is served below it, by the connection."""
    return Starlette(
        routes=inspection_routes(exchange, media),
        exception_handlers={BadRequest: bad_request, HTTPException: _no_such_address},
    )


def write_ready_file(path: Path, url: str, pid: int) -> None:
    """One JSON object, seen whole or not at all."""
    partial = path.with_name(f"{path.name}.{pid}.tmp")
    partial.write_text(json.dumps({"simulator_url": url, "pid": pid}) + "\n")
    partial.replace(path)


def _listen(settings: Settings) -> tuple[socket.socket, str]:
    # With protocol 0 asyncio would leave Nagle's algorithm on: 44 ms a request.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise SimulatorError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): "
            "choose another address with --http"
        ) from error
    host, port = listener.getsockname()[:2]
    return listener, f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - compared, never bound


def _config(exchange: Exchange, media: BlobStore) -> uvicorn.Config:
    return uvicorn.Config(
        application(exchange, media),
        http=connection_class(exchange),
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        backlog=BACKLOG_CONNECTIONS_MAX,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_DEADLINE_S,
        server_header=False,
        date_header=False,
    )


async def _no_such_address(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return json_response({"error": f"{error.detail}: {request.url.path}"}, error.status_code)
