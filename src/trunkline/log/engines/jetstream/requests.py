"""Request and reply over one inbox on each connection; the own server's connection is preferred.

A request that was not answered is `Unanswered`; one that surely was not received is `NotReceived`:
the server said at once that nobody listens, or there was no connection to send it on.

The servers are no equal replicas, so a pool does not choose among them: the own one is nearest, and
dies with us. Nor does a request that nobody answered speak against the connection, as most often it
is the shard's leader behind it that is away. What speaks against a connection is that nothing at all
came from it since: then it is doubted, and the next request goes through another one.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from trunkline.kernel import Clock, Deadline, Failed, Pool, PoolLimits
from trunkline.log.engines.jetstream.connection import Connection
from trunkline.protocols import nats

REQUEST_MAX_S: Final = 30.0
"""The longest any request may ask to wait; publishes ask for far less."""

REPEAT_AFTER_S: Final = 0.08
"""A repeatable request without an answer is asked again through another server after so long, and
then after twice as long each time. Short against `TRY_TIMEOUT_S`, long against an answer's usual
two milliseconds."""
REPEAT_MOST_S: Final = 0.5
"""A shard without a leader is silent for seconds, and then answers: not to be missed by much."""

NO_RESPONDERS: Final = 503


@dataclass(frozen=True, slots=True)
class NotReceived:
    """No server has the request."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A server may have the request."""

    reason: str


Reply = bytes | NotReceived | Unanswered
NOT_CONNECTED: Final = NotReceived("not connected to the log server")


class Route:
    """One connection, and what was asked through it. `inbox` is what its inboxes begin with: none
    is heard on two connections."""

    __slots__ = ("connection", "inbox", "pending")

    def __init__(self, connection: Connection, inbox: str) -> None:
        self.connection = connection
        self.inbox = inbox
        self.pending: dict[str, asyncio.Future[Reply]] = {}
        connection.subscribe(f"{inbox}.r.*", self._on_reply)
        connection.when_lost(self._fail_pending)

    def _on_reply(self, message: nats.Message) -> None:
        reply = self.pending.get(message.subject.rpartition(".")[2])
        if reply is None or reply.done():
            return
        if message.status == NO_RESPONDERS:
            reply.set_result(NotReceived("nobody answers for this shard"))
        else:
            reply.set_result(message.payload)

    def _fail_pending(self) -> None:
        for reply in self.pending.values():
            if not reply.done():
                reply.set_result(Unanswered("the connection to the log server was lost"))


Routes = tuple[Route, ...]


