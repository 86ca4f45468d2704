"""What hosts tell one another that nobody stores: sent through every server, given on once.

A message goes out through every connection and is listened for on every connection, so that it
arrives while any one server that both ends are connected to is there. Each carries its sender and a
number in front, by which the copies are known.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Final

from trunkline.log.engines.jetstream.requests import Requests
from trunkline.protocols import nats

SENDER_BYTES: Final = 8
NUMBER_BYTES: Final = 8
HEAD_BYTES: Final = SENDER_BYTES + NUMBER_BYTES

WINDOW: Final = 256
"""How far a message may come behind a later one of its sender; older ones are dropped. Copies are
apart by as much as a server that froze and went on held them back."""

SENDERS_MAX: Final = 256
"""Of so many senders it is known what they sent; the one that was silent longest is forgotten."""


class JetStreamBus:
    """Implements `Bus`. `sender` is this process's alone."""

    def __init__(self, requests: Requests, sender: bytes) -> None:
        self._routes = requests.routes
        self._sender = sender
        self._numbers = itertools.count(1)

    def send(self, subject: str, payload: bytes) -> bool:
        head = self._sender + next(self._numbers).to_bytes(NUMBER_BYTES, "big")
        said = nats.publish(subject, head + payload)
        return any([route.connection.write(said) for route in self._routes])  # noqa: C419 - to all

    def subscribe(self, subject: str, sink: Callable[[str, bytes], None]) -> Callable[[], None]:
        once = Once()

        def receive(message: nats.Message) -> None:
            payload = message.payload
            if len(payload) >= HEAD_BYTES and once.is_first(
                payload[:SENDER_BYTES], int.from_bytes(payload[SENDER_BYTES:HEAD_BYTES], "big")
            ):
                sink(message.subject, payload[HEAD_BYTES:])

        ends = [
            functools.partial(
                route.connection.unsubscribe, route.connection.subscribe(subject, receive)
            )
            for route in self._routes
        ]

        def end() -> None:
            for each in ends:
                each()

        return end


class Once:
    """Which numbers came from which sender, each of whom counts upwards."""

    def __init__(self) -> None:
        self._came: dict[bytes, tuple[int, int]] = {}
        """Of each sender the highest number, and a bit for each of the `WINDOW` up to it."""

    def is_first(self, sender: bytes, number: int) -> bool:
        """Whether it did not come before, and is not too old to know."""
        highest, bits = self._came.pop(sender, (number - 1, 0))
        ahead = number - highest
        if ahead > 0:
            highest, bits = number, ((bits << ahead) & ((1 << WINDOW) - 1)) if ahead < WINDOW else 0
            is_first = True
        else:
            is_first = -ahead < WINDOW and not bits >> -ahead & 1
        if is_first:
            bits |= 1 << (highest - number)
        self._came[sender] = (highest, bits)
        if len(self._came) > SENDERS_MAX:
            del self._came[next(iter(self._came))]
        return is_first
