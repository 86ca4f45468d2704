"""Request and reply over one inbox of the connection.

A request that was not answered is `Unanswered`; one that surely was not received is `NotReceived`:
the server said at once that nobody listens, or there was no connection to send it on.
"""

import asyncio
import itertools
import random
from dataclasses import dataclass
from typing import Final

from trunkline.kernel import Clock, Deadline, Failed, Pool, PoolLimits
from trunkline.log.engines.jetstream.connection import Connection
from trunkline.protocols import nats

REQUEST_MAX_S: Final = 10.0
"""The longest any request may ask to wait; publishes ask for far less."""

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


class Requests:
    """The process's questions to the log server. `prefix` makes its inboxes its own."""

    def __init__(
        self, connection: Connection, *, prefix: str, clock: Clock, rng: random.Random
    ) -> None:
        self.connection = connection
        self._clock = clock
        self._numbers = itertools.count(1)
        self._inboxes = itertools.count(1)
        self._name = prefix
        self._prefix = f"_INBOX.{prefix}"
        self._pending: dict[str, asyncio.Future[Reply]] = {}
        # One server for now, tried once: what a shard did not answer is for the append to decide.
        self._pool = Pool(
            "log",
            [connection],
            limits=PoolLimits(try_timeout_s=REQUEST_MAX_S, tries_max=1),
            clock=clock,
            rng=rng,
        )
        connection.subscribe(f"{self._prefix}.r.*", self._on_reply)
        connection.when_lost(self._fail_pending)

    def pools(self) -> tuple[Pool[Connection], ...]:
        """For who counts."""
        return (self._pool,)

    def new_inbox(self) -> str:
        return f"{self._prefix}.{next(self._inboxes)}"

    def new_name(self) -> str:
        """For what the server keeps on behalf of this process."""
        return f"{self._name}-{next(self._inboxes)}"

    async def request(
        self, subject: str, payload: bytes = b"", *, header_block: bytes = b"", timeout_s: float
    ) -> Reply:
        """Send and wait. Never raises for what a server or a network can do."""
        size = len(payload) + len(header_block)
        if self.connection.is_connected and size > self.connection.payload_bytes_max:
            return NotReceived(f"{size} bytes are more than the log takes in one message")
        number = str(next(self._numbers))
        said = nats.publish(
            subject, payload, reply=f"{self._prefix}.r.{number}", header_block=header_block
        )
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        async def act(connection: Connection, bound_s: float) -> Reply:
            del bound_s  # the pool keeps to it
            if not connection.write(said):
                return NotReceived("not connected to the log server")
            self._pending[number] = reply
            return await reply

        deadline = Deadline.after(timeout_s, self._clock)
        try:
            answer = await self._pool.call(act, deadline=deadline, is_repeatable=False)
        finally:
            self._pending.pop(number, None)
        return Unanswered(answer.reason) if isinstance(answer, Failed) else answer

    def send(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        """Send without an answer. What cannot be sent now is dropped: callers only send what the
        server will ask for again."""
        self.connection.write(nats.publish(subject, payload, reply=reply))

    def _on_reply(self, message: nats.Message) -> None:
        reply = self._pending.get(message.subject.rpartition(".")[2])
        if reply is None or reply.done():
            return
        if message.status == NO_RESPONDERS:
            reply.set_result(NotReceived("nobody answers for this shard"))
        else:
            reply.set_result(message.payload)

    def _fail_pending(self) -> None:
        for reply in self._pending.values():
            if not reply.done():
                reply.set_result(Unanswered("the connection to the log server was lost"))
