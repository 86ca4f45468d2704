"""One connection to one log server: kept up by `run`, written to once a turn of the loop.

Everything said in the same turn leaves in one write, which is most of what makes a small message
cheap. Callbacks are plain functions: what a message means is decided at once, without a task.

A server may freeze with its connections open. So it is asked all the time whether it is there: one
that owes an answer is doubted, and others are preferred to it; one that owes it for longer is
given up, and connected to again.
"""

import asyncio
import contextlib
import itertools
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

import structlog

from trunkline.kernel import Clock
from trunkline.log.interface import LogUnavailable
from trunkline.protocols import nats

log: Final = structlog.get_logger(__name__)

CONNECT_TIMEOUT_S: Final = 2.0
PINGS_OUTSTANDING_MAX: Final = 2
"""A server that is silent for longer than these pings is taken for gone."""

RECONNECT_WAIT_S: Final = 0.02
"""Before the second try to connect again, and twice as long before each further one."""

PENDING_BYTES_MAX: Final = 16 * 1024 * 1024
"""What may wait for a server that reads slowly; then nothing more is taken."""

MessageSink = Callable[[nats.Message], None]


REFUSED: Final = "Authorization Violation"
"""How a server says that it does not take a token."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a server is asked whether it is there, and the most that is waited between two tries
    to connect to it."""

    ping_interval_s: float
    reconnect_most_s: float


ALONE: Final = Patience(ping_interval_s=1.0, reconnect_most_s=RECONNECT_WAIT_S)
"""With the only server there is nothing to gain by giving it up sooner, and all by its return."""

ONE_OF_SEVERAL: Final = Patience(ping_interval_s=0.25, reconnect_most_s=0.5)
"""A frozen server is doubted within half a second, and given up a quarter of a second later. Four
questions a second to each of three servers cost less than a thousandth of a core."""


class Connection:
    """Use `run` in a task group, perhaps after `open`; `close` ends both."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        former: Sequence[str] = (),
        clock: Clock,
        patience: Patience = ALONE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 4222
        self._tokens = deque((token, *former))
        """The one that was accepted last comes first."""
        self._clock = clock
        self._patience = patience
        self._tls = tls
        self.server = ""
        """The server's name, once it has greeted."""
        self.heard = 0
        """How often anything came from the server. It only grows."""
        self.is_well = False
        """Whether the server is connected, and owes no answer."""
        self._link: _Link | None = None
        self._sids = itertools.count(1)
        self._sinks: dict[int, tuple[str, MessageSink]] = {}
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._closing = False
        self._when_lost: list[Callable[[], None]] = []
        self._when_shaken: list[Callable[[Connection], None]] = []

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    async def open(self) -> None:
        """Connect for the first time. Raises `LogUnavailable`."""
        try:
            await self._connect()
        except (OSError, TimeoutError) as error:
            raise LogUnavailable(
                f"the log server at {self._host}:{self._port} did not answer: {error}"
            ) from error

    async def run(self) -> None:
        """Until closed: ask the server whether it is there, and connect again when it is not."""
        was_connected = self.is_connected
        wait_s = 0.0
        while not self._closing:
            if self.is_connected:
                await self._watch()
                wait_s = 0.0
                continue
            await self._clock.sleep(wait_s)
            wait_s = min(max(2.0 * wait_s, RECONNECT_WAIT_S), self._patience.reconnect_most_s)
            with contextlib.suppress(OSError, TimeoutError):
                await self._connect()
                if was_connected:
                    log.info("log.reconnected", server=self.server)
                was_connected = True
                self._tell_shaken()

    def doubt(self) -> None:
        """The server did not answer something in time. It is asked whether it is there, and not
        `is_well` until it says anything at all."""
        if self.is_well and self._link is not None:
            self.is_well = False
            self._link.write(nats.PING)

    def close(self) -> None:
        self._closing = True
        if self._link is not None:
            self._link.abandon()
        self._lost.set()

    def write(self, data: bytes) -> bool:
        """Whether it will be sent if the connection holds; False if surely nothing was."""
        return self._link is not None and self._connected.is_set() and self._link.write(data)

    @property
    def payload_bytes_max(self) -> int:
        """What the server takes as headers and payload of one message; it hangs up on more."""
        return self._link.payload_bytes_max if self._link is not None else 0

    def subscribe(self, subject: str, sink: MessageSink) -> int:
        """Hand every message on `subject` to `sink`, over reconnections too."""
        sid = next(self._sids)
        self._sinks[sid] = (subject, sink)
        self.write(nats.subscribe(subject, sid))
        return sid

    def unsubscribe(self, sid: int) -> None:
        if self._sinks.pop(sid, None) is not None:
            self.write(nats.unsubscribe(sid))

    def when_lost(self, listener: Callable[[], None]) -> None:
        self._when_lost.append(listener)

    def when_shaken(self, listener: "Callable[[Connection], None]") -> Callable[[], None]:
        """Tell of each time the server was lost, or given up, or is back: what it kept open for this
        process may be gone. Not of each doubt, of which a server that is overrun gives many. Gives
        what ends it, which must be called once."""
        self._when_shaken.append(listener)
        return lambda: self._when_shaken.remove(listener)

    async def _connect(self) -> None:
        """With each token in turn, for as long as it is only that the server refuses."""
        for left in reversed(range(len(self._tokens))):
            try:
                await self._connect_with(self._tokens[0])
                return
            except OSError as error:
                if not left or REFUSED not in str(error):
                    raise
            self._tokens.rotate(-1)

    async def _connect_with(self, token: str) -> None:
        loop = asyncio.get_running_loop()
        link = _Link(self._on_message, self._on_heard, self._on_lost)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.create_connection(lambda: link, self._host, self._port, ssl=self._tls)
                await link.greet(token)
        except BaseException:
            link.abandon()
            raise
        if self._closing:
            link.abandon()
            return
        self._link = link
        self.server = link.server
        self._lost.clear()
        self._connected.set()
        self.is_well = True
        for sid, (subject, _) in self._sinks.items():
            link.write(nats.subscribe(subject, sid))

    async def _watch(self) -> None:
        """Return when the connection is lost, or the server has been silent for too long."""
        while not self._lost.is_set():
            try:
                async with asyncio.timeout(self._patience.ping_interval_s):
                    await self._lost.wait()
            except TimeoutError:
                if self._link is not None:
                    self._look_after(self._link)

    def _look_after(self, link: "_Link") -> None:
        if link.pings_out:
            self.doubt()
        if not link.ping():
            log.warning("log.server_silent", server=self.server)
            link.abandon()

    def _on_message(self, message: nats.Message) -> None:
        known = self._sinks.get(message.sid)
        if known is not None:
            known[1](message)

    def _on_heard(self) -> None:
        self.heard += 1
        if not self.is_well and self._connected.is_set():
            self.is_well = True

    def _on_lost(self, link: "_Link") -> None:
        if link is not self._link:
            return
        self._connected.clear()
        self.is_well = False
        self._lost.set()
        for listener in tuple(self._when_lost):
            listener()
        self._tell_shaken()

    def _tell_shaken(self) -> None:
        for listener in tuple(self._when_shaken):
            listener(self)


