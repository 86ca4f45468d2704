"""Dispatch goes on: one bad shard, a link that is down or an unsure carrier stops only what it must."""

import pytest
from tests.unit.log.scripted_log import Fate, draft
from tests.unit.messaging.message_bench import Bench, ScriptedCarrier, ScriptedLeases

from trunkline.domain.message import Ending, Message
from trunkline.domain.status import Status
from trunkline.kernel import Deadline
from trunkline.log.append import Appended, ShardHealth, append
from trunkline.log.shards import order
from trunkline.messaging import carrier
from trunkline.messaging.attempt import RESENT_MAX
from trunkline.messaging.carrier import Outcome, Submission
from trunkline.messaging.work import OnAmbiguous

pytestmark = pytest.mark.anyio

BAD, GOOD = 0, 1
NAME = "3" * 32


def names_whose_order_starts(*shards: int, count: int) -> list[str]:
    every = (f"{number:032x}" for number in range(1_000_000))
    fitting = (name for name in every if order(name)[: len(shards)] == shards)
    return [name for name, _ in zip(fitting, range(count), strict=False)]


async def test_a_shard_that_takes_no_writes_does_not_hold_the_window(bench: Bench) -> None:
    for name in names_whose_order_starts(BAD, count=3 * bench.carrier.window):
        await bench.put(name)
    bench.log.always(Fate.LOST, BAD)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(3.0)
        for name in names_whose_order_starts(GOOD, count=5):
            await bench.put(name)
        await bench.pass_time(10.0)

    assert len(bench.carrier.submitted) == 5


async def test_messages_fenced_behind_a_dead_shard_leave_room_for_others(bench: Bench) -> None:
    bench.log.always(Fate.LOST, BAD)
    for name in names_whose_order_starts(BAD, GOOD, count=40):
        keyed = draft(name, is_keyed=True)
        stored = append(
            bench.log, keyed, author=bench.author("api"), health=ShardHealth(bench.clock)
        )
        answer = await bench.within_time(stored)
        assert isinstance(answer, Appended)
        assert answer.shard == GOOD

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(3.0)
        for name in names_whose_order_starts(GOOD, count=5):
            await bench.put(name)
        await bench.pass_time(10.0)

    assert len(bench.carrier.submitted) == 5


async def test_nothing_is_written_while_the_link_is_down(bench: Bench) -> None:
    for name in names_whose_order_starts(GOOD, count=20):
        await bench.put(name)
    bench.carrier.down_for_s = 1.0
    before = len(bench.log.published)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(60.0)
        assert len(bench.log.published) == before
        bench.carrier.down_for_s = 0.0
        await bench.pass_time(10.0)

    assert len(bench.carrier.submitted) == 20


async def test_a_message_of_unknown_outcome_is_resent_with_growing_pauses_and_then_held(
    bench: Bench,
) -> None:
    class Unsure(ScriptedCarrier):
        async def submit(self, submission: Submission, *, key: str, deadline: Deadline) -> Outcome:
            await super().submit(submission, key=key, deadline=deadline)
            return carrier.Unknown("connection reset")

    unsure = Unsure()
    await bench.put("8" * 32)

    async with bench.running(
        bench.dispatcher("one", carrier=unsure, on_ambiguous=OnAmbiguous.RESEND)
    ):
        await bench.pass_time(1.5)
        assert len(unsure.submitted) <= 3
        await bench.pass_time(300.0)

    assert len(unsure.submitted) == RESENT_MAX
    assert bench.acked


async def test_a_message_whose_receipt_came_is_not_resent(bench: Bench) -> None:
    await bench.put("8" * 32)
    bench.carrier.answers.append(carrier.Unknown("connection reset"))
    ending = Ending(1.0, "e", Status.DELIVERED)
    bench.known["SM" + "8" * 32] = Message(sid="SM" + "8" * 32, ending=ending)

    async with bench.running(bench.dispatcher("one", on_ambiguous=OnAmbiguous.RESEND)):
        await bench.pass_time(30.0)

    assert len(bench.carrier.submitted) == 1
    assert bench.acked


async def test_a_process_whose_lease_is_lost_claims_nothing_and_ends(bench: Bench) -> None:
    created = await bench.put("8" * 32)
    dispatcher = bench.dispatcher("one", leases=ScriptedLeases("one", is_valid=False))

    with pytest.raises(ExceptionGroup) as ended:
        async with bench.running(dispatcher):
            await bench.pass_time(5.0)

    assert "lease one is not ours" in str(ended.value.exceptions[0])
    assert [event.id for event in await bench.log.chain(created.shard, "8" * 32)] == [
        created.event.id
    ]


@pytest.mark.parametrize("jump_s", [11 * 3600.0, -11 * 3600.0])
async def test_a_clock_that_jumps_expires_no_message(bench: Bench, jump_s: float) -> None:
    bench.carrier.down_for_s = 1.0
    dispatcher = bench.dispatcher("one")
    await bench.put(NAME)
    async with bench.running(dispatcher):
        await bench.pass_time(5.0)
        bench.clock.jump_wall(jump_s)
        bench.carrier.down_for_s = 0.0

        await bench.pass_time(5.0)

    message = await bench.message(NAME)
    assert message.status is Status.SENT
