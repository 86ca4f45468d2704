"""The server under the API, on a loopback socket."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import uvloop
from starlette.types import Receive, Scope, Send

from trunkline.host.serve_http import ACCEPTS_PER_TURN_MAX, HttpServer

pytestmark = [pytest.mark.system, pytest.mark.timeout(30)]

CLIENTS = 8 * ACCEPTS_PER_TURN_MAX
REQUEST = b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=CLIENTS) as made:
        yield made


def test_many_new_connections_do_not_wait_for_a_turn_each(listener: socket.socket) -> None:
    served = 0
    turns_at_end = 0
    turns = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal served, turns_at_end
        served += 1
        turns_at_end = turns
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def serve() -> None:
        loop = asyncio.get_running_loop()

        def count() -> None:
            nonlocal turns
            turns += 1
            if served < CLIENTS:
                loop.call_soon(count)
            else:
                server.drain()

        server = HttpServer(app, listener)
        loop.call_soon(count)
        await server.run()

    with ExitStack() as clients:
        for _ in range(CLIENTS):
            client = clients.enter_context(socket.create_connection(listener.getsockname()))
            client.sendall(REQUEST)
        uvloop.run(serve())

    assert served == CLIENTS
    assert turns_at_end < CLIENTS / 2
