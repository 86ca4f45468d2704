"""Fetching a piece of media from wherever its URL leads: bounded in bytes, in time and in redirects.

What comes can be read through the API by whoever named the URL: so what a cloud tells its machines
is out of reach. It is the address that is refused, whatever name or redirect leads there.
"""

import asyncio
import errno
import ipaddress
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from trunkline.domain.media import bare_type
from trunkline.kernel import Clock, Deadline, Failed, Pool
from trunkline.version import __version__
from trunkline.webhooks.client import (
    BAD_HOST_NAME,
    CERTIFICATE_INVALID,
    CONNECTION_FAILURE,
    HTTP_RETRIEVAL_FAILURE,
    TLS_FAILURE,
    TOO_MANY_REDIRECTS,
    URL_INVALID,
    authorization_of,
)
from trunkline.webhooks.session import (
    CONNECT_TIMEOUT_S,
    EXACT_TIMEOUTS_S,
    PooledSession,
    open_session,
)
from trunkline.webhooks.signature import sendable

FETCH_MAX_S: Final = 15.0
"""One piece, redirects included: 5 MiB come through in it at 3 Mbit/s."""
REDIRECTS_MAX: Final = 5

# Twilio's codes (Twilio documentation, "Error and Warning Dictionary").
MEDIA_TOO_LARGE: Final = 11751
MEDIA_TYPE_UNSUPPORTED: Final = 12300

_LEADS_ON: Final = frozenset({301, 302, 303, 307, 308})
_MAY_PASS: Final = frozenset({408, 425, 429})
"""Refusals of a client that say "not now"."""
_TELLS_MACHINES: Final = frozenset(
    ipaddress.ip_address(each) for each in ("100.100.100.200", "fd00:ec2::254")
)
"""Where clouds have such a service outside the link-local addresses."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes, and their bare type: empty where the server did not say."""

    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class NotFetched:
    """Why not, with Twilio's code for it. With `is_final` another try would be told the same."""

    error_code: int
    reason: str
    is_final: bool


Answer = Fetched | NotFetched


class MediaFetcher:
    """Fetches for many tasks at once. `close` ends what is under way."""

    def __init__(
        self,
        *,
        session_factory: Callable[[], aiohttp.ClientSession] | None = None,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        factory = session_factory or _open_guarded
        self._session = PooledSession(
            "media", factory, try_timeout_s=FETCH_MAX_S, clock=clock, rng=rng
        )

    async def fetch(
        self, url: str, *, bytes_max: Callable[[str], int], deadline: Deadline
    ) -> Answer:
        """Fetch once. `bytes_max` says how many bytes of a bare type may come; 0: none at all. Never
        raises for what a network or a server can do."""

        async def act(session: aiohttp.ClientSession, bound_s: float) -> Answer:
            return await _follow(session, url, bytes_max, bound_s)

        answer = await self._session.call(act, deadline=deadline)
        if isinstance(answer, Failed):
            return NotFetched(HTTP_RETRIEVAL_FAILURE, answer.reason, is_final=False)
        return answer

    def pools(self) -> tuple[Pool[aiohttp.ClientSession], ...]:
        """For who counts; none before the first request."""
        return self._session.pools()

    async def close(self) -> None:
        """Let go of all connections. A request after this opens new ones."""
        await self._session.close()


def _open_guarded() -> aiohttp.ClientSession:
    return open_session(socket_factory=guarded_socket)


def guarded_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for an address as `getaddrinfo` gives it. Raises `OSError` for one out of reach."""
    family, type_, protocol, _, place = address
    host = ipaddress.ip_address(place[0])
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    host = mapped or host
    if host.is_link_local or host in _TELLS_MACHINES:
        reason = f"{host} is link-local or serves a cloud's machines: no media come from there"
        raise OSError(errno.EACCES, reason)
    return socket.socket(family, type_, protocol)


async def _follow(
    session: aiohttp.ClientSession, url: str, bytes_max: Callable[[str], int], bound_s: float
) -> Answer:
    try:
        async with asyncio.timeout(bound_s):
            for _ in range(1 + REDIRECTS_MAX):
                if not _is_web_address(url):
                    return NotFetched(URL_INVALID, "it leads to no http or https URL", True)
                answer = await _get(session, url, bytes_max)
                if not isinstance(answer, str):
                    return answer
                url = urljoin(url, answer)
    except TimeoutError:
        return NotFetched(HTTP_RETRIEVAL_FAILURE, "no whole answer in time", is_final=False)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return _not_fetched(error)
    return NotFetched(TOO_MANY_REDIRECTS, f"more than {REDIRECTS_MAX} redirects", is_final=True)


async def _get(
    session: aiohttp.ClientSession, url: str, bytes_max: Callable[[str], int]
) -> Answer | str:
    """The piece; or where it is, where the server says that it is elsewhere."""
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_TIMEOUT_S, ceil_threshold=EXACT_TIMEOUTS_S
    )
    # What is packed may unpack to any size: it is asked for as it is.
    headers = {"User-Agent": f"Trunkline/{__version__}", "Accept-Encoding": "identity"}
    # A URL that is signed counts as it is written.
    address = URL(sendable(url), encoded=True)
    headers.update(authorization_of(url))
    async with session.get(
        address, headers=headers, timeout=timeout, allow_redirects=False
    ) as response:
        status = response.status
        location = response.headers.get("Location")
        if status in _LEADS_ON and location:
            return location
        if not 200 <= status < 300:
            is_final = 400 <= status < 500 and status not in _MAY_PASS
            return NotFetched(HTTP_RETRIEVAL_FAILURE, f"it answered {status}", is_final)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            return NotFetched(HTTP_RETRIEVAL_FAILURE, "it came packed", is_final=True)
        content_type = bare_type(response.headers.get("Content-Type", ""))
        most = bytes_max(content_type)
        if most <= 0:
            return NotFetched(MEDIA_TYPE_UNSUPPORTED, f"its type is {content_type!r}", True)
        content = await _read(response.content, most)
        if len(content) > most:
            return NotFetched(MEDIA_TOO_LARGE, f"it has more than {most} bytes", is_final=True)
        return Fetched(content, content_type)


async def _read(stream: aiohttp.StreamReader, most: int) -> bytes:
    """All of it, or one byte more than may be."""
    body = bytearray()
    while len(body) <= most:
        chunk = await stream.read(most + 1 - len(body))
        if not chunk:
            break
        body += chunk
    return bytes(body)


def _is_web_address(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _not_fetched(error: Exception) -> NotFetched:
    """The most telling code for a failure. Subclasses stand before their bases."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return NotFetched(CERTIFICATE_INVALID, reason, is_final=False)
        case aiohttp.ClientSSLError():
            return NotFetched(TLS_FAILURE, reason, is_final=False)
        case aiohttp.ClientConnectorDNSError():
            return NotFetched(BAD_HOST_NAME, reason, is_final=False)
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return NotFetched(CONNECTION_FAILURE, reason, is_final=False)
        case aiohttp.InvalidURL() | ValueError():
            return NotFetched(URL_INVALID, reason, is_final=True)
        case _:
            return NotFetched(HTTP_RETRIEVAL_FAILURE, reason, is_final=False)
