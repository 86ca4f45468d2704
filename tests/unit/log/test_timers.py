"""Timers by name: where they are set, what an unsure answer leads to, and that time alone fires them."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest
from tests.unit.log.scripted_log import in_virtual_time
from tests.unit.log.unreliable_timers import UnreliableTimers

from trunkline.kernel import Deadline, FakeClock
from trunkline.log.engines import memory
from trunkline.log.engines.jetstream.elections import Elections
from trunkline.log.engines.jetstream.requests import Requests
from trunkline.log.engines.jetstream.timers import JetStreamTimers
from trunkline.log.interface import Consumer, Delivery, Refused
from trunkline.log.limits import WORK_MAX_S
from trunkline.log.shards import order
from trunkline.log.timers import (
    NAME_CHARS_MAX,
    TIMER_SHARDS,
    TIMERS_BYTES_MAX,
    TIMERS_MAX,
    TimersDropped,
    TimerSet,
    TimerUnsure,
    cancel_timer,
    set_timer,
)

pytestmark = pytest.mark.anyio

NAME = "message-SM1"
DAY_S = 86_400.0


@pytest.fixture
def timers(clock: FakeClock) -> UnreliableTimers:
    return UnreliableTimers(clock)


HOME, NEXT, *OTHERS = order(NAME, 4)


async def set_in(
    timers: UnreliableTimers, clock: FakeClock, seconds: float
) -> TimerSet | TimerUnsure:
    setting = set_timer(
        timers,
        NAME,
        clock.wall() + seconds,
        b"payload",
        clock=clock,
        deadline=Deadline.after(5.0, clock),
    )
    return await in_virtual_time(clock, setting)


async def cancel(timers: UnreliableTimers, clock: FakeClock) -> TimersDropped | TimerUnsure:
    deadline = Deadline.after(5.0, clock)
    return await in_virtual_time(clock, cancel_timer(timers, NAME, clock=clock, deadline=deadline))


async def due(timers: UnreliableTimers) -> list[Delivery]:
    """What each shard offers now."""
    consumers: Sequence[Consumer] = [
        await timers.due(shard, "schedule") for shard in range(timers.shards)
    ]
    return [delivery for consumer in consumers for delivery in await consumer.fetch(10, 0.0)]


async def test_a_timer_35_days_ahead_fires_then_and_not_a_second_before(
    timers: UnreliableTimers, clock: FakeClock
) -> None:
    assert await set_in(timers, clock, 35 * DAY_S) == TimerSet(HOME)

    await clock.advance(35 * DAY_S - 1.0)
    assert await due(timers) == []
    await clock.advance(1.0)
    (delivery,) = await due(timers)

    assert delivery.stored.payload == b"payload"
    await delivery.ack()
    assert await timers.standing() == 0


async def test_a_timer_is_set_in_another_shard_while_its_own_is_away(
    timers: UnreliableTimers, clock: FakeClock
) -> None:
    timers.away = {HOME}

    assert await set_in(timers, clock, 60.0) == TimerSet(NEXT)


async def test_a_timer_whose_answer_was_lost_stands_twice_and_comes_twice(
    timers: UnreliableTimers, clock: FakeClock
) -> None:
    timers.mute = {HOME}

    assert await set_in(timers, clock, 60.0) == TimerSet(NEXT)

    await clock.advance(60.0)
    assert len(await due(timers)) == 2


async def test_nobody_is_told_that_a_timer_stands_when_no_shard_said_so(
    timers: UnreliableTimers, clock: FakeClock
) -> None:
    timers.away = {HOME, *OTHERS}
    timers.mute = {NEXT}

    assert await set_in(timers, clock, 60.0) == TimerUnsure("no leader")


async def test_a_timer_set_again_under_its_name_moves(
    timers: UnreliableTimers, clock: FakeClock
) -> None:
    await set_in(timers, clock, 60.0)
    await set_in(timers, clock, 120.0)

    await clock.advance(60.0)
    assert await due(timers) == []
    await clock.advance(60.0)
    assert len(await due(timers)) == 1


async def test_a_cancelled_timer_is_gone_from_every_shard(
    timers: UnreliableTimers, clock: FakeClock
) -> None:
    timers.mute = {HOME}
    await set_in(timers, clock, 60.0)

    assert await cancel(timers, clock) == TimersDropped(2)

    await clock.advance(60.0)
    assert await due(timers) == []


async def test_a_cancel_is_not_sure_while_a_shard_is_away(
    timers: UnreliableTimers, clock: FakeClock
) -> None:
    await set_in(timers, clock, 60.0)
    timers.away = {NEXT}

    assert await cancel(timers, clock) == TimerUnsure("no leader")
    assert await timers.standing() == 0


async def test_a_due_timer_whose_holder_froze_is_offered_to_others(
    timers: UnreliableTimers, clock: FakeClock
) -> None:
    await set_in(timers, clock, 0.0)
    (frozen,) = await due(timers)
    assert await due(timers) == []

    await clock.advance(WORK_MAX_S)
    (again,) = await due(timers)

    assert again.stored == frozen.stored


async def test_who_waits_for_a_timer_is_woken_when_one_is_set_that_is_due(
    timers: UnreliableTimers, clock: FakeClock
) -> None:
    consumer = await timers.due(HOME, "schedule")

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(consumer.fetch(10, 5.0))
        await set_in(timers, clock, -1.0)

    assert len(waiting.result()) == 1


async def test_a_full_shard_takes_no_more_timers(
    timers: UnreliableTimers, clock: FakeClock
) -> None:
    for number in range(TIMERS_MAX):
        await timers.write(HOME, f"other-{number}", clock.wall() + 60.0, b"", timeout_s=1.0)

    answer = await timers.write(HOME, NAME, clock.wall() + 60.0, b"", timeout_s=1.0)

    assert isinstance(answer, Refused)
    assert answer.is_full


async def test_timers_are_nearly_full_when_every_shard_is(
    timers: UnreliableTimers, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "TIMERS_MAX", 10)
    for shard in range(timers.shards):
        assert not timers.is_nearly_full
        for number in range(8):
            await timers.write(shard, f"other-{number}", clock.wall() + 60.0, b"", timeout_s=1.0)

    assert timers.is_nearly_full
    await timers.drop(HOME, "other-0", timeout_s=1.0)
    assert not timers.is_nearly_full


class StreamsOf:
    """An engine whose streams hold so many bytes, and that answers nothing else."""

    def __init__(self, used_bytes: dict[str, int]) -> None:
        self.used_bytes = used_bytes

    async def ask(self, subject: str, *, timeout_s: float) -> bytes:
        del timeout_s
        used = self.used_bytes[subject.rpartition(".")[2]]
        return b'{"state": {"bytes": %d}}' % used


async def test_an_engine_says_how_full_its_timers_are(clock: FakeClock) -> None:
    most = int(TIMERS_BYTES_MAX / TIMER_SHARDS * 0.8) + 1
    engine = StreamsOf({f"TIMER_{shard}": most for shard in range(TIMER_SHARDS)})
    requests, elections = cast(Requests, engine), cast(Elections, None)
    timers = JetStreamTimers(requests, elections, clock, has_room=lambda: True)
    assert not timers.is_nearly_full

    await timers.look_at_room()
    assert timers.is_nearly_full

    engine.used_bytes["TIMER_2"] = most // 2
    await timers.look_at_room()
    assert not timers.is_nearly_full


@pytest.mark.parametrize("name", ["", "a.b", "a b", "*", ">", "x" * (NAME_CHARS_MAX + 1), "a\n"])
async def test_a_name_that_is_not_one_word_is_refused(
    timers: UnreliableTimers, clock: FakeClock, name: str
) -> None:
    with pytest.raises(ValueError, match="timer's name"):
        await set_timer(timers, name, 0.0, b"", clock=clock, deadline=Deadline.after(1.0, clock))
    with pytest.raises(ValueError, match="timer's name"):
        await cancel_timer(timers, name, clock=clock, deadline=Deadline.after(1.0, clock))
