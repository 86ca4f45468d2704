"""One signed request to a customer's application, and what came of it.

A request has three ends: `Answered` with whatever the application said, bad answers included;
`Unreachable` where nothing reached it or nothing came back; and cancellation. It is sent once:
whether to repeat it, and where else to ask, is for the caller, who gives the same `token` again.
"""

import asyncio
import base64
import random
import re
import uuid
from dataclasses import dataclass, field, replace
from typing import Final, Literal
from urllib.parse import unquote, urljoin, urlsplit

import aiohttp
from yarl import URL

from trunkline.kernel import Clock, Deadline, Failed, Pool
from trunkline.version import __version__
from trunkline.webhooks.cookies import Cookies
from trunkline.webhooks.guard import refusal_in
from trunkline.webhooks.overrides import Overrides, overrides_of
from trunkline.webhooks.session import (
    EXACT_TIMEOUTS_S,
    PooledSession,
    SessionFactory,
    open_session,
)
from trunkline.webhooks.signature import HEADER, encode_form, sendable, sign, with_query

# Twilio documentation, error 11205: two connection attempts, 15 s in all.
WEBHOOK_DEADLINE_S: Final = 15.0
REDIRECTS_MAX: Final = 10
ANSWER_BYTES_MAX: Final = 64 * 1024
"""One byte more is read, so that a reader can tell an answer that was cut."""

HTTP_RETRIEVAL_FAILURE: Final = 11200
CONNECTION_FAILURE: Final = 11205
PROTOCOL_VIOLATION: Final = 11206
BAD_HOST_NAME: Final = 11210
TOO_MANY_REDIRECTS: Final = 11215
INVALID_REDIRECT: Final = 11216
TLS_FAILURE: Final = 11220
CERTIFICATE_OF_ANOTHER_HOST: Final = 11235
CERTIFICATE_EXPIRED: Final = 11236
CERTIFICATE_INVALID: Final = 11237
URL_INVALID: Final = 11100

# Why OpenSSL accepts no certificate (x509_vfy.h): not yet valid, expired; of another host, address.
_OUT_OF_DATE: Final = frozenset({9, 10})
_OF_ANOTHER_HOST: Final = frozenset({62, 64})

NOT_IN_TIME: Final = "no whole answer in time"

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "trunkline:webhook")
_LEADS_ON: Final = frozenset({301, 302, 303, 307, 308})
_KEEPS_METHOD: Final = frozenset({307, 308})  # RFC 9110 §15.4.8, §15.4.9

