"""The HTTP session with which servers of customers are asked: opened at first use, counted, closed.

Each request is an act of whoever has the session (`webhooks/client`, `messaging/media_fetch`), and goes
out once. What a customer's server answers, or fails to, is the act's answer: it never counts against
the session.
"""

import random
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import aiohttp

from trunkline.kernel import Clock, Deadline, Failed, Pool, PoolLimits

# Twilio documentation, error 11205: two connection attempts of 5 s, 15 s in all.
CONNECT_TIMEOUT_S: Final = 5.0
CONNECTIONS_MAX: Final = 1024
# Common servers close an idle connection after 5 s. A form is never sent again on its own, so we
# must be the first to let go: else their closing would race with our next request.
KEEP_ALIVE_S: Final = 2.0
EXACT_TIMEOUTS_S: Final = 3600.0
"""Below it no timeout is rounded up to a whole second."""

SocketFactory = Callable[[tuple[Any, ...]], socket.socket]
Answer = TypeVar("Answer")


def open_session(
    *, socket_factory: SocketFactory | None = None, tls: ssl.SSLContext | None = None
) -> aiohttp.ClientSession:
    """A session without cookies, proxies or body limits of its own; called in a running loop.

    `socket_factory` is given each address before it is connected to, and may refuse it.
    """
    connector = aiohttp.TCPConnector(
        limit=CONNECTIONS_MAX,
        keepalive_timeout=KEEP_ALIVE_S,
        socket_factory=socket_factory,
        ssl=tls if tls is not None else True,
        timeout_ceil_threshold=EXACT_TIMEOUTS_S,
    )
    # One customer's cookies must never reach another.
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    )


class PooledSession:
    """One session behind a pool called `name`, for many tasks at once. No act takes longer than
    `try_timeout_s`."""

    def __init__(
        self,
        name: str,
        session_factory: Callable[[], aiohttp.ClientSession],
        *,
        try_timeout_s: float,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._name = name
        self._session_factory = session_factory
        self._limits = PoolLimits(try_timeout_s=try_timeout_s, tries_max=1)
        self._clock = clock
        self._rng = rng
        self._pool: Pool[aiohttp.ClientSession] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self,
        act: Callable[[aiohttp.ClientSession, float], Awaitable[Answer]],
        *,
        deadline: Deadline,
    ) -> Answer | Failed:
        """What `act` answers; it is told how many seconds it has."""
        return await self._opened().call(act, deadline=deadline, is_repeatable=False)

    def pools(self) -> tuple[Pool[aiohttp.ClientSession], ...]:
        """For who counts; none before the first call."""
        return () if self._pool is None else (self._pool,)

    async def close(self) -> None:
        """Let go of all connections, and of what is under way. A call after this opens new ones."""
        session, self._session, self._pool = self._session, None, None
        if session is not None:
            await session.close()

    def _opened(self) -> Pool[aiohttp.ClientSession]:
        """The pool, made at first use because a session belongs to the running loop."""
        if self._pool is None:
            self._session = self._session_factory()
            self._pool = Pool(
                self._name, [self._session], limits=self._limits, clock=self._clock, rng=self._rng
            )
        return self._pool
