"""Receivers: what counts against one, whom it is spared, and what is asked in any case."""

import asyncio

import pytest

from trunkline.kernel import FakeClock, Open
from trunkline.webhooks.client import (
    BAD_HOST_NAME,
    CONNECTION_FAILURE,
    URL_INVALID,
    Answered,
    Unreachable,
    WebhookAnswer,
)
from trunkline.webhooks.receivers import BREAKERS_REMEMBERED_MAX, Receivers

pytestmark = pytest.mark.anyio

URL = "https://platform.example/hook"
DOWN = Unreachable("no connection", CONNECTION_FAILURE, is_unsent=True)
GOOD = Answered(204, "", b"")


async def told(receivers: Receivers, answer: WebhookAnswer, *, account: str = "AC1") -> None:
    async def act() -> WebhookAnswer:
        return answer

    for _ in range(20):
        await receivers.ask(act, account=account, url=URL)


async def asked(
    receivers: Receivers, *, account: str = "AC1", is_only_chance: bool = False
) -> bool:
    async def act() -> WebhookAnswer:
        return GOOD

    answer = await receivers.ask(act, account=account, url=URL, is_only_chance=is_only_chance)
    return not isinstance(answer, Open)


@pytest.mark.parametrize(
    "answer",
    [DOWN, Unreachable("?", BAD_HOST_NAME), Answered(500, "", b""), Answered(429, "", b"")],
)
async def test_a_receiver_that_only_fails_is_spared(answer: WebhookAnswer) -> None:
    receivers = Receivers(FakeClock())

    await told(receivers, answer)

    assert not await asked(receivers)
    assert await asked(receivers, account="AC2")


@pytest.mark.parametrize(
    "answer", [GOOD, Answered(404, "", b""), Answered(200, "text/plain", b"no TwiML")]
)
async def test_one_that_answers_is_not_whatever_it_says(answer: WebhookAnswer) -> None:
    receivers = Receivers(FakeClock())

    await told(receivers, answer)

    assert await asked(receivers)


async def test_a_url_that_cannot_be_asked_says_nothing_about_its_receiver() -> None:
    receivers = Receivers(FakeClock())

    await told(receivers, Unreachable("no host", URL_INVALID, is_unsent=True))

    assert await asked(receivers)


async def test_an_only_chance_is_taken_in_any_case_and_tells_the_breaker() -> None:
    clock = FakeClock()
    receivers = Receivers(clock)
    await told(receivers, DOWN)

    assert await asked(receivers, is_only_chance=True)
    assert not await asked(receivers)
    await clock.advance(5.0)
    assert await asked(receivers, is_only_chance=True)  # as the probe of the term that is over
    assert await asked(receivers)


async def test_a_probe_that_is_cancelled_leaves_its_place_to_another() -> None:
    clock = FakeClock()
    receivers = Receivers(clock)
    await told(receivers, DOWN)
    await clock.advance(5.0)

    async def hang() -> WebhookAnswer:
        await asyncio.Event().wait()
        return GOOD

    async with asyncio.TaskGroup() as tasks:
        probe = tasks.create_task(receivers.ask(hang, account="AC1", url=URL))
        await clock.advance(0.0)
        assert not await asked(receivers)
        probe.cancel()
        await clock.advance(0.0)

    assert await asked(receivers)


async def test_no_more_than_so_many_breakers_are_remembered() -> None:
    receivers = Receivers(FakeClock())
    await told(receivers, DOWN)

    for number in range(BREAKERS_REMEMBERED_MAX):
        await asked(receivers, account=f"AC-{number}")

    assert len(receivers._breakers) == BREAKERS_REMEMBERED_MAX
    assert await asked(receivers)
