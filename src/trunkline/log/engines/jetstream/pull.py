"""One consumer's open pull request, wherever it may be served, and what came of it.

A pull request is always open where somebody waits. It is lost without a word when the server it was
sent through, or the consumer's leader, is gone or frozen. So it is sent anew whenever a server is
lost or back, when the consumer has a new leader, and at the latest when it expires.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from trunkline.kernel import Clock
from trunkline.log.engines.jetstream import api
from trunkline.log.engines.jetstream.connection import Connection
from trunkline.log.engines.jetstream.elections import Elections
from trunkline.log.engines.jetstream.requests import Requests, Route
from trunkline.protocols import nats

PULL_EXPIRES_S: Final = 20.0
"""How long a pull request stays open at the only server; then the next one is sent."""

PULL_EXPIRES_OF_SEVERAL_S: Final = 5.0
"""The same where a consumer's leader may go, and the word of its successor be lost."""

SHARED_PULL_EXPIRES_S: Final = 0.5
"""The same where other hosts would take over: a host that freezes is given one more message for
each request that it has open, and nobody else has that one before the request is over."""

PACE_S: Final = 0.02
PACE_OF_SEVERAL_S: Final = 0.05
"""Between two requests while there is something to take: a burst costs the engine and this process
one turn instead of one for each message. It is paid only by what comes right behind something. Where
there are several servers, each burst costs every one of them, and what follows it a round of theirs.
"""

LOST_AFTER_S: Final = 1.0
"""A request for what is there is answered at once; after so long it is taken for lost."""

ASK_AGAIN_S: Final = 0.05
"""After the word that a request is not taken on, twice as long after each further one."""
ASK_AGAIN_MOST_S: Final = 0.5
REFUSALS_MAX: Final = 25
"""So many such words in a row, ten seconds, are more than an election: if nobody serves the
consumer, it is made anew."""

IDLE_HEARTBEAT: Final = 100
GONE: Final = frozenset({409, 503})
"""Statuses that end a request because there is nobody to serve it."""

TOO_MUCH: Final = "Exceeded"
"""How the description of a 409 begins that only says no to this one request."""


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Place:
    """A consumer's name, and the server that leads it where it stands on one server alone."""

    name: str
    server: str = ""


