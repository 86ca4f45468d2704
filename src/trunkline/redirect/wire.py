"""One request to one host over HTTP, answered from its kept-alive connections.

The head and the first `BODY_HELD_BYTES_MAX` of the body are read within the try, so that a host which
breaks off there can be left for another one. What is longer (a long list, a picture) streams.
"""

from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from yarl import URL

from trunkline.redirect.asked import Asked, Replied, Rest, Unsent

CONNECT_TIMEOUT_S: Final = 1.0
"""A machine that is off answers nothing at all; the next one is asked instead."""
BODY_HELD_BYTES_MAX: Final = 256 * 1024
CHUNK_BYTES: Final = 64 * 1024
REST_READ_TIMEOUT_S: Final = 10.0
CONNECTIONS_MAX: Final = 512
KEEP_ALIVE_S: Final = 2.0
"""Shorter than the hosts' own, so that a post never meets a connection that is being closed."""

_EXACT_TIMEOUTS_S: Final = 3600.0
_TIMEOUT: Final = aiohttp.ClientTimeout(
    total=None,
    sock_connect=CONNECT_TIMEOUT_S,
    sock_read=REST_READ_TIMEOUT_S,
    ceil_threshold=_EXACT_TIMEOUTS_S,
)
_NO_HEADERS_OF_ITS_OWN: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class HttpWire:
    """Made in a running loop. `close` lets go of all connections."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=_NO_HEADERS_OF_ITS_OWN,
            timeout=_TIMEOUT,
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(self, host: str, asked: Asked, *, bound_s: float) -> Replied:
        """`host` is the URL of one, without a path. Raises `Unsent`, or another `OSError`; `bound_s` is
        held by the caller."""
        del bound_s
        try:
            response = await self._session.request(
                asked.method,
                URL(host + asked.target, encoded=True),
                data=asked.body or None,
                headers=[
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in asked.headers
                ],
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unsent(f"{type(error).__name__}: {error}") from error
        except aiohttp.ClientError as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        return await _replied(response)


async def _replied(response: aiohttp.ClientResponse) -> Replied:
    is_held = False
    held = bytearray()
    try:
        while not response.content.at_eof() and len(held) < BODY_HELD_BYTES_MAX:
            held += await response.content.read(BODY_HELD_BYTES_MAX - len(held))
        is_held = True
    except aiohttp.ClientError as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        if not is_held:
            response.close()
    is_whole = response.content.at_eof()
    if is_whole:
        response.release()
    return Replied(
        response.status,
        response.reason or "",
        tuple(response.raw_headers),
        bytes(held),
        None if is_whole else Rest(lambda: _chunks(response), response.close),
    )


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        while chunk := await response.content.read(CHUNK_BYTES):
            yield chunk
    except aiohttp.ClientError as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
