"""Putting off: what is not to be sent yet leaves the workers' hands, and leaves once, when it is due."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from tests.unit.log.scripted_log import draft, put, walk
from tests.unit.log.unreliable_timers import UnreliableTimers
from tests.unit.messaging.message_bench import Bench, Copy

from trunkline.domain.events import Kind, Refused, Type
from trunkline.domain.status import Status
from trunkline.log.append import Appended, ShardHealth, append
from trunkline.log.event import Event, created_filter
from trunkline.log.interface import Delivery
from trunkline.messaging.schedule import (
    COPY_RETRY_S,
    NEAR_S,
    POISON_RETRY_S,
    UNSURE_RETRY_S,
    timer_name,
)

pytestmark = pytest.mark.anyio

NAME = "8" * 32
SID = "SM" + NAME
HOME, *_ = walk(NAME)
DAY_S = 86_400.0
HOUR_S = 3600.0


class LostAnswer:
    """A delivery whose worker dies before the log hears of it."""

    def __init__(self, delivery: Delivery) -> None:
        self.stored = delivery.stored

    async def ack(self) -> None:
        return

    async def nak(self, delay_s: float) -> None:
        del delay_s


@pytest.fixture
def timers(bench: Bench) -> UnreliableTimers:
    """The timers of the bench's log."""
    timers = UnreliableTimers(bench.clock)
    bench.log._inner.timers = timers
    return timers


async def put_together(bench: Bench, send_in_s: Mapping[str, float]) -> Appended:
    """Messages that were accepted in the same moment, in one register; each by its name."""
    now = bench.clock.wall()
    first, *others = [
        draft(name, is_keyed=False, send_at=now + wait_s if wait_s else None)
        for name, wait_s in send_in_s.items()
    ]
    together = msgspec.structs.replace(first, name=NAME[:20], others=tuple(others))
    walking = append(
        bench.log, together, author=bench.author("api"), health=ShardHealth(bench.clock)
    )
    appended = await bench.within_time(walking)
    assert isinstance(appended, Appended)
    return appended


def sent(bench: Bench) -> set[str]:
    """The names of the messages that were handed over."""
    return {each.reference.split(":")[1][2:] for each in bench.carrier.submitted}


async def in_hand(bench: Bench) -> Delivery:
    """The original, as the log hands it to a worker."""
    consumer = await bench.log.consumer(HOME, "dispatch", [created_filter(HOME, Kind.MESSAGE)])
    (delivery,) = await consumer.fetch(1, 0.0)
    return delivery


async def put_off_and_die(bench: Bench, event: Event, *, until: float) -> None:
    """A worker writes the timer, and is gone before it answers the log."""
    delivery = LostAnswer(await in_hand(bench))
    await bench.within_time(bench.schedule.put_off(delivery, event, until=until))


async def copy_sees(bench: Bench) -> None:
    """The host's copy shows the message as it is now."""
    bench.known[SID] = await bench.message(NAME)


async def types(bench: Bench) -> list[Type]:
    """All that was ever written about the message, but for its originals."""
    return [event.type for _, event in await bench.history(NAME) if event.type is not Type.ORIGINAL]


async def test_a_message_for_35_days_ahead_is_sent_then_although_its_original_was_trimmed(
    bench: Bench, timers: UnreliableTimers
) -> None:
    created = await bench.put(NAME, send_in_s=35 * DAY_S)
    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(2.0)
    assert bench.acked == [created.event.id]
    assert await timers.standing() == 1
    assert (await bench.message(NAME)).status is Status.SCHEDULED
    await copy_sees(bench)
    bench.log.trim()

    dispatcher = bench.dispatcher("two")
    async with bench.running(dispatcher, bench.due_messages(dispatcher)):
        await bench.clock.advance(35 * DAY_S - 10.0)
        await bench.pass_time(5.0)
        assert bench.carrier.submitted == []
        await bench.pass_time(10.0)

    assert bench.carrier.attempts == [(1, False)]
    assert await types(bench) == [Type.CLAIM, Type.OUTCOME]
    assert (await bench.message(NAME)).status is Status.SENT
    assert await timers.standing() == 0
    assert (bench.put_off.count, bench.due.count) == (1, 1)


async def test_a_message_whose_original_still_stands_goes_on_behind_it(bench: Bench) -> None:
    await bench.put(NAME, send_in_s=HOUR_S)
    dispatcher = bench.dispatcher("one")

    async with bench.running(dispatcher, bench.due_messages(dispatcher)):
        await bench.pass_time(1.0)
        await bench.clock.advance(HOUR_S)
        await bench.pass_time(2.0)

    chain = [event.type for event in await bench.log.chain(HOME, NAME)]
    assert chain == [Type.ORIGINAL, Type.CLAIM, Type.OUTCOME]
    assert bench.carrier.attempts == [(1, False)]


