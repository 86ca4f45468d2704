"""What a server takes on: so much at once, the important first, and nothing nobody waits for.

Work beyond the limit waits, a tenth of a second at most, and leaves the queue by priority. What
expired in the queue is dropped when its turn comes: a server that does expired work first never
catches up, however long the overload is over.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final, TypeVar, assert_never

from trunkline.kernel.clock import Clock
from trunkline.kernel.deadline import Deadline
from trunkline.kernel.gradient import Gradient

Answer = TypeVar("Answer")

QUEUE_WAIT_S: Final = 0.1
"""What waited longer would have been better sent to another replica."""
QUEUE_MAX: Final = 1000
"""Waiting works that may be shed, of all priorities together."""
RETRY_AFTER_S: Final = 1.0


class Priority(IntEnum):
    """Lower goes first. The first two are never shed: delaying them holds back whoever sends."""

    LIVE = 0
    """Somebody waits on the line."""
    OWED = 1
    """It was promised already, or cannot be asked for again."""
    CREATE = 2
    READ = 3
    BULK = 4


SHED_FROM: Final = Priority.CREATE


class ShedReason(Enum):
    """Why a server did not do something."""

    EXPIRED = "its deadline had passed"
    WAITED = "it waited too long in the queue"
    FULL = "the queue was full"


@dataclass(frozen=True, slots=True)
class Shed:
    """Nothing was done. Another try before `retry_after_s` belongs on another replica."""

    reason: ShedReason
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """`in_flight_max`: twice the workers is a good start."""

    in_flight_max: int
    queue_wait_s: float = QUEUE_WAIT_S
    queue_max: int = QUEUE_MAX


@dataclass(frozen=True, slots=True)
class Admitted:
    """It may begin; `leave` must follow."""


def _nobody(_: Shed | None) -> bool:
    return False


@dataclass(slots=True, eq=False)
class Waiting:
    """A place in the queue.

    `on_turn` is told how the waiting ended, `None` being "begin", and says whether anybody is
    still there to hear it. Whoever was given the place sets it at once.
    """

    priority: Priority
    deadline_at: float
    give_up_at: float
    on_turn: Callable[[Shed | None], bool] = _nobody
    has_left: bool = False


class Admission:
    """The decision: who may begin, who waits, who is turned away. Knows no clock and no tasks."""

    def __init__(self, limits: ServerLimits) -> None:
        self.in_flight = 0
        self.in_flight_max = limits.in_flight_max
        self.shed = 0
        self._limits = limits
        self._queues: tuple[deque[Waiting], ...] = tuple(deque() for _ in Priority)
        self._sheddable = 0

    def arrive(
        self, priority: Priority, *, deadline_at: float, now: float
    ) -> Admitted | Waiting | Shed:
        """New work, whose caller waits until `deadline_at`."""
        if now >= deadline_at:
            return self._turned_away(ShedReason.EXPIRED)
        if self.in_flight < self.in_flight_max:
            self.in_flight += 1
            return Admitted()
        give_up_at = deadline_at
        if priority >= SHED_FROM:
            if self._sheddable >= self._limits.queue_max and not self._displace(priority):
                return self._turned_away(ShedReason.FULL)
            give_up_at = min(deadline_at, now + self._limits.queue_wait_s)
            self._sheddable += 1
        waiting = Waiting(priority, deadline_at, give_up_at)
        self._queues[priority].append(waiting)
        return waiting

    def leave(self, *, now: float) -> None:
        """Work that was admitted has ended: whoever is next may begin."""
        self.in_flight -= 1
        while self.in_flight < self.in_flight_max:
            waiting = self._next()
            if waiting is None:
                return
            if now >= waiting.deadline_at:
                waiting.on_turn(self._turned_away(ShedReason.EXPIRED))
            elif now >= waiting.give_up_at:
                waiting.on_turn(self._turned_away(ShedReason.WAITED))
            elif waiting.on_turn(None):
                self.in_flight += 1

    def give_up(self, waiting: Waiting, *, now: float) -> None:
        """Its time in the queue is over."""
        if not waiting.has_left:
            self.withdraw(waiting)
            is_expired = now >= waiting.deadline_at
            reason = ShedReason.EXPIRED if is_expired else ShedReason.WAITED
            waiting.on_turn(self._turned_away(reason))

    def withdraw(self, waiting: Waiting) -> None:
        """Its caller has gone; it will hear nothing. The place in the queue is skipped later."""
        if not waiting.has_left:
            self._take_out(waiting)
            queue = self._queues[waiting.priority]
            while queue and queue[0].has_left:
                queue.popleft()

    def queued(self) -> int:
        """How many wait."""
        return sum(not waiting.has_left for queue in self._queues for waiting in queue)

    def _next(self) -> Waiting | None:
        for queue in self._queues:
            while queue:
                waiting = queue.popleft()
                if not waiting.has_left:
                    self._take_out(waiting)
                    return waiting
        return None

    def _displace(self, priority: Priority) -> bool:
        """Make room for `priority` by turning away the newest of the least important, if any is
        less important."""
        for queue in reversed(self._queues[priority + 1 :]):
            while queue:
                waiting = queue.pop()
                if not waiting.has_left:
                    self._take_out(waiting)
                    waiting.on_turn(self._turned_away(ShedReason.FULL))
                    return True
        return False

    def _take_out(self, waiting: Waiting) -> None:
        waiting.has_left = True
        if waiting.priority >= SHED_FROM:
            self._sheddable -= 1

    def _turned_away(self, reason: ShedReason) -> Shed:
        self.shed += 1
        return Shed(reason, RETRY_AFTER_S)


class Limiter:
    """`Admission` for tasks of one event loop. With `gradient`, the limit follows the latency."""

    def __init__(
        self, limits: ServerLimits, *, clock: Clock, gradient: Gradient | None = None
    ) -> None:
        self._clock = clock
        self._gradient = gradient
        self._admission = Admission(limits)
        if gradient is not None:
            self._admission.in_flight_max = gradient.limit

    @property
    def in_flight(self) -> int:
        """What runs now."""
        return self._admission.in_flight

    @property
    def queued(self) -> int:
        """What waits now."""
        return self._admission.queued()

    @property
    def is_full(self) -> bool:
        """Whether new work would have to wait."""
        return self._admission.in_flight >= self._admission.in_flight_max

    async def run(
        self,
        handler: Callable[[], Awaitable[Answer]],
        *,
        priority: Priority,
        deadline: Deadline,
    ) -> Answer | Shed:
        """Run `handler` when its turn comes, or say why it was not run."""
        now = self._clock.monotonic()
        entry = self._admission.arrive(priority, deadline_at=now + deadline.remaining_s(), now=now)
        match entry:
            case Shed():
                return entry
            case Waiting():
                shed = await self._wait(entry, now)
                if shed is not None:
                    return shed
            case Admitted():
                pass
            case other:
                assert_never(other)
        return await self._run_admitted(handler)

    async def _wait(self, waiting: Waiting, now: float) -> Shed | None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Shed | None] = loop.create_future()

        def on_turn(shed: Shed | None) -> bool:
            if turn.done():
                return False
            turn.set_result(shed)
            return True

        def give_up() -> None:
            self._admission.give_up(waiting, now=waiting.give_up_at)

        waiting.on_turn = on_turn
        timer = loop.call_later(waiting.give_up_at - now, give_up)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result() is None:
                # Admitted in the same moment: somebody else must get the place.
                self._admission.leave(now=self._clock.monotonic())
            self._admission.withdraw(waiting)
            raise
        finally:
            timer.cancel()

    async def _run_admitted(self, handler: Callable[[], Awaitable[Answer]]) -> Answer:
        began = self._clock.monotonic()
        in_flight = self._admission.in_flight
        is_done = False
        try:
            answer = await handler()
            is_done = True
            return answer
        finally:
            now = self._clock.monotonic()
            if is_done and self._gradient is not None:
                self._gradient.observe(now - began, in_flight=in_flight, now=now)
                self._admission.in_flight_max = self._gradient.limit
            self._admission.leave(now=now)

    def __repr__(self) -> str:
        admission = self._admission
        return (
            f"<Limiter: {admission.in_flight} of {admission.in_flight_max} in flight, "
            f"{admission.queued()} waiting, {admission.shed} shed>"
        )