class Puller(Generic[Item]):
    """`repair` makes the consumer if it is missing, `wrap` makes of each arrival what is taken.

    `is_lasting`: the consumer stands on several servers, so that one that nobody serves has a new
    leader soon. Another one has to be made anew.
    """

    def __init__(
        self,
        requests: Requests,
        elections: Elections,
        stream: str,
        clock: Clock,
        *,
        repair: Callable[[], Awaitable[Place]],
        wrap: Callable[[nats.Message], Item],
        is_lasting: bool,
        turn_away: Callable[[nats.Message], None] | None = None,
    ) -> None:
        self.place = Place("")
        self.through = ""
        """The server that the open request was sent through."""
        self._requests = requests
        self._elections = elections
        self._stream = stream
        self._clock = clock
        self._repair = repair
        self._wrap = wrap
        self._is_lasting = is_lasting
        self._expires_s = PULL_EXPIRES_S
        self._pace_s = PACE_OF_SEVERAL_S if requests.has_others else PACE_S
        if requests.has_others:
            self._expires_s = SHARED_PULL_EXPIRES_S if turn_away else PULL_EXPIRES_OF_SEVERAL_S
        self._turn_away = turn_away
        self._is_resting = False
        self._inboxes: dict[Route, tuple[str, int]] = {}
        """On each connection that was pulled through, and its subscription there."""
        self._inbox = ""
        """Of the open request; what else still comes is taken, but its statuses say nothing."""
        self._ends: list[Callable[[], None]] = []
        self._arrived: deque[Item] = deque()
        self._arrival = asyncio.Event()
        self._open_until = 0.0
        self._wanted = 0
        self._asked_at = 0.0
        self._is_busy = False
        """Something came since the last request, so there may be more."""
        self._is_gone = False
        self._refusals = 0
        """Requests in a row that were not taken on."""
        self._not_before = 0.0

    async def start(self) -> None:
        self.place = await self._repair()
        self._ends.append(self._requests.when_shaken(self._on_shaken))
        if self._is_lasting:
            self._ends.append(
                self._elections.when_elected(self._stream, self.place.name, self.interrupt)
            )

    async def take(self, items_max: int, wait_s: float) -> list[Item]:
        """At most `items_max` messages, as soon as there is one. Raises `LogUnavailable` when the
        consumer is gone from the server and cannot be made again."""
        self._is_resting = False
        if self._is_gone:
            await self.reset()
        if not self._arrived:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    while not self._arrived and not self._is_gone:
                        await self._until_news(items_max)
        return [self._arrived.popleft() for _ in range(min(items_max, len(self._arrived)))]

    async def _until_news(self, items_max: int) -> None:
        """Until something came, or the request is over or may be lost.

        While there is nothing, a single message is asked for, which comes at once. Behind it others
        gather, and are fetched together a pace later, again and again until none is there.
        """
        if self._wanted <= 0 or self._clock.monotonic() >= self._open_until:
            if self._is_busy:
                await self._clock.sleep(self._asked_at + self._pace_s - self._clock.monotonic())
            if self._refusals:
                await self._pause()
            if self._arrived or self._is_gone:
                return
            self._ask(items_max)
        self._arrival.clear()
        await self._arrival.wait()

    async def _pause(self) -> None:
        """Until it is time to ask again, or until there is news."""
        self._arrival.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._not_before - self._clock.monotonic()):
                await self._arrival.wait()

    def interrupt(self) -> None:
        """The open request may be lost: ask again, now if somebody waits."""
        self._wanted = 0
        self._is_busy = False
        self._not_before = 0.0
        self._arrival.set()

    def give_up(self) -> None:
        """The consumer is of no use any more: the next take makes it anew."""
        self._is_gone = True
        self._arrival.set()

    async def reset(self) -> None:
        """Make the consumer anew, with inboxes of its own: what the old one still sends must not
        be taken for the new one's. What has arrived stays: it is in hand, or passed over as seen."""
        self._stop_listening()
        self.place = await self._repair()
        self._wanted = 0
        self._is_busy = False
        self._is_gone = False
        self._refusals = 0

    def rest(self) -> list[Item]:
        """What has arrived and was not taken. Until the next take, what still comes for an open
        request is turned away; no further one is made."""
        self._is_resting = True
        untaken = list(self._arrived)
        self._arrived.clear()
        return untaken

    def close(self) -> None:
        ends, self._ends = self._ends, []
        for end in ends:
            end()
        self._stop_listening()

    def _on_shaken(self, connection: Connection) -> None:
        del connection  # whichever it is: the consumer's leader may be behind it
        self.interrupt()

    def _listen_on(self, route: Route) -> str:
        known = self._inboxes.get(route)
        if known is None:
            inbox = f"{route.inbox}.{self._requests.new_name()}"
            known = inbox, route.connection.subscribe(inbox, self._on_message)
            self._inboxes[route] = known
        return known[0]

    def _stop_listening(self) -> None:
        for route, (_, sid) in self._inboxes.items():
            route.connection.unsubscribe(sid)
        self._inboxes.clear()
        self._inbox = ""

    def _ask(self, items_max: int) -> None:
        """Does nothing while there is no connection: its return is news."""
        route = self._requests.choose()
        if route is None:
            return
        if self._is_busy:
            self._wanted, payload, open_s = items_max, api.pull_present(items_max), LOST_AFTER_S
        else:
            self._wanted, payload, open_s = 1, api.pull_next(self._expires_s), self._expires_s
        self._is_busy = False
        self._asked_at = self._clock.monotonic()
        self._open_until = self._asked_at + open_s
        self._inbox = self._listen_on(route)
        self.through = route.connection.server
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self.place.name}"
        route.connection.write(nats.publish(subject, payload, reply=self._inbox))

    def _on_message(self, message: nats.Message) -> None:
        if message.status == 0:
            self._wanted -= 1
            if self._is_resting and self._turn_away is not None:
                self._turn_away(message)
                return
            self._is_busy = True
            self._refusals = 0
            self._arrived.append(self._wrap(message))
        elif message.status == IDLE_HEARTBEAT or message.subject != self._inbox:
            return
        else:
            # The request is over: it expired, was too much, or its consumer or server is gone.
            self._wanted = 0
            if message.status in GONE:
                self._on_refusal(is_gone=not message.description.startswith(TOO_MUCH))
            else:
                self._refusals = 0
        self._arrival.set()

    def _on_refusal(self, *, is_gone: bool) -> None:
        if is_gone and (not self._is_lasting or self._refusals >= REFUSALS_MAX):
            self._is_gone = True
            return
        pause_s = min(ASK_AGAIN_S * 2.0 ** min(self._refusals, REFUSALS_MAX), ASK_AGAIN_MOST_S)
        self._refusals += 1
        self._not_before = self._clock.monotonic() + pause_s
