"""Callbacks told in order: each step of a resource at least once, and the next only behind it.

What is to be told, and where it is written down that it was, belongs to a `Planner`; this module
knows nothing of messages. `notify` is called by whoever holds the log delivery that made something
tellable, and keeps that delivery unanswered meanwhile: if this process dies, the same steps are
told again, with the same tokens, by another. Told on two hosts at once, a receiver still sees each
step for the first time in order, because each of them goes on only behind an answer.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol, assert_never

from trunkline.kernel import Backoff, Clock, Deadline, Open
from trunkline.kernel.crash import CrashHere, CrashPoint, never_crash
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

RETRY_BASE_S: Final = 0.5
RETRY_CAP_S: Final = 30.0
RETRY_WINDOW_S: Final = 4 * 3600.0
"""How long one step is tried before it is given up, counted in each process that tries."""
HOLD_MAX_S: Final = 40.0
"""A delivery goes back before the log's bound on work (60 s), a last try of 15 s included."""
PAUSE_MAX_S: Final = 0.5
"""How soon a waiting notification notices that it should end."""
TRIES_MAX: Final = 512
"""Requests under way at once, to all receivers together."""
TROUBLES_REMEMBERED_MAX: Final = 65_536
"""Steps whose tries are remembered from one notification to the next."""


@dataclass(frozen=True, slots=True)
class Step:
    """One callback. `token` is the same on every repeat; `name` is for the planner."""

    name: str
    params: tuple[tuple[str, str], ...]
    token: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be told about one resource, in order. `auth_token` signs it."""

    account: str
    auth_token: str
    url: str
    method: Method
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class StepResult:
    """How telling ended. Without `is_given_up` the application answered, perhaps with an error,
    or its URL can never be asked; `error_code` is Twilio's for anything but a success."""

    attempts: int
    http_status: int | None = None
    error_code: int | None = None
    is_given_up: bool = False


class Planner(Protocol):
    """What the owner of the resources says and writes down."""

    def plan(self, sid: str) -> Plan | None:
        """What has not been told yet; `None` or no steps if nothing. Called often; must be quick."""

    async def on_told(self, sid: str, step: Step, result: StepResult) -> None:
        """`step` is done: write it down, and leave it out of the next plan."""


