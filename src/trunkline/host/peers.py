"""Asking the other hosts over HTTP: snapshots for a lost copy, hashes and records for a comparison,
and blobs both ways.

Each host is a pool of its own, because a snapshot is gone on with where it was begun; whom to ask
next is for whoever asks. An answer that is not what was asked for is `NotGiven`, with the reason.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec

from trunkline.blobs.store import name_of
from trunkline.domain.media import BYTES_MAX
from trunkline.domain.message import Message
from trunkline.kernel import DEADLINE_HEADER, Clock, Deadline, Failed, Pool, PoolLimits
from trunkline.replica.peers import (
    PART_BYTES_MAX,
    Digest,
    NotGiven,
    Offer,
    Part,
    Preparing,
)

PREFIX: Final = "/internal/"
CLUSTER_HEADER: Final = "X-Trunkline-Cluster"

TRY_TIMEOUT_S: Final = 5.0
"""One try; a part of a snapshot comes through in it at 7 Mbit/s."""
TRIES_MAX: Final = 3
CONNECT_TIMEOUT_S: Final = 1.0
CONNECTIONS_MAX: Final = 8
POOLS_MAX: Final = 64
"""Hosts that are remembered at once; beyond that, all are forgotten and learnt anew."""
SMALL_BYTES_MAX: Final = 1024 * 1024

UNAUTHORIZED: Final = 401

_EXACT_TIMEOUTS_S: Final = 3600.0
_RECORDS: Final = msgspec.msgpack.Decoder(list[Message])

Answer = tuple[int, bytes]
"""Status and body."""

Document = TypeVar("Document")


class HttpPeers:
    """See `replica/peers` for what each method promises. `urls` names the other hosts' APIs, each
    like `http://10.0.0.2:8080`, whenever it is asked. `token` is what the hosts of the cluster know
    each other by, and `former` are for one that refuses it. `close` ends what is under way."""

    def __init__(
        self,
        urls: Callable[[], Sequence[str]],
        token: str,
        cluster: str,
        *,
        former: Sequence[str] = (),
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.urls = urls
        self._headers = {CLUSTER_HEADER: cluster}
        self._authorizations = [f"Bearer {each}" for each in (token, *former)]
        self._clock = clock
        self._rng = rng
        self._pools: dict[str, Pool[str]] = {}
        self._session: aiohttp.ClientSession | None = None

    async def offer(self, peer: str, *, deadline: Deadline) -> Offer | Preparing | NotGiven:
        answer = await self._ask(peer, "snapshot", deadline=deadline)
        if isinstance(answer, NotGiven):
            return answer
        if answer[0] == 202:
            return Preparing()
        return _decoded(answer, 200, msgspec.json.Decoder(Offer))

    async def part_of(
        self, peer: str, offer: Offer, *, start: int, deadline: Deadline
    ) -> bytes | NotGiven:
        end = min(start + PART_BYTES_MAX, offer.bytes)
        path = f"snapshot/{offer.name}"
        headers = {"Range": f"bytes={start}-{end - 1}"}
        answer = await self._ask(
            peer, path, deadline=deadline, headers=headers, bytes_max=end - start
        )
        if isinstance(answer, NotGiven):
            return answer
        status, body = answer
        if status != 206:
            return _refusal(answer)
        if len(body) != end - start:
            return NotGiven(f"{len(body)} bytes came, and {end - start} were asked for")
        return body

    async def digest(self, peer: str, part: Part, *, deadline: Deadline) -> Digest | NotGiven:
        answer = await self._ask(peer, f"digest?{_query(part)}", deadline=deadline)
        if isinstance(answer, NotGiven):
            return answer
        return _decoded(answer, 200, msgspec.json.Decoder(Digest))

    async def records(
        self, peer: str, part: Part, *, deadline: Deadline
    ) -> Sequence[Message] | NotGiven:
        answer = await self._ask(peer, f"records?{_query(part)}", deadline=deadline)
        if isinstance(answer, NotGiven):
            return answer
        return _decoded(answer, 200, _RECORDS)

    async def give_blob(self, peer: str, content: bytes, *, deadline: Deadline) -> bool:
        """See `blobs/shared` for what this and the next promise."""
        what = f"blob/{name_of(content)}"
        answer = await self._ask(peer, what, deadline=deadline, content=content)
        return not isinstance(answer, NotGiven) and answer[0] == 200

    async def blob(self, peer: str, name: str, *, deadline: Deadline) -> bytes | None:
        answer = await self._ask(peer, f"blob/{name}", deadline=deadline, bytes_max=BYTES_MAX)
        return answer[1] if not isinstance(answer, NotGiven) and answer[0] == 200 else None

    def pools(self) -> tuple[Pool[str], ...]:
        """For who counts; none before the first request."""
        return tuple(self._pools.values())

    async def close(self) -> None:
        """Let go of all connections. A request after this opens new ones."""
        session, self._session = self._session, None
        self._pools.clear()
        if session is not None:
            await session.close()

    async def _ask(
        self,
        peer: str,
        what: str,
        *,
        deadline: Deadline,
        headers: Mapping[str, str] | None = None,
        bytes_max: int = SMALL_BYTES_MAX,
        content: bytes | None = None,
    ) -> Answer | NotGiven:
        """What the peer answers to a GET, or where there is `content`, to a PUT of it."""

        async def act(url: str, bound_s: float) -> Answer:
            answer: Answer = (UNAUTHORIZED, b"")
            for authorization in self._authorizations:
                sent = {
                    "Authorization": authorization,
                    **self._headers,
                    **(headers or {}),
                    DEADLINE_HEADER: deadline.header(),
                }
                answer = await _exchange(
                    self._opened(), f"{url}{PREFIX}{what}", sent, bound_s, bytes_max, content
                )
                if answer[0] != UNAUTHORIZED:
                    break
            return answer

        answer = await self._pool_of(peer).call(act, deadline=deadline, is_repeatable=True)
        return NotGiven(answer.reason) if isinstance(answer, Failed) else answer

    def _pool_of(self, peer: str) -> Pool[str]:
        pool = self._pools.get(peer)
        if pool is None:
            if len(self._pools) >= POOLS_MAX:
                self._pools.clear()
            limits = PoolLimits(try_timeout_s=TRY_TIMEOUT_S, tries_max=TRIES_MAX)
            pool = Pool("peers", [peer], limits=limits, clock=self._clock, rng=self._rng)
            self._pools[peer] = pool
        return pool

    def _opened(self) -> aiohttp.ClientSession:
        """The session, made at first use because it belongs to the running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=CONNECTIONS_MAX, timeout_ceil_threshold=_EXACT_TIMEOUTS_S
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