Method = Literal["GET", "POST"]


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """What to tell whom. `token` is the same on every repeat of one webhook. `cookies` are sent, and
    take in what the answer sets; without any, what it sets is forgotten."""

    url: str
    method: Method
    params: tuple[tuple[str, str], ...]
    auth_token: str
    token: str
    headers: tuple[tuple[str, str], ...] = ()
    cookies: Cookies | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Answered:
    """The application answered, well or badly. `body` is cut at `ANSWER_BYTES_MAX` and one more.
    `url` is where the answer is from, behind all redirects."""

    status: int
    content_type: str
    body: bytes
    url: str = field(default="", compare=False)
    is_chunked: bool = field(default=False, compare=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Unreachable:
    """There is no answer. With `is_unsent` surely nothing was told: no connection came about. `is_late`
    where an answer, or the rest of one, did not come in time."""

    reason: str
    error_code: int
    is_unsent: bool = False
    is_late: bool = field(default=False, compare=False)


WebhookAnswer = Answered | Unreachable


def method_of(text: str) -> Method:
    """A configured method; what is not GET is POST."""
    return "GET" if text.upper() == "GET" else "POST"


def token_of(*parts: str) -> str:
    """The idempotency token that `parts` always give, in the shape of a UUID."""
    return str(uuid.uuid5(_NAMESPACE, "\x00".join(parts)))


class WebhookClient:
    """Sends requests from many tasks at once. `close` ends what is under way."""

    def __init__(
        self,
        *,
        session_factory: SessionFactory = open_session,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._clock = clock
        self._session = PooledSession(
            "webhooks", session_factory, try_timeout_s=WEBHOOK_DEADLINE_S, clock=clock, rng=rng
        )

    async def send(self, request: WebhookRequest, *, deadline: Deadline) -> WebhookAnswer:
        """Send once, following redirects, in the times that the URL's fragment says and never behind
        the deadline. Never raises for what a network or a server can do."""
        overrides = overrides_of(request.url)

        async def act(session: aiohttp.ClientSession, bound_s: float) -> WebhookAnswer:
            limits = replace(overrides, total_s=min(bound_s, overrides.total_s))
            return await _send_following(session, request, limits, self._clock)

        answer = await self._session.call(act, deadline=deadline)
        if isinstance(answer, Failed):
            return Unreachable(answer.reason, HTTP_RETRIEVAL_FAILURE, is_unsent=not answer.sent)
        return answer

    def pools(self) -> tuple[Pool[aiohttp.ClientSession], ...]:
        """For who counts; none before the first request."""
        return self._session.pools()

    async def close(self) -> None:
        """Let go of all connections. A request after this opens new ones."""
        await self._session.close()


async def _send_following(
    session: aiohttp.ClientSession, request: WebhookRequest, limits: Overrides, clock: Clock
) -> WebhookAnswer:
    """One request and its redirects, each hop signed for where it goes."""
    deadline = Deadline.after(limits.total_s, clock)
    for hop in range(1 + REDIRECTS_MAX):
        answer = await _send_hop(session, request, replace(limits, total_s=deadline.remaining_s()))
        if isinstance(answer, Unreachable) and hop > 0:
            return replace(answer, is_unsent=False)  # the hops before were told
        if not isinstance(answer, _Redirected):
            return answer
        try:
            request = _redirected(request, answer)
        except ValueError as error:
            return Unreachable(_plain(str(error)), INVALID_REDIRECT)
    return Unreachable(f"more than {REDIRECTS_MAX} redirects", TOO_MANY_REDIRECTS)


@dataclass(frozen=True, slots=True)
class _Redirected:
    status: int
    location: str


def _redirected(request: WebhookRequest, to: _Redirected) -> WebhookRequest:
    """The next hop. A form becomes a GET without it, unless the status says otherwise. Raises
    `ValueError` where it leads to no URL of HTTP."""
    url = urljoin(request.url, to.location)
    sendable(url)
    if to.status in _KEEPS_METHOD:
        # A GET's parameters went out in its query; the new location says which ones it wants.
        return replace(request, url=url, params=request.params if request.method == "POST" else ())
    return replace(request, url=url, method="GET", params=())


async def _send_hop(
    session: aiohttp.ClientSession, request: WebhookRequest, limits: Overrides
) -> WebhookAnswer | _Redirected:
    if limits.total_s <= 0.0:
        return Unreachable(NOT_IN_TIME, HTTP_RETRIEVAL_FAILURE, is_late=True)
    try:
        url, form, headers = _rendered(request)
    except ValueError as error:
        return Unreachable(str(error), URL_INVALID, is_unsent=True)
    timeout = aiohttp.ClientTimeout(
        total=limits.total_s,
        sock_connect=limits.connect_s,
        sock_read=limits.read_s,
        ceil_threshold=EXACT_TIMEOUTS_S,
    )
    try:
        async with session.request(
            request.method,
            URL(url, encoded=True),
            data=form,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            if request.cookies is not None:
                request.cookies.take(response.cookies, response.url)
            if 300 <= response.status < 400:
                location = response.headers.get("Location")
                if response.status in _LEADS_ON and location:
                    return _Redirected(response.status, location)
                reason = f"answered {response.status}, which leads nowhere"
                return Unreachable(reason, INVALID_REDIRECT)
            return Answered(
                response.status,
                response.headers.get("Content-Type", ""),
                await _read_bounded(response.content),
                request.url,
                "chunked" in response.headers.get("Transfer-Encoding", "").lower(),
            )
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return unreachable(error)


def _rendered(request: WebhookRequest) -> tuple[str, bytes | None, dict[str, str]]:
    """The URL, the form and the headers as they go on the wire."""
    url = sendable(request.url)
    headers = {
        "User-Agent": f"Trunkline/{__version__}",
        "Accept": "*/*",
        "I-Twilio-Idempotency-Token": request.token,
        **authorization_of(request.url),
        **dict(request.headers),
    }
    if request.cookies is not None:
        headers |= request.cookies.header(url)
    if request.method == "GET":
        url = with_query(url, request.params)
        headers[HEADER] = sign(request.auth_token, url)
        return url, None, headers
    headers["Content-Type"] = "application/x-www-form-urlencoded; charset=UTF-8"
    headers[HEADER] = sign(request.auth_token, url, request.params)
    return url, encode_form(request.params).encode("ascii"), headers


def authorization_of(url: str) -> dict[str, str]:
    """RFC 7617 §2, for a URL with user information."""
    # Unlike Twilio: sent at once and not after a challenge, which saves a round trip.
    parts = urlsplit(url)
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


async def _read_bounded(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    while len(body) <= ANSWER_BYTES_MAX:
        chunk = await content.read(ANSWER_BYTES_MAX + 1 - len(body))
        if not chunk:
            break
        body += chunk
    return bytes(body)


def unreachable(error: Exception) -> Unreachable:
    """The most telling code for a failure. Subclasses stand before their bases."""
    reason = _plain(f"{type(error).__name__}: {error}")
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return Unreachable(reason, _certificate_code(error), is_unsent=True)
        case aiohttp.ClientSSLError():
            return Unreachable(reason, TLS_FAILURE, is_unsent=True)
        case aiohttp.ClientConnectorDNSError():
            return Unreachable(reason, BAD_HOST_NAME, is_unsent=True)
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return _unconnected(reason, refusal_in(error))
        case aiohttp.InvalidURL():
            return Unreachable(reason, URL_INVALID, is_unsent=True)
        case asyncio.TimeoutError():
            return Unreachable(NOT_IN_TIME, HTTP_RETRIEVAL_FAILURE, is_late=True)
        case (
            aiohttp.ClientPayloadError()
            | aiohttp.ClientResponseError()
            | aiohttp.ServerDisconnectedError()
            | aiohttp.ClientOSError()
        ):
            # Twilio documentation, error 11206: what came is no HTTP, or broke off.
            return Unreachable(reason, PROTOCOL_VIOLATION)
        case _:
            return Unreachable(reason, HTTP_RETRIEVAL_FAILURE)


def _unconnected(reason: str, refusal: str | None) -> Unreachable:
    if refusal is None:
        return Unreachable(reason, CONNECTION_FAILURE, is_unsent=True)
    # Twilio documentation, error 11100: a private or local URL is never asked.
    return Unreachable(_plain(refusal), URL_INVALID, is_unsent=True)


def _certificate_code(error: aiohttp.ClientConnectorCertificateError) -> int:
    match getattr(error.certificate_error, "verify_code", None):
        case code if code in _OF_ANOTHER_HOST:
            return CERTIFICATE_OF_ANOTHER_HOST
        case code if code in _OUT_OF_DATE:
            return CERTIFICATE_EXPIRED
        case _:
            return CERTIFICATE_INVALID


def _plain(text: str) -> str:
    """A reason on one short line, whatever a server put into it."""
    return re.sub(r"\s+", " ", text)[:200]
