"""Callbacks told in order: each step of a resource at least once, and the next only behind it.

What is to be told, and where it is written down that it was, belongs to a `Planner`; this module
knows nothing of messages. `notify` makes one try, and says when the next one makes sense; what waits
meanwhile is whoever's who keeps the plans, and nothing is held in hand for it. Told on two hosts at
once, a receiver still sees each step for the first time in order, because each of them goes on only
behind an answer.

How long is waited between two tries, and when a step is given up, follows from the age of the step:
so a host that takes over goes on where another one died.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

from trunkline.domain.callback import receiver_of
from trunkline.kernel import Clock, Deadline, Open
from trunkline.kernel.crash import CrashHere, CrashPoint, never_crash
from trunkline.log.clock_check import Ages
from trunkline.webhooks.client import (
    HTTP_RETRIEVAL_FAILURE,
    URL_INVALID,
    WEBHOOK_DEADLINE_S,
    Answered,
    Method,
    Unreachable,
    WebhookAnswer,
    WebhookClient,
    WebhookRequest,
)
from trunkline.webhooks.receivers import Receiver, Receivers

RETRY_LEAST_S: Final = 0.5
RETRY_MOST_S: Final = 900.0
"""Between two tries at one step that a receiver refuses while it takes others. One that is down is
asked more often, but then for all that waits for it together."""

RETRY_WINDOW_S: Final = 24 * 3600.0
"""How long after it came about one step is tried before it is given up."""

NO_ROOM_AGAIN_S: Final = 1.0
TROUBLES_REMEMBERED_MAX: Final = 65_536
"""Resources whose last try failed. Forgetting one costs its receiver an early try."""


@dataclass(frozen=True, slots=True)
class Step:
    """One callback. `token` is the same on every repeat; `name` is for the planner. It came about at
    `since`, in seconds since the epoch."""

    name: str
    params: tuple[tuple[str, str], ...]
    token: str
    since: float
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be told about one resource, in order. `auth_token` signs it."""

    account: str
    auth_token: str
    url: str
    method: Method
    steps: tuple[Step, ...]

    def request(self, step: Step) -> WebhookRequest:
        """The same for every try."""
        return WebhookRequest(
            self.url, self.method, step.params, self.auth_token, step.token, step.headers
        )


@dataclass(frozen=True, slots=True)
class StepResult:
    """How telling ended, after so many tries of this process. Without `is_given_up` the application
    answered, perhaps with an error, or its URL can never be asked; `error_code` is Twilio's for
    anything but a success, and `reason` says more."""

    attempts: int
    http_status: int | None = None
    error_code: int | None = None
    is_given_up: bool = False
    reason: str = ""


class Planner(Protocol):
    """What the owner of the resources says and writes down."""

    def plan(self, sid: str) -> Plan | None:
        """What has not been told yet; `None` or no steps if nothing. Called often; must be quick."""

    async def on_told(self, sid: str, plan: Plan, step: Step, result: StepResult) -> None:
        """`step` is done: write it down, and leave it out of the next plan."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Everything is told or given up, or there was nothing."""


@dataclass(frozen=True, slots=True)
class Later:
    """It is not to be tried again before so long. `was_asked`: the receiver failed just now; else it
    was spared, or there was no room."""

    after_s: float
    was_asked: bool = False


Notified = Settled | Later


