"""Joins the network, its file and the waiting: what the HTTP edges call.

Everything that changes goes the same way: the network decides, the journal writes, and only then is
it applied, answered and shown. There is one timer for all that is due, and no task for a message.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from trunkline.kernel import Clock
from trunkline.protocols.simulated import Answer, Item, Submission, encode_answer
from trunkline.simulator.behaviour import Behaviour
from trunkline.simulator.entries import Delivered, InboundSent, encode_entry
from trunkline.simulator.journal import Journal
from trunkline.simulator.network import Network, Release, Step

TIMER_STEP_S: Final = 0.001
"""The event loop's timers count whole milliseconds; shorter waits would only spin."""
BEHAVIOURS_MAX: Final = 10_000
"""Numbers with a behaviour of their own."""


class Bell:
    """Wakes everybody who waits for something to happen."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Return at the next ring, or after `seconds`."""
        event = self._event
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass


class AnswerStream:
    """The lines for one post of submissions, as they are decided."""

    __slots__ = ("_bell", "_lines", "remaining")

    def __init__(self, submissions: int) -> None:
        self.remaining = submissions
        self._lines: list[bytes] = []
        self._bell = asyncio.Event()

    def put(self, answer: Answer | None) -> None:
        self.remaining -= 1
        if answer is not None:
            self._lines.append(encode_answer(answer))
        self._bell.set()

    async def read(self) -> tuple[bytes, bool]:
        """The lines since the last call, as soon as there is one, and whether more will come.

        A post without any answer reads as no bytes and no more.
        """
        while not self._lines and self.remaining:
            self._bell.clear()
            await self._bell.wait()
        lines, self._lines = b"".join(self._lines), []
        return lines, self.remaining > 0


class Exchange:
    """The running network. Made and used inside one event loop."""

    def __init__(self, *, network: Network, journal: Journal, clock: Clock) -> None:
        self.network = network
        self._journal = journal
        self._clock = clock
        self._streams: dict[int, AnswerStream] = {}
        self._tickets = 0
        self._items = Bell()
        self._deliveries = Bell()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._is_stopping = False

    @property
    def is_full(self) -> bool:
        """Whether the disk is behind, and submissions must be turned away."""
        return self._journal.is_full

    def start(self, pid: int) -> None:
        """Write that a process took over, and set the timer for what the file said is due."""
        self._commit(self.network.start(pid, wall=self._clock.wall()))
        self._arm()

    def stop(self) -> None:
        """Let go of everybody who waits; polls answer at once from now on."""
        self._is_stopping = True
        if self._timer is not None:
            self._timer.cancel()
        self._items.ring()
        self._deliveries.ring()

    def submit(self, bind: str, submissions: Sequence[Submission]) -> AnswerStream:
        """Hand submissions to the network; the answers come out of the stream once written."""
        self._tickets += 1
        stream = self._streams[self._tickets] = AnswerStream(len(submissions))
        step = self.network.submit(
            self._tickets,
            bind,
            submissions,
            now=self._clock.monotonic(),
            wall=self._clock.wall(),
        )
        self._commit(step)
        return stream

    async def items(
        self, bind: str, items_max: int, wait_s: float, is_gone: Callable[[], Awaitable[bool]]
    ) -> Sequence[Item]:
        """Receipts and handsets' messages for a bind; empty after `wait_s` without one.

        A dead host's poll must not take what a live host is waiting for: hence `is_gone`.
        """
        until = self._clock.monotonic() + wait_s
        while not await is_gone():
            now = self._clock.monotonic()
            items, step = self.network.offer(bind, items_max, now=now, wall=self._clock.wall())
            if items:
                self._commit(step)
                self._arm()
                return items
            if now >= until or self._is_stopping:
                break
            await self._items.wait(until - now)
        return []

    async def acknowledge(self, item_ids: Sequence[str]) -> None:
        """Returns when it is written down."""
        step = self.network.acknowledge(
            item_ids, now=self._clock.monotonic(), wall=self._clock.wall()
        )
        if step.entries:
            await self._committed(step)

    async def send(
        self, sender: str, recipient: str, text: str, media_urls: Sequence[str]
    ) -> InboundSent:
        """Send from a handset; returns when it is written down."""
        sent, step = self.network.send(sender, recipient, text, media_urls, wall=self._clock.wall())
        await self._committed(step)
        return sent

    async def messages(
        self, number: str, *, after: int, limit: int, wait_s: float
    ) -> Sequence[Delivered]:
        """What a handset received behind `after`; waits up to `wait_s` for the first."""
        until = self._clock.monotonic() + wait_s
        while True:
            messages = self.network.handsets.messages(number, after=after, limit=limit)
            remaining_s = until - self._clock.monotonic()
            if messages or remaining_s <= 0 or self._is_stopping:
                return messages
            await self._deliveries.wait(remaining_s)

    def has_room_for_behaviour(self, number: str) -> bool:
        behaviours = self.network.behaviours
        return number in behaviours or len(behaviours) < BEHAVIOURS_MAX

    async def behave(self, number: str, behaviour: Behaviour | None) -> None:
        """Change a behaviour; returns when it is written down and in force."""
        await self._committed(self.network.behave(number, behaviour, wall=self._clock.wall()))

    async def _committed(self, step: Step) -> None:
        done = asyncio.Event()
        self._commit(step, done.set)
        await done.wait()

    def _commit(self, step: Step, then: Callable[[], None] | None = None) -> None:
        """Write the step; once it is on the disk apply it, let its answers out and call `then`."""

        def durable() -> None:
            self._apply(step)
            if then is not None:
                then()

        self._journal.append(b"".join(map(encode_entry, step.entries)), durable)

    def _apply(self, step: Step) -> None:
        now, wall = self._clock.monotonic(), self._clock.wall()
        delivered = self.network.handsets.delivered
        for entry in step.entries:
            self.network.apply(entry, now=now, wall=wall)
        for release in step.releases:
            self._let_out(release)
        if self.network.handsets.delivered != delivered:
            self._deliveries.ring()
        if self.network.offers.has_ready(now=now):
            self._items.ring()
        self._arm()

    def _let_out(self, release: Release) -> None:
        stream = self._streams[release.ticket]
        stream.put(release.answer)
        if not stream.remaining:
            del self._streams[release.ticket]

    def _arm(self) -> None:
        """Have `_on_timer` called when the next thing is due."""
        due = self.network.next_deadline()
        if due is None or self._is_stopping:
            return
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        delay_s = max(due - self._clock.monotonic(), TIMER_STEP_S)
        self._timer_at = due
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        step = self.network.on_deadline(now=now, wall=self._clock.wall())
        if step.entries:
            self._commit(step)
        if self.network.offers.has_ready(now=now):
            self._items.ring()
        self._arm()