class Notified(Enum):
    """What became of a notification."""

    SETTLED = auto()
    """Everything is told or given up, or there was nothing."""
    LATER = auto()
    """The receiver is unwell; notify again after a while."""


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
        self._planner = planner
        self._client = client
        self._clock = clock
        self._crash_here = crash_here
        self._backoff = Backoff(RETRY_BASE_S, RETRY_CAP_S, rng)
        self._receivers = Receivers(clock)
        self._tries = asyncio.Semaphore(TRIES_MAX)
        self._turns: dict[str, _Turn] = {}
        self._troubles: OrderedDict[str, _Trouble] = OrderedDict()
        self._draining = False

    def drain(self) -> None:
        """Try nothing again: what an application did not take yet goes back to the log."""
        self._draining = True

    async def notify(self, sid: str) -> Notified:
        """Tell what there is to tell about `sid`. Safe to call again at any time."""
        plan = self._planner.plan(sid)
        if plan is None or not plan.steps:
            return Notified.SETTLED
        hold = Deadline.after(HOLD_MAX_S, self._clock)
        with self._receivers.hold(plan.account, plan.url) as receiver:
            if receiver is None:
                return Notified.LATER
            async with self._turn_of(sid):
                return await self._tell_all(sid, receiver, hold)

    async def _tell_all(self, sid: str, receiver: Receiver, hold: Deadline) -> Notified:
        plan = self._planner.plan(sid)  # again: others may have told some while we waited our turn
        if plan is None:
            return Notified.SETTLED
        for step in plan.steps:
            self._crash_here(CrashPoint.WEBHOOK_BEFORE_TELLING)
            result = await self._tell(plan, step, receiver, hold)
            if result is None:
                return Notified.LATER
            self._troubles.pop(step.token, None)
            self._crash_here(CrashPoint.WEBHOOK_BEFORE_TOLD)
            await self._planner.on_told(sid, step, result)
            self._crash_here(CrashPoint.TOLD_BEFORE_ACK)
        return Notified.SETTLED

    async def _tell(
        self, plan: Plan, step: Step, receiver: Receiver, hold: Deadline
    ) -> StepResult | None:
        """Try until there is a result; `None` if the delivery must go back first."""
        trouble = self._trouble_of(step)
        while True:
            answer = await self._try(plan, step, receiver, hold)
            if answer is None:
                return None
            if isinstance(answer, Open):
                # Nobody was asked. Who waits here is the next one to find out whether it is back.
                result, delay_s = None, answer.retry_after_s
                answer = Unreachable(
                    "it has failed so often that it was spared", HTTP_RETRIEVAL_FAILURE
                )
            else:
                trouble.attempts += 1
                result = result_of(answer, attempts=trouble.attempts)
                delay_s = self._backoff.delay_s(trouble.attempts - 1)
            if result is None and self._clock.monotonic() - trouble.since >= RETRY_WINDOW_S:
                result = given_up(answer, attempts=trouble.attempts)
            if result is not None:
                return result
            if receiver.is_crowded or delay_s >= hold.remaining_s():
                return None
            await self._pause(delay_s)
            if self._draining:
                return None

    async def _pause(self, seconds: float) -> None:
        """Wait, but not much longer once there is a wish to end."""
        pause = Deadline.after(seconds, self._clock)
        while not pause.has_passed() and not self._draining:
            await self._clock.sleep(min(PAUSE_MAX_S, pause.remaining_s()))

    async def _try(
        self, plan: Plan, step: Step, receiver: Receiver, hold: Deadline
    ) -> WebhookAnswer | Open | None:
        """One request; `Open` if the receiver is spared it; `None` if it fell ill, or time ran out,
        while we waited for it."""
        request = WebhookRequest(
            plan.url, plan.method, step.params, plan.auth_token, step.token, step.headers
        )
        async with receiver.tries, self._tries:
            if receiver.is_crowded or hold.has_passed():
                return None
            started = self._clock.monotonic()
            deadline = Deadline.after(WEBHOOK_DEADLINE_S, self._clock)
            answer = await self._receivers.ask(
                lambda: self._client.send(request, deadline=deadline),
                account=plan.account,
                url=plan.url,
            )
            if isinstance(answer, Open):
                return answer
            receiver.note(
                is_success=result_of(answer, attempts=1) is not None,
                took_s=self._clock.monotonic() - started,
            )
            return answer

    def _trouble_of(self, step: Step) -> "_Trouble":
        """What is remembered of earlier tries; without it a returned delivery would be retried
        for ever."""
        trouble = self._troubles.setdefault(step.token, _Trouble(self._clock.monotonic()))
        self._troubles.move_to_end(step.token)
        if len(self._troubles) > TROUBLES_REMEMBERED_MAX:
            self._troubles.popitem(last=False)
        return trouble

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
            return StepResult(attempts, status, HTTP_RETRIEVAL_FAILURE)
        case Unreachable(error_code=error_code):
            if error_code == URL_INVALID:
                return StepResult(attempts, error_code=error_code)
            return None
        case other:
            assert_never(other)


def given_up(answer: WebhookAnswer, *, attempts: int) -> StepResult:
    """The result when there will be no further try."""
    match answer:
        case Answered(status=status):
            return StepResult(attempts, status, HTTP_RETRIEVAL_FAILURE, is_given_up=True)
        case Unreachable(error_code=error_code):
            return StepResult(attempts, None, error_code, is_given_up=True)
        case other:
            assert_never(other)


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock
    takers: int = 0


@dataclass(slots=True)
class _Trouble:
    """Tries at one step: since when, and how many."""

    since: float
    attempts: int = 0