async def test_a_worker_that_died_between_timer_and_answer_leads_to_one_send(
    bench: Bench, timers: UnreliableTimers
) -> None:
    created = await bench.put(NAME, send_in_s=HOUR_S)
    await put_off_and_die(bench, created.event, until=bench.clock.wall() + HOUR_S)
    await bench.log.deliver_again()
    dispatcher = bench.dispatcher("two")

    async with bench.running(dispatcher, bench.due_messages(dispatcher)):
        await bench.pass_time(1.0)
        assert await timers.standing() == 1
        await bench.clock.advance(HOUR_S)
        await bench.pass_time(2.0)

    assert bench.carrier.attempts == [(1, False)]
    assert await timers.standing() == 0


async def test_an_original_that_comes_again_together_with_its_timer_is_sent_once(
    bench: Bench, timers: UnreliableTimers
) -> None:
    created = await bench.put(NAME, send_in_s=HOUR_S)
    await put_off_and_die(bench, created.event, until=bench.clock.wall() + HOUR_S)
    await bench.clock.advance(HOUR_S)
    await bench.log.deliver_again()
    one, two = bench.dispatcher("one"), bench.dispatcher("two")

    async with bench.running(one, two, bench.due_messages(two)):
        await bench.pass_time(5.0)

    assert bench.carrier.attempts == [(1, False)]
    assert bench.due.count == 1
    assert bench.acked == [created.event.id]
    assert await timers.standing() == 0


async def test_a_timer_that_stands_in_two_shards_comes_twice_and_leads_to_one_send(
    bench: Bench, timers: UnreliableTimers
) -> None:
    await bench.put(NAME, send_in_s=HOUR_S)
    timers.mute = {0, 1, 2}
    dispatcher = bench.dispatcher("one")

    async with bench.running(dispatcher, bench.due_messages(dispatcher)):
        await bench.pass_time(1.0)
        assert await timers.standing() > 1
        await bench.clock.advance(HOUR_S)
        await bench.pass_time(5.0)

    assert bench.due.count > 1
    assert bench.carrier.attempts == [(1, False)]
    assert await timers.standing() == 0


async def test_a_second_timer_that_comes_after_all_was_trimmed_sends_nothing(
    bench: Bench, timers: UnreliableTimers, tmp_path: Path
) -> None:
    created = await bench.put(NAME, send_in_s=HOUR_S)
    until = bench.clock.wall() + HOUR_S
    await put_off_and_die(bench, created.event, until=until)
    (payload,) = [each.payload for shard in timers._shards for each in shard.waiting.values()]
    one = bench.dispatcher("one")
    async with Copy(bench, tmp_path / "copy.sqlite3").following() as copy:
        async with bench.running(one, bench.due_messages(one)):
            await bench.clock.advance(HOUR_S)
            await bench.pass_time(2.0)
        await copy.catch_up()
        bench.past, bench.known[SID] = copy.replica, await bench.message(NAME)
        bench.log.trim(chains=True)

        await timers.write(2, timer_name(Kind.MESSAGE, SID), until, payload, timeout_s=1.0)
        two = bench.dispatcher("two")
        async with bench.running(two, bench.due_messages(two)):
            await bench.pass_time(2.0)

    assert bench.due.count == 2
    assert bench.carrier.attempts == [(1, False)]
    assert await timers.standing() == 0


async def test_a_due_message_waits_for_a_copy_that_does_not_show_it_yet(
    bench: Bench, timers: UnreliableTimers
) -> None:
    await bench.put(NAME, send_in_s=HOUR_S)
    dispatcher = bench.dispatcher("one")
    async with bench.running(dispatcher, bench.due_messages(dispatcher)):
        await bench.pass_time(1.0)
        bench.log.trim()
        await bench.clock.advance(HOUR_S)
        await bench.pass_time(10.0)
        assert bench.carrier.submitted == []

        await copy_sees(bench)
        await bench.pass_time(2 * COPY_RETRY_S)

    assert bench.carrier.attempts == [(1, False)]
    assert await timers.standing() == 0


async def test_a_timer_that_comes_too_early_is_set_again(
    bench: Bench, timers: UnreliableTimers
) -> None:
    created = await bench.put(NAME, send_in_s=HOUR_S)
    await put_off_and_die(bench, created.event, until=bench.clock.wall() + NEAR_S + 1.0)
    dispatcher = bench.dispatcher("one")

    async with bench.running(dispatcher, bench.due_messages(dispatcher)):
        await bench.clock.advance(NEAR_S + 1.0)
        await bench.pass_time(2.0)
        assert (bench.due.count, await timers.standing()) == (1, 1)
        assert bench.carrier.submitted == []
        await bench.clock.advance(HOUR_S)
        await bench.pass_time(2.0)

    assert bench.carrier.attempts == [(1, False)]
    assert bench.put_off.count == 2


async def test_a_message_that_is_due_within_seconds_needs_no_timer(
    bench: Bench, timers: UnreliableTimers
) -> None:
    created = await bench.put(NAME, send_in_s=NEAR_S)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(NEAR_S - 1.0)
        assert bench.put_back == [(created.event.id, NEAR_S)]
        assert await timers.standing() == 0
        assert bench.carrier.submitted == []
        await bench.pass_time(2.0)

    assert bench.carrier.attempts == [(1, False)]