async def _exchange(
    session: aiohttp.ClientSession,
    url: str,
    headers: Mapping[str, str],
    bound_s: float,
    bytes_max: int,
    content: bytes | None,
) -> Answer:
    """Raises `OSError` for whatever a network or a server can do, an answer too long included."""
    timeout = aiohttp.ClientTimeout(
        total=bound_s, sock_connect=CONNECT_TIMEOUT_S, ceil_threshold=_EXACT_TIMEOUTS_S
    )
    try:
        async with session.request(
            "GET" if content is None else "PUT",
            url,
            data=content,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > bytes_max:
                    raise OSError(f"more than {bytes_max} bytes came from {url}")
            return response.status, bytes(body)
    except (aiohttp.ClientError, ValueError) as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _query(part: Part) -> str:
    return urlencode({"prefix": part.prefix, "since": part.since, "until": part.until})


def _decoded(
    answer: Answer,
    wanted: int,
    decoder: "msgspec.json.Decoder[Document] | msgspec.msgpack.Decoder[Document]",
) -> Document | NotGiven:
    status, body = answer
    if status != wanted:
        return _refusal(answer)
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return NotGiven(f"it answered what cannot be read: {error}")


def _refusal(answer: Answer) -> NotGiven:
    status, body = answer
    text = " ".join(body[:200].decode("utf-8", "replace").split())
    return NotGiven(f"it answered {status}: {text}")
