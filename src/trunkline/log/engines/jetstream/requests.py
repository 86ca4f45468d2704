"""One connection to one server, with request and reply over a single inbox.

A request that was not answered is `Unanswered`; one that surely was not received is `NotReceived`:
the server said at once that nobody listens, or there was no connection to send it on.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import nats
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from trunkline.kernel import Clock, Deadline, Failed, Pool, PoolLimits
from trunkline.log.interface import LogUnavailable

log: Final = structlog.get_logger(__name__)

CONNECT_TIMEOUT_S: Final = 2.0
PING_INTERVAL_S: Final = 1
PINGS_OUTSTANDING_MAX: Final = 2
RECONNECT_WAIT_S: Final = 0.05
REQUEST_MAX_S: Final = 10.0
"""The longest any request may ask to wait; publishes ask for far less."""

PENDING_BYTES_MAX: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NotReceived:
    """No server has the request."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A server may have the request."""

    reason: str


Reply = bytes | NotReceived | Unanswered


class Requests:
    """The process's connection. `on_reconnected` callbacks run after each reconnection."""

    def __init__(self, *, clock: Clock, rng: random.Random) -> None:
        self._client: Client = Client()
        # One server for now, tried once: what a shard did not answer is for the append to decide.
        self._pool = Pool(
            "log",
            [self._client],
            limits=PoolLimits(try_timeout_s=REQUEST_MAX_S, tries_max=1),
            clock=clock,
            rng=rng,
        )
        self._clock = clock
        self._pending: dict[str, asyncio.Future[Reply]] = {}
        self._numbers = itertools.count(1)
        self._inbox = ""
        self._connected = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []

    async def connect(self, url: str, token: str) -> None:
        """Raises `LogUnavailable` when the server does not take the connection."""
        try:
            await self._client.connect(
                servers=[url],
                token=token,
                name="trunkline",
                connect_timeout=CONNECT_TIMEOUT_S,
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=PINGS_OUTSTANDING_MAX,
                reconnect_time_wait=RECONNECT_WAIT_S,
                max_reconnect_attempts=-1,
                allow_reconnect=True,
                pending_size=PENDING_BYTES_MAX,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                error_cb=self._on_error,
            )
            self._inbox = self._client.new_inbox()
            await self._client.subscribe(f"{self._inbox}.*", cb=self._on_reply)
        except (OSError, TimeoutError, nats.errors.Error) as error:
            raise LogUnavailable(f"the log server at {url} did not answer: {error}") from error
        self._connected.set()

    @property
    def is_connected(self) -> bool:
        return bool(self._client.is_connected)

    async def wait_until_connected(self, wait_s: float) -> bool:
        if self._client.is_connected:
            return True
        self._connected.clear()  # the client knows of a loss a moment before it tells us
        try:
            async with asyncio.timeout(wait_s):
                await self._connected.wait()
        except TimeoutError:
            return False
        return True

    def when_reconnected(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        with contextlib.suppress(ValueError):
            self._listeners.remove(listener)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
    ) -> Reply:
        """Send and wait. Never raises for what a server or a network can do."""
        if not self._client.is_connected:
            return NotReceived("not connected to the log server")

        async def act(client: Client, bound_s: float) -> Reply:
            del bound_s  # the pool keeps to it
            number = str(next(self._numbers))
            reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            self._pending[number] = reply
            try:
                await client.publish(
                    subject, payload, reply=f"{self._inbox}.{number}", headers=headers or None
                )
                return await reply
            except nats.errors.Error as error:
                raise OSError(f"{type(error).__name__}: {error}") from error
            finally:
                del self._pending[number]

        deadline = Deadline.after(timeout_s, self._clock)
        answer = await self._pool.call(act, deadline=deadline, is_repeatable=False)
        return Unanswered(answer.reason) if isinstance(answer, Failed) else answer

    async def send(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        """Send without an answer. What cannot be sent now is dropped: callers only send what the
        server will ask for again."""
        if not self._client.is_connected:
            return
        with contextlib.suppress(OSError, nats.errors.Error):
            await self._client.publish(subject, payload, reply=reply)

    async def subscribe(
        self, subject: str, on_message: Callable[[Msg], Awaitable[None]]
    ) -> "Subscription":
        return Subscription(await self._client.subscribe(subject, cb=on_message))

    def new_inbox(self) -> str:
        inbox: str = self._client.new_inbox()
        return inbox

    async def close(self) -> None:
        self._fail_pending("the connection was closed")
        with contextlib.suppress(OSError, TimeoutError, nats.errors.Error):
            await self._client.close()

    async def _on_reply(self, message: Msg) -> None:
        reply = self._pending.get(message.subject.rpartition(".")[2])
        if reply is None or reply.done():
            return
        if message.headers and message.headers.get("Status") == "503":
            reply.set_result(NotReceived("nobody answers for this shard"))
        else:
            reply.set_result(message.data)

    async def _on_disconnected(self) -> None:
        self._connected.clear()
        self._fail_pending("the connection to the log server was lost")

    async def _on_reconnected(self) -> None:
        self._connected.set()
        log.info("log.reconnected")
        for listener in tuple(self._listeners):
            listener()

    async def _on_error(self, error: Exception) -> None:
        log.debug("log.connection_error", error=repr(error))

    def _fail_pending(self, reason: str) -> None:
        for reply in self._pending.values():
            if not reply.done():
                reply.set_result(Unanswered(reason))


class Subscription:
    """A subscription that can be ended."""

    def __init__(self, subscription: "nats.aio.subscription.Subscription") -> None:
        self._subscription = subscription

    async def close(self) -> None:
        with contextlib.suppress(OSError, nats.errors.Error):
            await self._subscription.unsubscribe()
