"""Joins the network, its file and the waiting: what the HTTP edges call.

Everything that changes goes the same way: the network decides, the journal writes, and only then is
it applied, answered and shown. There is one timer for all that is due, and no task for a message.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from trunkline.kernel import Clock
from trunkline.protocols.simulated import Item, Submission, encode_answers
from trunkline.simulator.behaviour import Behaviour
from trunkline.simulator.entries import InboundSent, Submitted, encode_entries
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


TakeAnswers = Callable[[bytes, bool], None]
"""Is given lines of answers, and whether they are the last ones of the post."""


@dataclass(slots=True)
class _Post:
    """One post of submissions, until each is answered or withheld."""

    remaining: int
    take: TakeAnswers


@dataclass(slots=True, eq=False)
class Poll:
    """A bind that waits for items."""

    bind: str
    items_max: int
    give: Callable[[Sequence[Item]], None]
    timer: asyncio.TimerHandle | None = None


class Exchange:
    """The running network. Made and used inside one event loop."""

    def __init__(self, *, network: Network, journal: Journal, clock: Clock) -> None:
        self.network = network
        self._journal = journal
        self._clock = clock
        self._posts: dict[int, _Post] = {}
        self._tickets = 0
        self._polls: dict[Poll, None] = {}
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
        for poll in list(self._polls):
            self._give_nothing(poll)
        self._deliveries.ring()

    def submit(self, bind: str, submissions: Sequence[Submission], take: TakeAnswers) -> None:
        """Hand submissions to the network; `take` gets the answers once they are written. A post
        without any answer gets no bytes, and that they are the last."""
        self._tickets += 1
        self._posts[self._tickets] = _Post(len(submissions), take)
        step = self.network.submit(
            self._tickets,
            bind,
            submissions,
            now=self._clock.monotonic(),
            wall=self._clock.wall(),
        )
        self._commit(step)

    def poll(
        self, bind: str, items_max: int, wait_s: float, give: Callable[[Sequence[Item]], None]
    ) -> Poll:
        """Call `give` once: with receipts and handsets' messages for a bind as soon as there are
        any, or with none after `wait_s`. Of several polls the oldest comes first."""
        poll = Poll(bind, items_max, give)
        self._polls[poll] = None
        self._serve_polls()
        if poll in self._polls:
            if wait_s <= 0.0 or self._is_stopping:
                self._give_nothing(poll)
            else:
                loop = asyncio.get_running_loop()
                poll.timer = loop.call_later(wait_s, self._give_nothing, poll)
        return poll

    def turns_away(self, bind: str, attempt: int) -> bool:
        """Whether a bind's poll, its `attempt`-th try at it, is to get an error."""
        step = self.network.turn_away(bind, attempt, wall=self._clock.wall())
        if step is not None:
            self._journal.append(encode_entries(step.entries))
        return step is not None

    def hang_up(self, poll: Poll) -> None:
        """Give nothing to a poll whose host is gone: a live one may be waiting for it."""
        self._polls.pop(poll, None)
        if poll.timer is not None:
            poll.timer.cancel()

    def acknowledge(self, item_ids: Sequence[str], then: Callable[[], None]) -> None:
        """Calls `then` when it is written down."""
        step = self.network.acknowledge(
            item_ids, now=self._clock.monotonic(), wall=self._clock.wall()
        )
        if step.entries:
            self._commit(step, then)
        else:
            then()

    async def send(
        self, sender: str, recipient: str, text: str, media_urls: Sequence[str]
    ) -> InboundSent:
        """Send from a handset; returns when it is written down."""
        sent, step = self.network.send(sender, recipient, text, media_urls, wall=self._clock.wall())
        await self._committed(step)
        return sent

    async def messages(
        self, number: str, *, after: int, limit: int, wait_s: float
    ) -> Sequence[Submitted]:
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

        self._journal.append(encode_entries(step.entries), durable)

    def _apply(self, step: Step) -> None:
        now, wall = self._clock.monotonic(), self._clock.wall()
        delivered = self.network.handsets.delivered
        for entry in step.entries:
            self.network.apply(entry, now=now, wall=wall)
        for release in step.releases:
            self._let_out(release)
        if self.network.handsets.delivered != delivered:
            self._deliveries.ring()
        self._serve_polls()
        self._arm()

    def _let_out(self, release: Release) -> None:
        post = self._posts[release.ticket]
        post.remaining -= len(release.answers) + release.withheld
        is_last = not post.remaining
        if is_last:
            del self._posts[release.ticket]
        if release.answers or is_last:
            post.take(encode_answers(release.answers), is_last)

    def _serve_polls(self) -> None:
        now = self._clock.monotonic()
        while self._polls and self.network.offers.has_ready(now=now):
            poll = next(iter(self._polls))
            self.hang_up(poll)
            items, step = self.network.offer(
                poll.bind, poll.items_max, now=now, wall=self._clock.wall()
            )
            # An offer that is forgotten is made again, so nobody waits for the disk.
            self._journal.append(encode_entries(step.entries))
            poll.give(items)
            self._arm()

    def _give_nothing(self, poll: Poll) -> None:
        self.hang_up(poll)
        poll.give(())

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
        self._serve_polls()
        self._arm()
