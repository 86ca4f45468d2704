"""Telling callbacks in order, in virtual time, to applications that answer from a script."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Self, cast

import aiohttp
import pytest

from trunkline.kernel import FakeClock
from trunkline.webhooks import deliver
from trunkline.webhooks.client import WebhookClient
from trunkline.webhooks.deliver import (
    HOLD_MAX_S,
    CallbackDeliverer,
    Notified,
    Plan,
    Step,
    StepResult,
)
from trunkline.webhooks.receivers import UNWELL_IN_HAND_MAX

pytestmark = pytest.mark.anyio


def dice() -> random.Random:
    return random.Random(1)


class Application:
    """What stands in for the network: each request is given to `answer`, which says a status or
    raises what a network raises."""

    def __init__(self, answer: Callable[[str], int]) -> None:
        self.heard: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._answer = answer

    def client(self, clock: FakeClock) -> WebhookClient:
        session = cast("aiohttp.ClientSession", self)
        return WebhookClient(session_factory=lambda: session, clock=clock, rng=dice())

    def request(self, method: str, url: object, **sent: Any) -> "_Exchange":
        del method, url
        return _Exchange(self, sent)

    async def take(self, sent: dict[str, Any]) -> int:
        step = sent["data"].decode().removeprefix("Step=")
        self.heard.append((step, sent["headers"]["I-Twilio-Idempotency-Token"]))
        await self.gate.wait()
        return self._answer(step)

    @property
    def steps(self) -> list[str]:
        return [step for step, _ in self.heard]


class _Exchange:
    def __init__(self, application: Application, sent: dict[str, Any]) -> None:
        self._application = application
        self._sent = sent
        self.headers: dict[str, str] = {}
        self.content = aiohttp.EMPTY_PAYLOAD
        self.status = 0

    async def __aenter__(self) -> Self:
        self.status = await self._application.take(self._sent)
        return self

    async def __aexit__(self, *_: object) -> None:
        return


class Book:
    """A planner whose resources are lists of steps."""

    def __init__(self, **steps: list[str]) -> None:
        self.open = steps
        self.accounts: dict[str, str] = {}
        self.results: list[tuple[str, str, StepResult]] = []

    def plan(self, sid: str) -> Plan | None:
        if sid not in self.open:
            return None
        steps = tuple(
            Step(name, (("Step", name),), token=f"{sid}:{name}") for name in self.open[sid]
        )
        return Plan(self.accounts.get(sid, "AC1"), "token", "https://app.example/cb", "POST", steps)

    async def on_told(self, sid: str, step: Step, result: StepResult) -> None:
        self.open[sid].remove(step.name)
        self.results.append((sid, step.name, result))


def deliverer(book: Book, application: Application, clock: FakeClock) -> CallbackDeliverer:
    client = application.client(clock)
    return CallbackDeliverer(book, client=client, clock=clock, rng=dice())


async def test_the_steps_of_one_resource_are_told_in_order_and_once() -> None:
    book = Book(SM1=["sending", "sent", "delivered"])
    application = Application(lambda _: 200)

    telling = deliverer(book, application, FakeClock())

    assert await telling.notify("SM1") is Notified.SETTLED
    assert await telling.notify("SM1") is Notified.SETTLED
    assert await telling.notify("SM2") is Notified.SETTLED
    assert application.steps == ["sending", "sent", "delivered"]
    assert [result for _, _, result in book.results] == [StepResult(1, 200)] * 3


async def test_two_notifications_at_once_do_not_tell_a_step_twice() -> None:
    book = Book(SM1=["sending", "sent"])
    application = Application(lambda _: 200)
    application.gate.clear()
    telling = deliverer(book, application, FakeClock())

    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(telling.notify("SM1"))
        await asyncio.sleep(0)
        application.gate.set()

    assert application.steps == ["sending", "sent"]


async def test_resources_do_not_wait_for_each_other() -> None:
    book = Book(SM1=["sending"], SM2=["sent"])
    application = Application(lambda _: 200)
    application.gate.clear()
    clock = FakeClock()
    telling = deliverer(book, application, clock)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(telling.notify("SM1"))
        tasks.create_task(telling.notify("SM2"))
        await clock.advance(0)
        assert sorted(application.steps) == ["sending", "sent"]
        application.gate.set()


@pytest.mark.parametrize("trouble", [500, 503, 429, OSError("reset"), TimeoutError()])
async def test_a_failed_try_is_made_again_with_the_same_token_and_the_next_step_waits(
    trouble: int | Exception,
) -> None:
    answers: list[int | Exception] = [trouble, trouble, 200, 200]

    def answer(_step: str) -> int:
        said = answers.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    book = Book(SM1=["sending", "sent"])
    application = Application(answer)
    clock = FakeClock()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(deliverer(book, application, clock).notify("SM1"))
        await clock.advance(5)

    assert application.heard == [("sending", "SM1:sending")] * 3 + [("sent", "SM1:sent")]
    assert book.results[0][2] == StepResult(3, 200)


async def test_a_refusal_counts_as_told_and_is_not_repeated() -> None:
    book = Book(SM1=["sending", "sent"])
    application = Application(lambda step: 404 if step == "sending" else 204)

    assert await deliverer(book, application, FakeClock()).notify("SM1") is Notified.SETTLED

    assert application.steps == ["sending", "sent"]
    assert [result for _, _, result in book.results] == [
        StepResult(1, 404, 11200),
        StepResult(1, 204),
    ]


async def test_a_step_is_given_up_when_its_window_is_over_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window_s = 20 * HOLD_MAX_S
    monkeypatch.setattr(deliver, "RETRY_WINDOW_S", window_s)
    book = Book(SM1=["sending", "sent"])
    application = Application(lambda step: 500 if step == "sending" else 200)
    clock = FakeClock()
    telling = deliverer(book, application, clock)
    outcomes: list[Notified] = []

    async def log_redelivers() -> None:
        while not outcomes or outcomes[-1] is Notified.LATER:
            outcomes.append(await telling.notify("SM1"))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(log_redelivers())
        await clock.advance(window_s - 1)
        assert book.results == []
        await clock.advance(60)

    assert Notified.LATER in outcomes  # held for less than the log's bound on work, each time
    (_, sending, given_up), (_, sent, told) = book.results
    assert (sending, given_up.http_status, given_up.is_given_up) == ("sending", 500, True)
    assert given_up.attempts == application.steps.count("sending") > 10
    assert (sent, told) == ("sent", StepResult(1, 200))


async def test_a_receiver_that_is_down_holds_few_deliveries_and_the_rest_go_back() -> None:
    book = Book(**{f"SM{number}": ["sent"] for number in range(40)})
    application = Application(lambda _: 500)
    clock = FakeClock()
    telling = deliverer(book, application, clock)
    outcomes: list[Notified] = []

    async def notify(sid: str) -> None:
        outcomes.append(await telling.notify(sid))

    async with asyncio.TaskGroup() as tasks:
        for sid in list(book.open):
            tasks.create_task(notify(sid))
        await clock.advance(0)
        assert outcomes == [Notified.LATER] * (40 - UNWELL_IN_HAND_MAX)
        application._answer = lambda _: 200
        await clock.advance(60)

    assert outcomes.count(Notified.SETTLED) == UNWELL_IN_HAND_MAX


async def test_a_stop_does_not_wait_for_an_application_that_is_down() -> None:
    book, clock = Book(SM1=["sending"]), FakeClock()
    application = Application(lambda _: 503)
    telling = deliverer(book, application, clock)

    async with asyncio.TaskGroup() as tasks:
        notifying = tasks.create_task(telling.notify("SM1"))
        await clock.advance(0.0)
        telling.drain()
        await clock.advance(1.0)
        assert notifying.done()

    assert notifying.result() is Notified.LATER
    assert book.open == {"SM1": ["sending"]}


async def test_an_application_that_only_fails_is_spared_and_found_well_again() -> None:
    book = Book(**{f"SM1{number}": ["sent"] for number in range(30)})
    application = Application(lambda _: 500)
    clock = FakeClock()
    telling = deliverer(book, application, clock)

    async with asyncio.TaskGroup() as tasks:
        for sid in list(book.open):
            tasks.create_task(_until_settled(telling, clock, sid))
        await clock.advance(70.0)
        asked = len(application.heard)
        await clock.advance(90.0)
        # One probe in each term of thirty seconds, whatever waits.
        assert len(application.heard) - asked <= 90 / 30 + 1

        application._answer = lambda _: 200
        await clock.advance(31.0)
        assert len(book.results) >= UNWELL_IN_HAND_MAX
        await clock.advance(30.0)

    assert len(book.results) == 30
    assert all(result.http_status == 200 for _, _, result in book.results)


async def test_one_account_s_failures_keep_no_other_account_from_the_same_platform() -> None:
    bad = {f"SM1{number}": ["bad"] for number in range(40)}
    book = Book(**bad, SM2=["good"])
    book.accounts["SM2"] = "AC2"
    application = Application(lambda step: 500 if step == "bad" else 200)
    clock = FakeClock()
    telling = deliverer(book, application, clock)
    async with asyncio.TaskGroup() as tasks:
        telling_bad = [tasks.create_task(_until_settled(telling, clock, sid)) for sid in bad]
        await clock.advance(20.0)
        asked = application.steps.count("bad")

        tasks.create_task(_until_settled(telling, clock, "SM2"))
        await clock.advance(10.0)

        assert application.steps.count("bad") <= asked + 1
        assert [sid for sid, _, _ in book.results] == ["SM2"]
        for task in telling_bad:
            task.cancel()


async def test_what_was_spared_for_its_whole_window_is_given_up_like_the_rest() -> None:
    book = Book(**{f"SM1{number}": ["sent"] for number in range(40)})
    application = Application(lambda _: 500)
    clock = FakeClock()
    telling = deliverer(book, application, clock)

    asked = 0
    for _ in range(2):
        await clock.advance(deliver.RETRY_WINDOW_S)
        asked = len(application.heard)
        async with asyncio.TaskGroup() as tasks:
            notifying = [tasks.create_task(telling.notify(sid)) for sid in list(book.open)]
            await clock.advance(1.0)
            for task in notifying:
                task.cancel()

    assert len(application.heard) == asked + 1
    assert len(book.results) == UNWELL_IN_HAND_MAX
    assert all(result.is_given_up for _, _, result in book.results)


async def _until_settled(telling: CallbackDeliverer, clock: FakeClock, sid: str) -> None:
    """As the log does: what comes back is delivered again after a while."""
    while await telling.notify(sid) is Notified.LATER:
        await clock.sleep(5.0)
