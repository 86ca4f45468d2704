"""Receivers: what counts against one, whom it is spared, and what is asked in any case."""

import asyncio
from contextlib import ExitStack

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
from trunkline.webhooks.receivers import (
    DOWN_S,
    IN_HAND_MAX,
    RECEIVERS_REMEMBERED_MAX,
    UNWELL_IN_HAND_MAX,
    UNWELL_TOGETHER_MAX,
    Receivers,
)

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


async def test_no_more_than_so_many_receivers_are_remembered_and_none_with_work_is_forgotten() -> (
    None
):
    receivers = Receivers(FakeClock())
    await told(receivers, DOWN)

    with receivers.hold("AC0", URL) as held:
        for number in range(RECEIVERS_REMEMBERED_MAX):
            await asked(receivers, account=f"AC-{number}")
        assert len(receivers._known) == RECEIVERS_REMEMBERED_MAX
        assert held is not None
        assert receivers.named(held.name) is held

    assert await asked(receivers)


def holds(receivers: Receivers, stack: ExitStack, *, account: str, count: int) -> int:
    """How many of `count` pieces of work find room, each for a receiver of its own."""
    return sum(
        stack.enter_context(receivers.hold(account, f"https://{number}.example/")) is not None
        for number in range(count)
    )


def test_an_account_alone_has_two_thirds_of_the_room_and_others_still_find_theirs() -> None:
    receivers = Receivers(FakeClock())

    with ExitStack() as stack:
        one = holds(receivers, stack, account="AC1", count=1_000)
        two = holds(receivers, stack, account="AC2", count=1_000)
        three = holds(receivers, stack, account="AC3", count=20)

    assert one == -(-IN_HAND_MAX * 2 // 3)
    assert two >= IN_HAND_MAX // 5
    assert three >= 10
    with receivers.hold("AC1", URL) as receiver:
        assert receiver is not None


def test_all_that_are_unwell_leave_half_of_the_room() -> None:
    receivers = Receivers(FakeClock())
    for account in range(100):
        for number in range(UNWELL_IN_HAND_MAX):
            with receivers.hold(f"AC{account}", f"https://{number}.example/") as receiver:
                assert receiver is not None
                receiver.note(is_success=False, took_s=15.0)

    with ExitStack() as stack:
        unwell = sum(
            holds(receivers, stack, account=f"AC{account}", count=UNWELL_IN_HAND_MAX)
            for account in range(100)
        )
        assert unwell == UNWELL_TOGETHER_MAX
        with receivers.hold("AC-well", URL) as receiver:
            assert receiver is not None


async def test_a_success_after_a_while_of_failing_is_a_recovery_and_one_in_between_is_not() -> None:
    clock = FakeClock()
    receivers = Receivers(clock)
    with receivers.hold("AC1", URL) as receiver:
        assert receiver is not None
        receiver.note(is_success=False, took_s=0.1)
        await clock.advance(DOWN_S / 2)
        receiver.note(is_success=True, took_s=0.1)
        assert receiver.recovered_at == float("-inf")

        receiver.note(is_success=False, took_s=0.1)
        await clock.advance(DOWN_S)
        assert receiver.is_down
        receiver.note(is_success=True, took_s=0.1)
        assert receiver.recovered_at == clock.monotonic()
        assert not receiver.is_down
