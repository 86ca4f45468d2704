"""The server under the API, on a loopback socket."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import uvloop
from starlette.types import Receive, Scope, Send

from trunkline.host.serve_http import ACCEPTS_PER_TURN_MAX, HttpServer
from trunkline.kernel import CALLER_STATE

pytestmark = [pytest.mark.system, pytest.mark.timeout(30)]

HALF = 5
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


@pytest.mark.skipif(sys.platform != "linux", reason="no other system says it")
def test_the_application_sees_which_clients_left_before_it_looked(listener: socket.socket) -> None:
    served: list[tuple[str, bool]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        served.append((scope["path"], scope["state"][CALLER_STATE].look().has_gone))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        if len(served) == 2 * HALF:
            server.drain()

    with ExitStack() as clients:
        for number in range(2 * HALF):
            client = clients.enter_context(socket.create_connection(listener.getsockname()))
            client.sendall(REQUEST.replace(b"GET /", b"GET /%d" % number))
            if number % 2:
                client.close()
        server = HttpServer(app, listener)
        uvloop.run(server.run())

    assert sorted(served) == sorted((f"/{number}", number % 2 == 1) for number in range(2 * HALF))