class _Link(asyncio.Protocol):
    """One TCP connection, from its greeting to its end."""

    def __init__(
        self,
        sink: MessageSink,
        on_heard: Callable[[], None],
        on_lost: Callable[["_Link"], None],
    ) -> None:
        self._sink = sink
        self._on_heard = on_heard
        self._on_lost = on_lost
        self._parser = nats.Parser()
        self._transport: asyncio.Transport | None = None
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._informed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._said: list[bytes] = []
        self.payload_bytes_max = 0
        self.server = ""
        self.pings_out = 0
        self._is_lost = False

    async def greet(self, token: str) -> None:
        """Raises `OSError` with the server's words if it does not take us."""
        await self._informed
        self.write(nats.connect(token, "trunkline"))
        await self._greeted

    def write(self, data: bytes) -> bool:
        transport = self._transport
        if self._is_lost or transport is None:
            return False
        if not self._said:
            if transport.get_write_buffer_size() > PENDING_BYTES_MAX:
                return False
            asyncio.get_running_loop().call_soon(self._flush)
        self._said.append(data)
        return True

    def ping(self) -> bool:
        """Ask; False when earlier questions are still unanswered."""
        if self.pings_out >= PINGS_OUTSTANDING_MAX:
            return False
        self.pings_out += 1
        self.write(nats.PING)
        return True

    def abandon(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()
        self._end(OSError("the connection was given up"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every loop's transports are asyncio's own classes; those of a stream do what it says.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.pings_out = 0  # whoever speaks is there
        self._on_heard()
        try:
            for event in self._parser.receive(data):
                self._take(event)
        except nats.NatsProtocolError as error:
            log.error(  # noqa: TRY400 - the text says it all
                "log.protocol_error", server=self.server, error=str(error)
            )
            self.abandon()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(OSError(f"the connection was lost: {exc}" if exc else "the server hung up"))

    def _take(self, event: nats.Event) -> None:
        match event:
            case nats.Message():
                self._sink(event)
            case nats.Ping():
                self.write(nats.PONG)
            case nats.Pong():
                if not self._greeted.done():
                    self._greeted.set_result(None)
            case nats.Info(max_payload=max_payload, server=server):
                self.payload_bytes_max, self.server = max_payload, server
                if not self._informed.done():
                    self._informed.set_result(None)
            case nats.ServerError(text=text):
                log.warning("log.server_error", server=self.server, text=text)
                self._fail_greeting(OSError(text))

    def _flush(self) -> None:
        if self._said and self._transport is not None and not self._is_lost:
            said, self._said = self._said, []
            self._transport.write(b"".join(said))

    def _end(self, error: OSError) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._fail_greeting(error)
            self._on_lost(self)

    def _fail_greeting(self, error: OSError) -> None:
        for awaited in (self._informed, self._greeted):
            if not awaited.done():
                awaited.set_exception(error)
                awaited.exception()  # it is told to whoever waits; nobody may
