"""Kept-alive HTTP/1.1 connections to one peer, for posts whose answers come in pieces.

A post costs one write and no task; a general client costs ten times as much. What it knows is what
a carrier's link must know: whether a connection could be made. `NotConnected` says that nothing was
sent; after any other failure the peer may have the post. A failed connection is never used again,
and nothing is repeated here.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

IDLE_CONNECTIONS_MAX: Final = 64
"""Kept for the next post. How many are open at once is bounded by how many posts there are."""


class NotConnected(OSError):
    """No connection could be made: the peer has surely seen nothing."""


class ConnectionFailed(OSError):
    """The connection was lost, or what came over it is no answer: the peer may have acted."""


class Connections:
    """To the peer at `url`, of which only scheme, host and port count."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host = address.hostname or ""
        self._is_secure = address.scheme == "https"
        self._port = address.port or (443 if self._is_secure else 80)
        self._head = f" HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: "
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._is_closed = False

    async def post(
        self,
        path: str,
        body: bytes,
        *,
        connect_s: float,
        on_content: Callable[[int, bytes], None],
    ) -> int:
        """The status of the whole answer. `on_content` is given the status and each piece as it
        comes; what it raises ends the post and is raised here.

        Raises `NotConnected`, within `connect_s`, and `ConnectionFailed`. Cancelled, it hangs up.
        """
        connection = self._idle.pop() if self._idle else await self._connect(connect_s)
        self._busy.add(connection)
        head = f"POST {path}{self._head}{len(body)}\r\n\r\n".encode("latin-1")
        try:
            status = await connection.post(head + body, on_content)
        except BaseException:
            connection.abort()
            raise
        finally:
            self._busy.discard(connection)
        if self._is_closed or not connection.is_reusable or len(self._idle) >= IDLE_CONNECTIONS_MAX:
            connection.abort()
        else:
            self._idle.append(connection)
        return status

    def close(self) -> None:
        """Hang up, also on posts under way. From now on each is `NotConnected`."""
        self._is_closed = True
        for connection in [*self._idle, *self._busy]:
            connection.abort()
        self._idle.clear()

    async def _connect(self, connect_s: float) -> "_Connection":
        if self._is_closed:
            raise NotConnected("the link is closed")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._lost),
                    self._host,
                    self._port,
                    ssl=self._is_secure or None,
                )
        except TimeoutError as error:
            raise NotConnected(f"no connection in {connect_s:.3g} s") from error
        except OSError as error:
            raise NotConnected(f"{type(error).__name__}: {error}") from error
        if self._is_closed:  # meanwhile, and nobody else knows of this connection
            connection.abort()
            raise NotConnected("the link is closed")
        return connection

    def _lost(self, connection: "_Connection") -> None:
        if connection in self._idle:
            self._idle.remove(connection)


class _Connection(asyncio.Protocol):
    """One connection, with at most one post under way."""

    def __init__(self, on_lost: Callable[["_Connection"], None]) -> None:
        self.is_reusable = True
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answered: asyncio.Future[int] | None = None
        self._on_content: Callable[[int, bytes], None] | None = None
        self._pieces: list[bytes] = []
        self._is_complete = False

    async def post(self, payload: bytes, on_content: Callable[[int, bytes], None]) -> int:
        if self._transport is None or self._transport.is_closing():
            raise ConnectionFailed("the peer hung up")
        self._on_content = on_content
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(payload)
        try:
            return await self._answered
        finally:
            self._answered = self._on_content = None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(
            "asyncio.Transport", transport
        )  # uvloop's does not say that it is one

    def data_received(self, data: bytes) -> None:
        answered, on_content = self._answered, self._on_content
        if answered is None or on_content is None or answered.done():
            self.abort()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
            if self._pieces:
                content = b"".join(self._pieces)
                self._pieces.clear()
                on_content(self._parser.get_status_code(), content)
        except httptools.HttpParserError as error:
            answered.set_exception(ConnectionFailed(f"not an HTTP answer: {error}"))
        except Exception as error:  # noqa: BLE001 - it is raised where the post was made
            answered.set_exception(error)
        else:
            if self._is_complete:
                self._is_complete = False
                answered.set_result(self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_reusable = False
        self._on_lost(self)
        if self._answered is not None and not self._answered.done():
            reason = "before the answer ended" if exc is None else f"{type(exc).__name__}: {exc}"
            self._answered.set_exception(ConnectionFailed(f"the connection was lost, {reason}"))

    # What the parser calls.

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        self._is_complete = True
        self.is_reusable = self._parser.should_keep_alive()
