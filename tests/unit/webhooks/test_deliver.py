"""Telling callbacks in order, in virtual time, to applications that answer from a script."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Self, cast

import aiohttp
import pytest

from trunkline.kernel import FakeClock
from trunkline.webhooks.client import WebhookClient
from trunkline.webhooks.deliver import (
    RETRY_MOST_S,
    RETRY_WINDOW_S,
    CallbackDeliverer,
    Later,
    Plan,
    Settled,
    Step,
    StepResult,
)
from trunkline.webhooks.receivers import TRIES_PER_RECEIVER_MAX, WELL_IN_HAND_MAX

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
    """A planner whose resources are lists of steps, all of one moment."""

    def __init__(self, since: float, **steps: list[str]) -> None:
        self.open = steps
        self.accounts: dict[str, str] = {}
        self.results: list[tuple[str, str, StepResult]] = []
        self._since = since

    def plan(self, sid: str) -> Plan | None:
        if sid not in self.open:
            return None
        steps = tuple(
            Step(name, (("Step", name),), f"{sid}:{name}", self._since) for name in self.open[sid]
        )
        return Plan(self.accounts.get(sid, "AC1"), "token", "https://app.example/cb", "POST", steps)

    async def on_told(self, sid: str, plan: Plan, step: Step, result: StepResult) -> None:
        del plan
        self.open[sid].remove(step.name)
        self.results.append((sid, step.name, result))


def deliverer(book: Book, application: Application, clock: FakeClock) -> CallbackDeliverer:
    client = application.client(clock)
    return CallbackDeliverer(book, client=client, clock=clock, rng=dice())


async def test_the_steps_of_one_resource_are_told_in_order_and_once() -> None:
    clock = FakeClock()
    book = Book(clock.wall(), SM1=["sending", "sent", "delivered"])
    application = Application(lambda _: 200)

    telling = deliverer(book, application, clock)

    assert await telling.notify("SM1") == Settled()
    assert await telling.notify("SM1") == Settled()
    assert await telling.notify("SM2") == Settled()
    assert application.steps == ["sending", "sent", "delivered"]
    assert [result for _, _, result in book.results] == [StepResult(1, 200)] * 3


async def test_two_notifications_at_once_do_not_tell_a_step_twice() -> None:
    clock = FakeClock()
    book = Book(clock.wall(), SM1=["sending", "sent"])
    application = Application(lambda _: 200)
    application.gate.clear()
    telling = deliverer(book, application, clock)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(telling.notify("SM1"))
        await asyncio.sleep(0)
        application.gate.set()

    assert application.steps == ["sending", "sent"]


async def test_resources_do_not_wait_for_each_other() -> None:
    clock = FakeClock()
    book = Book(clock.wall(), SM1=["sending"], SM2=["sent"])
    application = Application(lambda _: 200)
    application.gate.clear()
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

    clock = FakeClock()
    book = Book(clock.wall(), SM1=["sending", "sent"])
    application = Application(answer)
    telling = deliverer(book, application, clock)

    for _ in range(2):
        came = await telling.notify("SM1")
        assert isinstance(came, Later)
        assert came.was_asked
        early = await telling.notify("SM1")  # which asks nobody
        assert isinstance(early, Later)
        assert not early.was_asked
        await clock.advance(came.after_s)
    assert await telling.notify("SM1") == Settled()

    assert application.heard == [("sending", "SM1:sending")] * 3 + [("sent", "SM1:sent")]
    assert book.results[0][2] == StepResult(3, 200)


async def test_a_refusal_counts_as_told_and_is_not_repeated() -> None:
    clock = FakeClock()
    book = Book(clock.wall(), SM1=["sending", "sent"])
    application = Application(lambda step: 404 if step == "sending" else 204)

    assert await deliverer(book, application, clock).notify("SM1") == Settled()

    assert application.steps == ["sending", "sent"]
    assert [result for _, _, result in book.results] == [
        StepResult(1, 404, 11200, reason="answered 404"),
        StepResult(1, 204),
    ]


@pytest.mark.parametrize(
    ("age_s", "least_s", "most_s"), [(0.0, 0.25, 0.5), (60.0, 15.0, 30.0), (7200.0, 450.0, 900.0)]
)
async def test_the_wait_follows_from_the_age_of_the_step_on_every_host(
    age_s: float, least_s: float, most_s: float
) -> None:
    clock = FakeClock()
    book = Book(clock.wall() - age_s, SM1=["sending"])

    came = await deliverer(book, Application(lambda _: 500), clock).notify("SM1")

    assert isinstance(came, Later)
    assert least_s <= came.after_s <= most_s <= RETRY_MOST_S


async def test_a_step_is_given_up_when_its_window_is_over_and_not_before() -> None:
    clock = FakeClock()
    book = Book(clock.wall(), SM1=["sending", "sent"])
    application = Application(lambda step: 500 if step == "sending" else 200)
    await clock.advance(RETRY_WINDOW_S - 1.0)
    telling = deliverer(book, application, clock)  # of a host that has only just taken over

    came = await telling.notify("SM1")
    assert isinstance(came, Later)
    assert book.results == []
    await clock.advance(max(1.0, came.after_s))
    assert await telling.notify("SM1") == Settled()

    given_up, told = book.results
    assert given_up[:2] == ("SM1", "sending")
    assert given_up[2].is_given_up
    assert given_up[2].error_code == 11200
    assert told[1] == "sent"  # a step is skipped only after its own day


async def test_a_step_of_which_the_day_is_over_is_tried_once_where_nothing_is_known() -> None:
    clock = FakeClock()
    book = Book(clock.wall() - 2 * RETRY_WINDOW_S, SM1=["sending", "sent"])
    application = Application(lambda _: 200)

    assert await deliverer(book, application, clock).notify("SM1") == Settled()

    assert application.steps == ["sending", "sent"]
    assert not any(result.is_given_up for _, _, result in book.results)


async def test_a_receiver_that_hangs_holds_few_tries_and_the_rest_is_not_held_up() -> None:
    clock = FakeClock()
    book = Book(clock.wall(), **{f"SM{number}": ["sent"] for number in range(200)})
    application = Application(lambda _: 200)
    application.gate.clear()
    telling = deliverer(book, application, clock)
    outcomes: list[object] = []

    async def notify(sid: str) -> None:
        outcomes.append(await telling.notify(sid))

    async with asyncio.TaskGroup() as tasks:
        for sid in list(book.open):
            tasks.create_task(notify(sid))
        await clock.advance(0)
        assert outcomes == [Later(1.0)] * (200 - WELL_IN_HAND_MAX)
        assert len(application.heard) == TRIES_PER_RECEIVER_MAX
        application.gate.set()


async def test_a_stop_begins_no_further_step() -> None:
    clock = FakeClock()
    book = Book(clock.wall(), SM1=["sending", "sent"])
    application = Application(lambda _: 200)
    application.gate.clear()
    telling = deliverer(book, application, clock)

    async with asyncio.TaskGroup() as tasks:
        notifying = tasks.create_task(telling.notify("SM1"))
        await clock.advance(0.0)
        telling.drain()
        application.gate.set()

    assert isinstance(notifying.result(), Later)
    assert book.open == {"SM1": ["sent"]}


async def test_an_application_that_only_fails_is_spared_and_found_well_again() -> None:
    clock = FakeClock()
    sids = [f"SM1{number}" for number in range(30)]
    book = Book(clock.wall(), **{sid: ["sent"] for sid in sids})
    application = Application(lambda _: 500)
    telling = deliverer(book, application, clock)

    for sid in sids:
        assert isinstance(await telling.notify(sid), Later)
    assert len(application.heard) == 20
    spared = await telling.notify(sids[-1])
    assert isinstance(spared, Later)
    assert not spared.was_asked

    application._answer = lambda _: 200
    await clock.advance(spared.after_s)
    assert await telling.notify(sids[-1]) == Settled()
    await clock.advance(1.0)
    for sid in sids:
        assert await telling.notify(sid) == Settled()
    assert len(book.results) == 30


async def test_one_account_s_failures_keep_no_other_account_from_the_same_platform() -> None:
    clock = FakeClock()
    bad = {f"SM1{number}": ["bad"] for number in range(40)}
    book = Book(clock.wall(), **bad, SM2=["good"])
    book.accounts["SM2"] = "AC2"
    application = Application(lambda step: 500 if step == "bad" else 200)
    telling = deliverer(book, application, clock)

    for sid in bad:
        await telling.notify(sid)

    assert await telling.notify("SM2") == Settled()


async def test_what_is_over_is_given_up_without_a_try_where_the_receiver_is_known_to_fail() -> None:
    clock = FakeClock()
    book = Book(clock.wall(), **{f"SM1{number}": ["sent"] for number in range(40)})
    application = Application(lambda _: 500)
    telling = deliverer(book, application, clock)
    await clock.advance(RETRY_WINDOW_S)

    for sid in list(book.open):
        assert await telling.notify(sid) == Settled()

    assert len(application.heard) == 1
    assert len(book.results) == 40
    assert all(result.is_given_up for _, _, result in book.results)
    assert book.results[-1][2].reason == "given up: answered 500"
