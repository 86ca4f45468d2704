"""Serving the API on a listener that is already there, under the host's own signal handling."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from trunkline.api.errors import invalid_part
from trunkline.host.whole_answers import WholeAnswers
from trunkline.kernel import CALLER_STATE, TcpCaller

GRACE_S: Final = 5
KEEP_ALIVE_S: Final = 75
"""Longer than clients keep idle connections, so that it is they who close them."""

ACCEPTS_PER_TURN_MAX: Final = 16
"""The event loop accepts one connection a turn of each listener it has (libuv, since 1.45). Under load a
turn takes 30 ms, and 30 new connections a second is less than clients without keep-alive need. So it
is given the one listener this many times over; what finds nothing to accept costs a microsecond."""


class _QuietServer(uvicorn.Server):
    """A server that leaves signals to the host."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Connection(HttpToolsProtocol):
    """One that lets the application see whether its client still waits, and that refuses what is no
    HTTP in the shape in which the application refuses."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        self._caller = TcpCaller(transport.get_extra_info("socket"))
        self._answers = WholeAnswers(transport)
        self.transport = self._answers

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][CALLER_STATE] = self._caller

    def on_response_complete(self) -> None:
        self._answers.end()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        del msg
        answer = invalid_part("framing", "it cannot be read as HTTP/1.1").answer()
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n" % (answer.content_type, len(answer.body))
        )
        self.transport.write(head + answer.body)
        self.transport.close()


class HttpServer:
    """The service `api`: `drain` stops listening, lets requests end, and then `run` returns."""

    name = "api"

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self._listeners = [listener, *(listener.dup() for _ in range(ACCEPTS_PER_TURN_MAX - 1))]
        self._server = _QuietServer(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
            )
        )

    @property
    def is_serving(self) -> bool:
        return bool(self._server.started)

    async def run(self) -> None:
        try:
            await self._server.serve(sockets=self._listeners)
        finally:
            # Whoever is drained or cancelled before it has begun closes nothing itself.
            for listener in self._listeners:
                listener.close()

    def drain(self) -> None:
        self._server.should_exit = True
