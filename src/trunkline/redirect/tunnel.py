"""What is not Twilio's: its bytes go through untouched, to where the program wanted them.

Where the program's environment already named a proxy, they go through that one, as they would have
without us. Nothing is repeated, looked into or kept.
"""

import asyncio
import base64
import contextlib
import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from trunkline.redirect.head import Head

CONNECT_TIMEOUT_S: Final = 30.0
"""Long: whether it is worth the wait is for the program to say."""
CHUNK_BYTES: Final = 64 * 1024
PROXY_HEAD_BYTES_MAX: Final = 16 * 1024

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_NOT_FURTHER: Final = frozenset({b"proxy-connection", b"proxy-authorization", b"connection"})


class NoWay(OSError):
    """The other end cannot be reached."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """One that was there before us: `http://[user:password@]host[:port]`."""

    host: str
    port: int
    authorization: bytes | None = None

    @classmethod
    def of(cls, url: str) -> "Proxy | None":
        """None for an empty one, and for a kind that is not spoken here (https, socks)."""
        parts = urlsplit(url if "://" in url else f"http://{url}" if url else "")
        if parts.scheme != "http" or not parts.hostname:
            return None
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        told = base64.b64encode(pair.encode()) if parts.username else None
        return cls(parts.hostname, parts.port or 80, told)

    def headers(self) -> bytes:
        if self.authorization is None:
            return b""
        return b"Proxy-Authorization: Basic " + self.authorization + b"\r\n"


async def connect(host: str, port: int, proxy: Proxy | None) -> Stream:
    """A stream of bytes to there. Raises `NoWay`."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if proxy is None:
                return await asyncio.open_connection(host, port)
            return await _through(proxy, host, port)
    except OSError as error:
        raise NoWay(f"{host}:{port} cannot be reached: {_why(error)}") from error


async def forward_plainly(head: Head, program: Stream, proxy: Proxy | None) -> None:
    """A request whose target is a whole URL, with all that follows on its connection. Raises `NoWay`."""
    parts = urlsplit(head.target)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NoWay(f"{head.target[:200]!r} is no URL of HTTP")
    is_secure = parts.scheme == "https"
    try:
        port = parts.port or (443 if is_secure else 80)
    except ValueError as error:
        raise NoWay(f"{head.target[:200]!r} is no URL of HTTP") from error
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if proxy is not None and not is_secure:
                other = await asyncio.open_connection(proxy.host, proxy.port)
                target, more = head.target.encode("latin-1"), proxy.headers()
            else:
                tls = ssl.create_default_context() if is_secure else None
                other = await asyncio.open_connection(parts.hostname, port, ssl=tls)
                target, more = _origin_form(head.target), b""
    except OSError as error:
        raise NoWay(f"{parts.netloc} cannot be reached: {_why(error)}") from error
    lines = [head.method.encode() + b" " + target + b" HTTP/1.1\r\n", more]
    lines += [
        name + b": " + value + b"\r\n"
        for name, value in head.headers
        if name.lower() not in _NOT_FURTHER
    ]
    # One request for each connection: the next may be for somebody else.
    other[1].write(b"".join(lines) + b"Connection: close\r\n\r\n")
    await pump(program, other)


async def pump(one: Stream, other: Stream) -> None:
    """Pass on both ways until both are done, or one breaks off; both are closed then."""
    try:
        async with asyncio.TaskGroup() as ways:
            ways.create_task(_copy(one[0], other[1]))
            ways.create_task(_copy(other[0], one[1]))
    except* OSError:
        pass  # one end broke off, and both are closed below, which tells the other
    finally:
        for _, writer in (one, other):
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    with contextlib.suppress(OSError, NotImplementedError):
        writer.write_eof()


async def _through(proxy: Proxy, host: str, port: int) -> Stream:
    reader, writer = await asyncio.open_connection(
        proxy.host, proxy.port, limit=PROXY_HEAD_BYTES_MAX
    )
    name = f"[{host}]" if ":" in host else host
    asked = f"CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n".encode("latin-1")
    is_open = False
    try:
        writer.write(asked + proxy.headers() + b"\r\n")
        answer = await reader.readuntil(b"\r\n\r\n")
        is_open = answer.split(b" ", 2)[1:2] == [b"200"]
        if not is_open:
            line = answer.partition(b"\r\n")[0].decode("latin-1")
            raise NoWay(f"the proxy {proxy.host}:{proxy.port} refuses it ({line})")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise NoWay(f"the proxy {proxy.host}:{proxy.port} does not answer") from error
    finally:
        if not is_open:
            writer.close()
    return reader, writer


def _why(error: OSError) -> str:
    return str(error) or "no connection in time"


def _origin_form(url: str) -> bytes:
    parts = urlsplit(url)
    return f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}".encode("latin-1")
