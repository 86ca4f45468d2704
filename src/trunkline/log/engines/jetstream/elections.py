"""Word of new leaders, as the servers give it: who waits for one need not ask again and again."""

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from trunkline.log.engines.jetstream.requests import Requests
from trunkline.protocols import nats

SEEN_MAX: Final = 256
"""Each word comes once through each connection; of so many it is remembered that they came. When
a server dies there is one for every consumer that it led."""

_CONSUMERS: Final = "$JS.EVENT.ADVISORY.CONSUMER.LEADER_ELECTED.>"


class _Advisory(msgspec.Struct, frozen=True):
    id: str = ""
    stream: str = ""
    consumer: str = ""


_ADVISORY: Final = msgspec.json.Decoder(_Advisory)


class Elections:
    """Where there are several servers: tells who waits for a consumer that it has a leader. It is
    not promised that every word arrives."""

    def __init__(self, requests: Requests) -> None:
        self._listeners: dict[tuple[str, str], list[Callable[[], None]]] = {}
        self._seen: deque[str] = deque(maxlen=SEEN_MAX)
        if requests.has_others:
            for route in requests.routes:
                route.connection.subscribe(_CONSUMERS, self._on_advisory)

    def when_elected(
        self, stream: str, consumer: str, listener: Callable[[], None]
    ) -> Callable[[], None]:
        """Gives what ends it, which must be called once."""
        listeners = self._listeners.setdefault((stream, consumer), [])
        listeners.append(listener)

        def end() -> None:
            listeners.remove(listener)
            if not listeners:
                self._listeners.pop((stream, consumer), None)

        return end

    def _on_advisory(self, message: nats.Message) -> None:
        try:
            advisory = _ADVISORY.decode(message.payload)
        except msgspec.MsgspecError:
            return
        if advisory.id in self._seen:
            return
        self._seen.append(advisory.id)
        for listener in tuple(self._listeners.get((advisory.stream, advisory.consumer), ())):
            listener()
