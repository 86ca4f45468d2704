"""Canceling: of a cancel and a claim one stands, and the other finds it there."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.unit.log.scripted_log import ACCOUNT, Fate, walk
from tests.unit.log.unreliable_timers import UnreliableTimers
from tests.unit.messaging.message_bench import Bench, Copy

from trunkline.domain.events import Type
from trunkline.domain.message import Message
from trunkline.domain.status import Status
from trunkline.kernel import Deadline
from trunkline.log.append import ShardHealth
from trunkline.messaging.accept import Acceptor, Created, NewMessage
from trunkline.messaging.cancel import CancelAnswer, Canceller, Done, TooLate, Unsettled

pytestmark = pytest.mark.anyio

NAME = "9" * 32
HOME, SECOND, *_ = walk(NAME)
HOUR_S = 3600.0
DAY_S = 86_400.0
CANCEL_MAX_S = 10.0


@pytest.fixture
async def copy(bench: Bench, tmp_path: Path) -> AsyncIterator[Copy]:
    async with Copy(bench, tmp_path / "replica.db").following() as copy:
        bench.past = copy.replica
        yield copy


@asynccontextmanager
async def put_off(bench: Bench) -> AsyncIterator[None]:
    """A message whose timer stands, with a dispatcher at work."""
    await bench.put(NAME, send_in_s=HOUR_S)
    dispatcher = bench.dispatcher("one")
    async with bench.running(dispatcher, bench.due_messages(dispatcher)):
        await bench.pass_time(2.0)
        assert bench.put_off.count == 1
        yield


def cancel(bench: Bench, copy: Copy, message: Message) -> Coroutine[Any, Any, CancelAnswer]:
    canceller = Canceller(bench.log, copy.replica, bench.author("two"))
    deadline = Deadline.after(CANCEL_MAX_S, bench.clock)
    return canceller.cancel(message, deadline=deadline)


async def shown(copy: Copy, sid: str) -> Message:
    await copy.catch_up()
    message = copy.replica.message(sid)
    assert message is not None
    return message


async def types(bench: Bench) -> list[Type]:
    return [event.type for _, event in await bench.history(NAME) if event.type is not Type.ORIGINAL]


async def test_a_canceled_message_is_never_sent(bench: Bench, copy: Copy) -> None:
    async with put_off(bench):
        answer = await bench.within_time(cancel(bench, copy, await bench.message(NAME)))
        await bench.clock.advance(HOUR_S)
        await bench.pass_time(5.0)

    assert isinstance(answer, Done)
    assert answer.message.status is Status.CANCELED
    assert bench.carrier.submitted == []
    assert await types(bench) == [Type.CANCEL]
    assert bench.due.count == 0, "its timer was dropped"


async def test_a_cancel_wins_over_a_timer_that_came_all_the_same(bench: Bench, copy: Copy) -> None:
    created = await bench.put(NAME, send_in_s=5.0)

    answer = await bench.within_time(cancel(bench, copy, await bench.message(NAME)))
    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(10.0)

    assert isinstance(answer, Done)
    assert bench.carrier.submitted == []
    assert bench.acked == [created.event.id]


async def test_a_cancel_behind_a_claim_loses(bench: Bench, copy: Copy) -> None:
    async with put_off(bench):
        known = await bench.message(NAME)
        await bench.clock.advance(HOUR_S)
        await bench.pass_time(2.0)

        answer = await bench.within_time(cancel(bench, copy, known))

    assert answer == TooLate()
    assert bench.carrier.attempts == [(1, False)]
    assert (await bench.message(NAME)).status is Status.SENT
    assert Type.CANCEL not in await types(bench)


async def test_a_repeat_of_a_cancel_is_the_same_cancel(bench: Bench, copy: Copy) -> None:
    async with put_off(bench):
        known = await bench.message(NAME)
        first = await bench.within_time(cancel(bench, copy, known))
        again = await bench.within_time(cancel(bench, copy, known))

    assert isinstance(first, Done)
    assert isinstance(again, Done)
    assert again.message.status is Status.CANCELED
    assert await types(bench) == [Type.CANCEL]


async def test_a_cancel_whose_answer_was_lost_is_known_to_stand(bench: Bench, copy: Copy) -> None:
    async with put_off(bench):
        bench.log.will(HOME, Fate.ANSWER_LOST)

        answer = await bench.within_time(cancel(bench, copy, await bench.message(NAME)))

    assert isinstance(answer, Done)
    assert await types(bench) == [Type.CANCEL]


async def test_a_cancel_that_cannot_be_written_is_not_known(bench: Bench, copy: Copy) -> None:
    async with put_off(bench):
        known = await bench.message(NAME)
        bench.log.always(Fate.LOST, HOME)

        answer = await bench.within_time(cancel(bench, copy, known))

    assert isinstance(answer, Unsettled)


async def test_a_message_whose_original_was_trimmed_is_canceled_too(
    bench: Bench, copy: Copy
) -> None:
    async with put_off(bench):
        await copy.catch_up()
        known = copy.replica.message("SM" + NAME)
        assert known is not None
        bench.log.trim()

        answer = await bench.within_time(cancel(bench, copy, known))
        await bench.clock.advance(HOUR_S)
        await bench.pass_time(5.0)

    assert isinstance(answer, Done)
    assert bench.carrier.submitted == []


async def test_of_two_copies_the_one_that_counts_is_canceled(bench: Bench, copy: Copy) -> None:
    bench.log.will(HOME, Fate.ANSWER_LOST)
    await bench.put(NAME, send_in_s=5.0)

    answer = await bench.within_time(cancel(bench, copy, await bench.message(NAME)))
    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(10.0)

    assert isinstance(answer, Done)
    assert bench.carrier.submitted == []


@pytest.mark.parametrize("key", [None, "order 7"], ids=["keyless", "keyed"])
async def test_what_is_canceled_long_after_its_original_was_trimmed_is_never_sent(
    bench: Bench, copy: Copy, key: str | None
) -> None:
    timers = UnreliableTimers(bench.clock)
    bench.log._inner.timers = timers
    acceptor = Acceptor(bench.log, copy.replica, ShardHealth(bench.clock), bench.author("api"))
    new = NewMessage(
        account=ACCOUNT,
        sender="+15550001",
        recipient="+15550002",
        text="hello",
        send_at=bench.clock.wall() + 35 * DAY_S,
    )
    deadline = Deadline.after(CANCEL_MAX_S, bench.clock)
    created = await bench.within_time(acceptor.accept(new, key=key, deadline=deadline))
    assert isinstance(created, Created)
    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(2.0)
    message = await shown(copy, created.message.sid)
    bench.known[message.sid] = message
    bench.log.trim()
    timers.away = set(range(timers.shards))  # so that its timer comes all the same

    answer = await bench.within_time(cancel(bench, copy, message))
    timers.away.clear()
    dispatcher = bench.dispatcher("two")
    async with bench.running(dispatcher, bench.due_messages(dispatcher)):
        await bench.clock.advance(35 * DAY_S - 10.0)
        await bench.pass_time(15.0)

    assert isinstance(answer, Done)
    assert answer.message.status is Status.CANCELED
    assert bench.due.count == 1
    assert bench.carrier.submitted == []
    assert await timers.standing() == 0


async def test_of_many_that_are_canceled_as_they_come_due_each_is_canceled_or_sent(
    bench: Bench, copy: Copy
) -> None:
    names = [f"{number:032x}" for number in range(24)]
    for name in names:
        await bench.put(name, send_in_s=DAY_S)
    messages = [await shown(copy, f"SM{name}") for name in names]
    dispatcher = bench.dispatcher("two")
    answers: dict[str, CancelAnswer] = {}

    async def change_mind(message: Message, early_s: float) -> None:
        assert message.original is not None
        assert message.original.send_at is not None
        await bench.clock.sleep(message.original.send_at - bench.clock.wall() - early_s)
        answers[message.sid] = await cancel(bench, copy, message)

    async with (
        bench.running(dispatcher, bench.due_messages(dispatcher)),
        asyncio.TaskGroup() as tasks,
    ):
        await bench.pass_time(2.0)
        for number, message in enumerate(messages):
            tasks.create_task(change_mind(message, early_s=1.2 - 0.1 * number))
        await bench.clock.advance(DAY_S - 30.0)
        for _ in range(1200):
            await bench.clock.advance(0.05)
            await bench.log.wake()

    sent = {each.reference.split(":")[1] for each in bench.carrier.submitted}
    taken_back = {sid for sid, answer in answers.items() if isinstance(answer, Done)}
    late = {sid for sid, answer in answers.items() if isinstance(answer, TooLate)}
    assert sent & taken_back == set()
    assert sent == late
    assert sent | taken_back == {message.sid for message in messages}
    assert sent, "no cancel came too late: the race was not run"
    assert taken_back, "every cancel came too late: the race was not run"