class Requests:
    """The process's questions to the log. `prefix` makes its inboxes its own; the first of
    `connections` is to the own server."""

    def __init__(
        self, connections: Sequence[Connection], *, prefix: str, clock: Clock, rng: random.Random
    ) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self._names = itertools.count(1)
        self._name = prefix
        self.routes: Routes = tuple(
            Route(connection, f"_INBOX.{prefix}.{place}")
            for place, connection in enumerate(connections)
        )
        self.has_others = len(self.routes) > 1
        """Whether there is more than one server."""
        # All servers as one, tried once: what a shard did not answer is for the append to decide.
        self._pool = Pool(
            "log",
            [self.routes],
            limits=PoolLimits(try_timeout_s=REQUEST_MAX_S, tries_max=1),
            clock=clock,
            rng=rng,
        )
        self._connected = asyncio.Event()
        self._on_shaken(None)
        self.when_shaken(self._on_shaken)

    @property
    def own_server(self) -> str:
        """The name of this host's own server, "" while there is no connection to it."""
        own = self.routes[0].connection
        return own.server if own.is_connected else ""

    @property
    def is_connected(self) -> bool:
        """Whether any server is."""
        return any(route.connection.is_connected for route in self.routes)

    async def wait_until_connected(self, wait_s: float) -> bool:
        """Whether any server is connected, now or within `wait_s`."""
        if self.is_connected:
            return True
        try:
            async with asyncio.timeout(wait_s):
                await self._connected.wait()
        except TimeoutError:
            return False
        return True

    def when_shaken(self, listener: Callable[[Connection], None]) -> Callable[[], None]:
        """See `Connection.when_shaken`, of every one; gives what ends it."""
        ends = [route.connection.when_shaken(listener) for route in self.routes]

        def end() -> None:
            for each in ends:
                each()

        return end

    def pools(self) -> tuple[Pool[Routes], ...]:
        """For who counts."""
        return (self._pool,)

    def new_name(self) -> str:
        """For what the server keeps on behalf of this process, and for the last word of an inbox."""
        return f"{self._name}-{next(self._names)}"

    def choose(self, passed_over: Sequence[Route] = ()) -> Route | None:
        """The way to go: the first that is well, else the first that is connected at all."""
        for route in self.routes:
            if route.connection.is_well and route not in passed_over:
                return route
        for route in self.routes:
            if route.connection.is_connected and route not in passed_over:
                return route
        return None

    def request(
        self, subject: str, payload: bytes = b"", *, header_block: bytes = b"", timeout_s: float
    ) -> Awaitable[Reply]:
        """Send and wait; `NotReceived` only if every server said so. It is surely sent once at
        most: only what a server did not take is given to another one, which may know of a leader
        that this one does not, as it has only just begun. Never raises for what a server or a
        network can do."""
        # No coroutine of its own: most of what a small message costs is in such things.
        deadline = Deadline.after(timeout_s, self._clock)
        if self.has_others:
            return self._send_somewhere(subject, payload, header_block, deadline)
        return self._send_through(self.choose(), subject, payload, header_block, deadline)

    async def _send_somewhere(
        self, subject: str, payload: bytes, header_block: bytes, deadline: Deadline
    ) -> Reply:
        passed_over: list[Route] = []
        refusal: Reply = NOT_CONNECTED
        while (route := self.choose(passed_over)) is not None:
            answer = await self._send_through(route, subject, payload, header_block, deadline)
            if not isinstance(answer, NotReceived):
                return answer
            passed_over.append(route)
            refusal = answer
            if deadline.has_passed():
                break
        return refusal

    async def _send_through(
        self,
        route: Route | None,
        subject: str,
        payload: bytes,
        header_block: bytes,
        deadline: Deadline,
    ) -> Reply:
        if route is None:
            return NOT_CONNECTED
        connection = route.connection
        size = len(payload) + len(header_block)
        if size > connection.payload_bytes_max:
            return NotReceived(f"{size} bytes are more than the log takes in one message")
        number = str(next(self._numbers))
        said = nats.publish(
            subject, payload, reply=f"{route.inbox}.r.{number}", header_block=header_block
        )
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        heard = connection.heard

        async def act(_: Routes, bound_s: float) -> Reply:
            del bound_s  # the pool keeps to it
            if not connection.write(said):
                return NOT_CONNECTED
            route.pending[number] = reply
            return await reply

        try:
            answer = await self._pool.call(act, deadline=deadline, is_repeatable=False)
        finally:
            route.pending.pop(number, None)
        if not isinstance(answer, Failed):
            return answer
        if connection.heard == heard:
            connection.doubt()
        return Unanswered(answer.reason)

    async def ask(self, subject: str, payload: bytes = b"", *, timeout_s: float) -> Reply:
        """Send what changes nothing when it is repeated: as often as it takes, through every server
        in turn, within the time. `NotReceived` only if each of them said so."""
        if not self.has_others:
            return await self.request(subject, payload, timeout_s=timeout_s)
        asking = _Asking(self, subject, payload)

        async def act(_: Routes, bound_s: float) -> Reply:
            del bound_s  # the pool keeps to it
            return await asking.until_answered()

        deadline = Deadline.after(timeout_s, self._clock)
        try:
            answer = await self._pool.call(act, deadline=deadline, is_repeatable=False)
        finally:
            asking.end()
        return Unanswered(answer.reason) if isinstance(answer, Failed) else answer

    def new_number(self) -> str:
        """For the last word of a reply's subject."""
        return str(next(self._numbers))

    def send(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        """Send without an answer. What cannot be sent now is dropped: callers only send what the
        server will ask for again."""
        route = self.choose()
        if route is not None:
            route.connection.write(nats.publish(subject, payload, reply=reply))

    def _on_shaken(self, connection: Connection | None) -> None:
        del connection
        if self.is_connected:
            self._connected.set()
        else:
            self._connected.clear()


class _Asking:
    """One question under way, perhaps through several servers at once; the first answer counts."""

    def __init__(self, requests: Requests, subject: str, payload: bytes) -> None:
        self._requests = requests
        self._subject = subject
        self._payload = payload
        self._asked: dict[asyncio.Future[Reply], tuple[Route, str]] = {}

    async def until_answered(self) -> Reply:
        passed_over: list[Route] = []
        refusal: Reply = NOT_CONNECTED
        wait_s = REPEAT_AFTER_S
        while True:
            route = self._requests.choose(passed_over)
            if route is None and not self._asked:
                return refusal
            if route is None:
                passed_over.clear()
            elif self._send(route):
                passed_over.append(route)
            else:
                passed_over.append(route)
                continue
            heard = 0 if route is None else route.connection.heard
            answered, _ = await asyncio.wait(
                self._asked, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
            )
            for reply in answered:
                self._forget(reply)
                said = reply.result()
                if isinstance(said, bytes):
                    return said
                refusal = said
            if not answered:
                wait_s = min(2.0 * wait_s, REPEAT_MOST_S)
                if route is not None and route.connection.heard == heard:
                    route.connection.doubt()

    def end(self) -> None:
        for reply in tuple(self._asked):
            self._forget(reply)

    def _send(self, route: Route) -> bool:
        number = self._requests.new_number()
        said = nats.publish(self._subject, self._payload, reply=f"{route.inbox}.r.{number}")
        if not route.connection.write(said):
            return False
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        route.pending[number] = reply
        self._asked[reply] = (route, number)
        return True

    def _forget(self, reply: asyncio.Future[Reply]) -> None:
        route, number = self._asked.pop(reply)
        route.pending.pop(number, None)
