"""A host without a copy: it listens, says that it lives and is not ready, and sends everybody elsewhere.

Accounts are in the copy, so without one nobody can be let in, creates included: they too are answered
503, and any other host takes them. A host alone lets connections wait instead, for there is no other.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from trunkline.api.errors import MORE_INFO
from trunkline.domain.errors import Code

MISSING: Final = "replica"
RETRY_AFTER_S: Final = 5
END_WAIT_S: Final = 2.0

_RETRY_AFTER: Final = (b"retry-after", str(RETRY_AFTER_S).encode())


@contextlib.asynccontextmanager
async def saying_so(
    listener: socket.socket | None,
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Answer on `listener` until the block ends, or what it gives is called; the listener itself
    stays open. Without a listener, do nothing."""
    if listener is None:
        yield _nothing
        return
    from trunkline.host.serve_http import HttpServer  # noqa: PLC0415 - paid for where it is used

    server = HttpServer(app_of([MISSING]), listener.dup())
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.run())

        async def end() -> None:
            server.drain()
            await asyncio.wait([serving], timeout=END_WAIT_S)
            serving.cancel()

        try:
            yield end
        finally:
            await end()


async def _nothing() -> None:
    return


def app_of(missing: Sequence[str]) -> ASGIApp:
    """The application of a host that lacks `missing`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        if scope["type"] != "http":
            return
        status, content = _answer(scope["path"], missing)
        body = json.dumps(content).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            # Whoever keeps the connection would keep the answer: the next one is another server's.
            (b"connection", b"close"),
            *([_RETRY_AFTER] if status == 503 else []),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _answer(path: str, missing: Sequence[str]) -> tuple[int, Mapping[str, object]]:
    if path == "/healthz":
        return 200, {"status": "alive"}
    if path == "/readyz":
        return 503, {"status": "not ready", "not_ready": list(missing)}
    code = int(Code.UNAVAILABLE)
    return 503, {
        "code": code,
        "message": "This host is being refilled, and nothing was done. Ask another host.",
        "more_info": f"{MORE_INFO}{code}",
        "status": 503,
    }