class CallbackDeliverer:
    """Tells what a planner plans: one resource at a time, many resources at once."""

    def __init__(
        self,
        planner: Planner,
        *,
        client: WebhookClient,
        clock: Clock,
        rng: random.Random,
        crash_here: CrashHere = never_crash,
    ) -> None:
        self.receivers = Receivers(clock)
        self._planner = planner
        self._client = client
        self._clock = clock
        self._ages = Ages(clock)
        self._rng = rng
        self._crash_here = crash_here
        self._turns: dict[str, _Turn] = {}
        self._troubles: OrderedDict[str, _Trouble] = OrderedDict()
        self._draining = False

    def drain(self) -> None:
        """Begin with no further step."""
        self._draining = True

    def due_in_s(self, sid: str, receiver: str) -> float:
        """How long the next try is to wait for the sake of this one, as far as this process remembers.
        What waits for a receiver that is down, or was, says nothing about itself."""
        trouble = self._troubles.get(sid)
        if trouble is None:
            return 0.0
        known = self.receivers.named(receiver)
        if known is not None and (known.is_down or known.recovered_at > trouble.tried_at):
            return 0.0
        return max(0.0, trouble.next_at - self._clock.monotonic())

    def is_over(self, since: float) -> bool:
        """Whether the time is over in which a step of that moment is tried."""
        return self._ages.age_s(since) >= RETRY_WINDOW_S

    async def notify(self, sid: str) -> Notified:
        """Tell what there is to tell about `sid`, each step once. Safe to call again at any time."""
        plan = self._planner.plan(sid)
        if plan is None or not plan.steps:
            self._troubles.pop(sid, None)
            return Settled()
        name = receiver_of(plan.account, plan.url)
        if self.is_over(plan.steps[0].since):
            known = self.receivers.named(name)
            if known is not None and known.failures:
                async with self._turn_of(sid):
                    return await self._tell_all(sid, known)  # which asks nobody
        else:
            wait_s = self.due_in_s(sid, name)
            if wait_s > 0.0:
                return Later(wait_s)
        with self.receivers.hold(plan.account, plan.url) as receiver:
            if receiver is None:
                return Later(NO_ROOM_AGAIN_S)
            async with self._turn_of(sid):
                return await self._tell_all(sid, receiver)

    async def _tell_all(self, sid: str, receiver: Receiver) -> Notified:
        plan = self._planner.plan(sid)  # again: others may have told some while we waited our turn
        if plan is None:
            return Settled()
        for step in plan.steps:
            if self._draining:
                return Later(NO_ROOM_AGAIN_S)
            self._crash_here(CrashPoint.WEBHOOK_BEFORE_TELLING)
            result = await self._tell(sid, plan, step, receiver)
            if isinstance(result, Later):
                return result
            self._troubles.pop(sid, None)
            self._crash_here(CrashPoint.WEBHOOK_BEFORE_TOLD)
            await self._planner.on_told(sid, plan, step, result)
            self._crash_here(CrashPoint.TOLD_BEFORE_ACK)
        return Settled()

    async def _tell(
        self, sid: str, plan: Plan, step: Step, receiver: Receiver
    ) -> StepResult | Later:
        """One try, and what it comes to."""
        trouble = self._troubles.get(sid)
        attempts = trouble.attempts if trouble is not None and trouble.token == step.token else 0
        is_over = self.is_over(step.since)
        if is_over and receiver.failures:
            return given_up(Unreachable(receiver.last_error, HTTP_RETRIEVAL_FAILURE), attempts)
        answer = await self._try(plan, step, receiver)
        if answer is None:
            return Later(NO_ROOM_AGAIN_S)
        if isinstance(answer, Open):
            spared = Unreachable(
                "it has failed so often that it was spared", HTTP_RETRIEVAL_FAILURE
            )
            return given_up(spared, attempts) if is_over else Later(answer.retry_after_s)
        attempts += 1
        result = result_of(answer, attempts=attempts)
        if result is not None:
            return result
        if is_over:
            return given_up(answer, attempts)
        delay_s = self._delay_s(step)
        now = self._clock.monotonic()
        self._remember(sid, _Trouble(step.token, attempts, tried_at=now, next_at=now + delay_s))
        return Later(delay_s, was_asked=True)

    def _delay_s(self, step: Step) -> float:
        """Up to as long as half of what the step has waited: it grows by half with each try, and is
        the same on every host."""
        most_s = min(RETRY_MOST_S, max(RETRY_LEAST_S, self._ages.age_s(step.since) / 2.0))
        left_s = RETRY_WINDOW_S - self._ages.age_s(step.since)
        return min(self._rng.uniform(0.5, 1.0) * most_s, max(RETRY_LEAST_S, left_s))

    async def _try(self, plan: Plan, step: Step, receiver: Receiver) -> WebhookAnswer | Open | None:
        """One request; `Open` if the receiver is spared it; `None` if it fell ill while we waited."""
        async with receiver.tries:
            if receiver.is_crowded:
                return None
            started = self._clock.monotonic()
            deadline = Deadline.after(WEBHOOK_DEADLINE_S, self._clock)
            answer = await self.receivers.ask(
                lambda: self._client.send(plan.request(step), deadline=deadline),
                account=plan.account,
                url=plan.url,
            )
            if not isinstance(answer, Open):
                receiver.note(
                    is_success=result_of(answer, attempts=1) is not None,
                    took_s=self._clock.monotonic() - started,
                    error=reason_of(answer),
                )
            return answer

    def _remember(self, sid: str, trouble: "_Trouble") -> None:
        self._troubles[sid] = trouble
        self._troubles.move_to_end(sid)
        if len(self._troubles) > TROUBLES_REMEMBERED_MAX:
            self._troubles.popitem(last=False)

    @asynccontextmanager
    async def _turn_of(self, sid: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(sid, _Turn(asyncio.Lock()))
        turn.takers += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.takers -= 1
            if not turn.takers:
                del self._turns[sid]


def result_of(answer: WebhookAnswer, *, attempts: int) -> StepResult | None:
    """What an answer settles; `None` if telling should be tried again."""
    match answer:
        case Answered(status=status):
            if answer.is_success:
                return StepResult(attempts, status)
            if status == 429 or status >= 500:
                return None
            return StepResult(attempts, status, HTTP_RETRIEVAL_FAILURE, reason=reason_of(answer))
        case Unreachable(reason=reason, error_code=error_code):
            if error_code == URL_INVALID:
                return StepResult(attempts, error_code=error_code, reason=reason)
            return None
        case other:
            assert_never(other)


def given_up(answer: WebhookAnswer, attempts: int) -> StepResult:
    """The result when there will be no further try."""
    reason = f"given up: {reason_of(answer)}"
    match answer:
        case Answered(status=status):
            return StepResult(
                attempts, status, HTTP_RETRIEVAL_FAILURE, is_given_up=True, reason=reason
            )
        case Unreachable(error_code=error_code):
            return StepResult(attempts, None, error_code, is_given_up=True, reason=reason)
        case other:
            assert_never(other)


def reason_of(answer: WebhookAnswer) -> str:
    """In a few words for who looks for the fault."""
    return f"answered {answer.status}" if isinstance(answer, Answered) else answer.reason


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock
    takers: int = 0


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Tries at one step that all failed, and when the next one may be made."""

    token: str
    attempts: int
    tried_at: float
    next_at: float