async def test_a_message_that_ended_before_it_was_due_is_not_sent(
    bench: Bench, timers: UnreliableTimers
) -> None:
    await bench.put(NAME, send_in_s=HOUR_S)
    dispatcher = bench.dispatcher("one")

    async with bench.running(dispatcher, bench.due_messages(dispatcher)):
        await bench.pass_time(1.0)
        ended = Refused(attempt=0, error_code=30036)
        await put(bench.log, HOME, NAME, bench.author("api"), Type.REFUSAL, ended)
        await bench.clock.advance(HOUR_S)
        await bench.pass_time(2.0)

    assert bench.due.count == 1
    assert bench.carrier.submitted == []
    assert await timers.standing() == 0


async def test_a_message_stays_with_the_log_while_no_timer_can_be_written(
    bench: Bench, timers: UnreliableTimers
) -> None:
    created = await bench.put(NAME, send_in_s=HOUR_S)
    timers.away = set(range(timers.shards))

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(10.0)
        assert bench.acked == []
        assert (created.event.id, UNSURE_RETRY_S) in bench.put_back
        timers.away = set()
        await bench.pass_time(10.0)

    assert bench.acked == [created.event.id]
    assert await timers.standing() == 1


async def test_a_timer_that_nobody_can_read_does_not_stop_the_others(
    bench: Bench, timers: UnreliableTimers
) -> None:
    await bench.put(NAME, send_in_s=HOUR_S)
    for shard in range(timers.shards):
        await timers.write(shard, "damaged", bench.clock.wall(), b"{}", timeout_s=1.0)
    dispatcher = bench.dispatcher("one")

    async with bench.running(dispatcher, bench.due_messages(dispatcher)):
        await bench.pass_time(1.0)
        await bench.clock.advance(HOUR_S)
        await bench.pass_time(2.0)
        assert bench.carrier.attempts == [(1, False)]
        await bench.pass_time(POISON_RETRY_S)

    assert await timers.standing() == timers.shards


async def test_an_unreadable_shard_makes_a_due_message_wait(
    bench: Bench, timers: UnreliableTimers
) -> None:
    await bench.put(NAME, send_in_s=HOUR_S)
    dispatcher = bench.dispatcher("one")

    async with bench.running(dispatcher, bench.due_messages(dispatcher)):
        await bench.pass_time(1.0)
        bench.log.unreadable = {HOME}
        await bench.clock.advance(HOUR_S)
        await bench.pass_time(5.0)
        assert bench.due.count == 0
        bench.log.unreadable = set()
        await bench.pass_time(5.0)

    assert bench.carrier.attempts == [(1, False)]


async def test_messages_of_one_register_are_put_off_each_for_itself(
    bench: Bench, timers: UnreliableTimers
) -> None:
    names = [NAME[:20] + str(number) * 12 for number in range(4)]
    waits = [0.0, HOUR_S, 2 * HOUR_S, 0.0]
    await put_together(bench, dict(zip(names, waits, strict=True)))
    dispatcher = bench.dispatcher("one")

    async with bench.running(dispatcher, bench.due_messages(dispatcher)):
        await bench.pass_time(1.0)
        assert sent(bench) == {names[0], names[3]}
        assert await timers.standing() == 2
        assert len(bench.acked) == len(names)
        bench.log.trim()
        bench.known |= {"SM" + name: await bench.message(name) for name in names}
        await bench.clock.advance(HOUR_S)
        await bench.pass_time(2.0)
        assert sent(bench) == {names[0], names[1], names[3]}
        await bench.clock.advance(HOUR_S)
        await bench.pass_time(2.0)

    assert sent(bench) == set(names)
    assert len(bench.carrier.submitted) == len(names)
    assert await timers.standing() == 0


async def test_a_register_stays_with_the_log_until_each_of_its_messages_is_answered(
    bench: Bench, timers: UnreliableTimers
) -> None:
    names = [NAME[:20] + str(number) * 12 for number in range(3)]
    timers.away = set(range(timers.shards))
    await put_together(bench, dict.fromkeys(names, HOUR_S) | {names[0]: 0.0})

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(20.0)
        assert bench.acked == []
        timers.away = set()
        await bench.pass_time(20.0)

    assert len(bench.acked) == len(names)
    assert sent(bench) == {names[0]}
    assert len(bench.carrier.submitted) == 1
    assert await timers.standing() == 2


async def test_what_is_due_is_left_to_others_by_a_host_that_drains(
    bench: Bench, timers: UnreliableTimers
) -> None:
    await bench.put(NAME, send_in_s=HOUR_S)
    dispatcher = bench.dispatcher("one")
    due = bench.due_messages(dispatcher)

    async with bench.running(dispatcher, due) as tasks:
        await bench.pass_time(1.0)
        dispatcher.drain()
        due.drain()
        await bench.pass_time(1.0)
        assert all(task.done() for task in tasks)
        await bench.clock.advance(HOUR_S)

    assert bench.due.count == 0
    assert await timers.standing() == 1
