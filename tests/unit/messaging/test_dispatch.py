"""Dispatch: handed over once and written down; and what becomes of a message when a host is not."""

import msgspec
import pytest
from tests.unit.log.scripted_log import ACCOUNT, Fate, Publish, draft, pen, put, walk
from tests.unit.messaging.message_bench import Bench, ScriptedCarrier, ScriptedLeases, Tally

from trunkline.domain.events import (
    Body,
    Claimed,
    HandedOver,
    Returned,
    Tombstone,
    Type,
)
from trunkline.domain.status import Status
from trunkline.kernel import FakeClock
from trunkline.log.append import Appended, ShardHealth, append
from trunkline.log.limits import LATE_MAX_S, WORK_MAX_S
from trunkline.messaging import carrier
from trunkline.messaging.attempt import RETRY_LATER_S
from trunkline.messaging.dispatch import TOGETHER_MIN
from trunkline.messaging.work import OnAmbiguous

pytestmark = pytest.mark.anyio

NAME = "8" * 32
SID = "SM" + NAME
HOME, NEXT, *_ = walk(NAME)
CLAIM_OF_A_DEAD_HOST = Claimed(attempt=1, nonce="n", lease="dead", carrier="acme")


async def types(bench: Bench) -> list[Type]:
    """The message's chain, from its original on."""
    return [event.type for event in await bench.log.chain(HOME, NAME)]


async def bodies(bench: Bench) -> list[Body]:
    return [event.body() for event in await bench.log.chain(HOME, NAME)][1:]


async def test_a_message_is_claimed_handed_over_once_and_acknowledged(bench: Bench) -> None:
    created = await bench.put(NAME)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(2 * WORK_MAX_S)

    assert await types(bench) == [Type.ORIGINAL, Type.CLAIM, Type.OUTCOME]
    assert bench.acked == [created.event.id]
    (submission,) = bench.carrier.submitted
    assert submission.reference == f"{ACCOUNT}:{SID}:1:{HOME}"
    assert (submission.sender, submission.recipient) == ("+15550001", "+15550002")
    assert (submission.text, submission.is_possible_duplicate) == ("hello", False)
    message = await bench.message(NAME)
    assert (message.status, message.attempts) == (Status.SENT, 1)
    assert (message.carrier, message.carrier_message_id) == ("acme", "acme-1")


async def test_nothing_is_acknowledged_before_its_outcome_is_written_down(bench: Bench) -> None:
    # S19, the early half.
    created = await bench.put(NAME)
    bench.carrier.answering.clear()

    async with bench.running(bench.dispatcher("one")):
        assert bench.carrier.under_way == 1
        assert bench.acked == []
        bench.log.always(Fate.LOST, HOME)
        bench.carrier.answering.set()
        await bench.pass_time(5.0)
        assert bench.acked == []
        bench.log.always(Fate.WELL, HOME)
        await bench.pass_time(1.0)

    assert bench.acked == [created.event.id]
    assert len(bench.carrier.submitted) == 1


async def test_a_message_delivered_again_after_its_outcome_is_only_acknowledged(
    bench: Bench,
) -> None:
    created = await bench.put(NAME)
    author = bench.author("gone")
    await put(bench.log, HOME, NAME, author, Type.CLAIM, CLAIM_OF_A_DEAD_HOST)
    handed_over = HandedOver(attempt=1, carrier="acme", carrier_message_id="1")
    await put(bench.log, HOME, NAME, author, Type.OUTCOME, handed_over)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(1.0)

    assert bench.acked[0] == created.event.id
    assert bench.carrier.submitted == []


async def test_a_claim_whose_answer_was_lost_is_still_sent_once(bench: Bench) -> None:
    await bench.put(NAME)
    bench.log.will(HOME, Fate.ANSWER_LOST, Fate.LOST)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(2 * WORK_MAX_S)

    assert await types(bench) == [Type.ORIGINAL, Type.CLAIM, Type.OUTCOME]
    assert bench.carrier.attempts == [(1, False)]


async def test_the_claim_of_a_live_host_is_left_alone(bench: Bench) -> None:
    # S17: two deliveries of one message; whoever claims first sends.
    created = await bench.put(NAME)
    slow, other = ScriptedCarrier(), ScriptedCarrier()
    slow.answering.clear()
    first = bench.dispatcher("one", carrier=slow)
    second = bench.dispatcher("two", leases=ScriptedLeases("two", live={"one"}), carrier=other)

    async with bench.running(first):
        first.drain()
        async with bench.running(second):
            await bench.log.deliver_again()
            await bench.pass_time(5.0)
            assert (created.event.id, RETRY_LATER_S) in bench.put_back
            slow.answering.set()
            await bench.pass_time(5.0)

    assert (slow.attempts, other.attempts) == ([(1, False)], [])
    assert await types(bench) == [Type.ORIGINAL, Type.CLAIM, Type.OUTCOME]
    assert bench.acked[-1] == created.event.id


async def test_a_host_leaves_its_own_claim_alone_while_its_task_works(bench: Bench) -> None:
    await bench.put(NAME)
    bench.carrier.answering.clear()

    async with bench.running(bench.dispatcher("one")):
        await bench.log.deliver_again()
        await bench.pass_time(5.0)
        assert await types(bench) == [Type.ORIGINAL, Type.CLAIM]
        bench.carrier.answering.set()
        await bench.pass_time(5.0)

    assert bench.carrier.attempts == [(1, False)]
    assert await types(bench) == [Type.ORIGINAL, Type.CLAIM, Type.OUTCOME]


async def test_a_process_that_is_drained_first_finds_out_what_became_of_its_claims(
    bench: Bench,
) -> None:
    # The claim stands, and nobody but this process knows that nothing was sent under it.
    await bench.put(NAME)
    bench.log.will(HOME, Fate.ANSWER_LOST)
    bench.log.always(Fate.LOST, HOME)
    dispatcher = bench.dispatcher("one")

    async with bench.running(dispatcher) as running:
        await bench.pass_time(12.0)
        dispatcher.drain()
        await bench.pass_time(3.0)
        assert not running[0].done()
        bench.log.always(Fate.WELL, HOME)
        await bench.pass_time(5.0)
        assert running[0].done()

    assert await types(bench) == [Type.ORIGINAL, Type.CLAIM, Type.OUTCOME]
    assert bench.carrier.attempts == [(1, False)]


async def test_a_claim_under_its_own_name_that_no_task_knows_is_not_taken_for_its_own(
    bench: Bench,
) -> None:
    # S18: a task that is gone may have sent it.
    await bench.put(NAME)
    orphan = Claimed(attempt=1, nonce="forgotten", lease="one", carrier="acme")
    await put(bench.log, HOME, NAME, bench.author("old"), Type.CLAIM, orphan)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(1.0)

    assert await types(bench) == [Type.ORIGINAL, Type.CLAIM, Type.AMBIGUOUS]
    assert bench.carrier.submitted == []


async def test_a_claim_whose_task_gave_up_on_the_log_is_taken_up_by_its_living_process(
    bench: Bench,
) -> None:
    # S19, the orphan half: the claim stands, its task could not know, and its process goes on. The
    # process knows that nothing was sent under it.
    created = await bench.put(NAME)
    bench.log.will(HOME, Fate.ANSWER_LOST)
    bench.log.always(Fate.LOST, HOME)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(WORK_MAX_S + 1.0)
        bench.log.always(Fate.WELL, HOME)
        await bench.pass_time(WORK_MAX_S + 1.0)

    assert await types(bench) == [Type.ORIGINAL, Type.CLAIM, Type.OUTCOME]
    assert bench.acked == [created.event.id]
    assert bench.carrier.attempts == [(1, False)]


async def test_a_final_no_of_the_carrier_fails_the_message_with_its_code(bench: Bench) -> None:
    created = await bench.put(NAME)
    bench.carrier.answers.append(carrier.Refused(21610, "the recipient said STOP"))

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(2 * WORK_MAX_S)

    assert len(bench.carrier.submitted) == 1
    assert bench.acked == [created.event.id]
    message = await bench.message(NAME)
    assert message.ending is not None
    assert (message.status, message.ending.error_code) == (Status.FAILED, 21610)


async def test_a_message_that_surely_did_not_leave_is_tried_again_without_a_flag(
    bench: Bench,
) -> None:
    created = await bench.put(NAME)
    throttled = carrier.Refused(30022, "throttled", is_returned=True, retry_after_s=2.0)
    bench.carrier.answers.append(throttled)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(0.1)
        assert isinstance((await bodies(bench))[-1], Returned)
        await bench.pass_time(1.5)
        assert len(bench.carrier.submitted) == 1
        await bench.pass_time(2.0)

    assert bench.carrier.attempts == [(1, False), (2, False)]
    assert (created.event.id, 2.0) in bench.put_back
    assert bench.acked == [created.event.id]
    message = await bench.message(NAME)
    assert (message.status, message.ambiguous) == (Status.SENT, frozenset())


@pytest.mark.parametrize(("is_unsent", "waits_s"), [(True, (0.5, 0.5)), (False, (0.5, 1.0))])
async def test_a_message_that_found_the_link_down_does_not_wait_ever_longer(
    bench: Bench, *, is_unsent: bool, waits_s: tuple[float, float]
) -> None:
    created = await bench.put(NAME)
    down = carrier.Refused(
        30001, "not reached", is_returned=True, retry_after_s=0.5, is_unsent=is_unsent
    )
    bench.carrier.answers.extend([down, down])

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(5.0)

    assert bench.carrier.attempts == [(1, False), (2, False), (3, False)]
    assert bench.put_back == [(created.event.id, wait_s) for wait_s in waits_s]


async def test_a_returned_resend_keeps_its_flag(bench: Bench) -> None:
    await bench.put(NAME)
    bench.carrier.answers.append(carrier.Unknown("the link was lost"))
    bench.carrier.answers.append(carrier.Refused(30022, "throttled", is_returned=True))

    async with bench.running(bench.dispatcher("one", on_ambiguous=OnAmbiguous.RESEND)):
        await bench.pass_time(5.0)

    assert bench.carrier.attempts == [(1, False), (2, True), (3, True)]


async def test_an_answer_that_comes_when_the_time_for_work_is_over_is_still_written_down(
    bench: Bench,
) -> None:
    created = await bench.put(NAME)
    bench.carrier.answering.clear()

    async with bench.running(bench.dispatcher("one")):
        await bench.clock.advance(WORK_MAX_S + 5.0)
        bench.carrier.answering.set()
        await bench.pass_time(5.0)

    assert await types(bench) == [Type.ORIGINAL, Type.CLAIM, Type.OUTCOME]
    assert set(bench.acked) == {created.event.id}


async def test_the_window_of_the_carrier_is_never_exceeded(bench: Bench) -> None:
    narrow = ScriptedCarrier(window=3)
    narrow.answering.clear()
    names = [f"{number:032x}" for number in range(20)]
    for name in names:
        await bench.put(name)

    async with bench.running(bench.dispatcher("one", carrier=narrow)):
        claims = [e for p in bench.log.published for e in p.events if e.type is Type.CLAIM]
        assert (narrow.under_way, len(claims)) == (3, 3)
        narrow.answering.set()
        await bench.pass_time(1.0)

    assert narrow.most_under_way == 3
    assert len(narrow.submitted) == 20
    assert len(bench.acked) == 20


async def test_a_lease_lost_right_before_the_hand_over_sends_nothing(bench: Bench) -> None:
    await bench.put(NAME)
    leases = ScriptedLeases("one")

    async def lose(publish: Publish) -> None:
        leases.is_valid = publish.event.type is not Type.CLAIM

    bench.log.on_publish = lose

    with pytest.raises(ExceptionGroup):
        async with bench.running(bench.dispatcher("one", leases=leases)):
            await bench.pass_time(5.0)

    assert bench.carrier.submitted == []
    assert bench.acked == []
    assert await types(bench) == [Type.ORIGINAL, Type.CLAIM]


async def test_a_worker_that_was_frozen_past_its_time_sends_nothing(bench: Bench) -> None:
    await bench.put(NAME)

    dispatcher = bench.dispatcher("one")

    async def freeze(publish: Publish) -> None:
        if publish.event.type is Type.CLAIM:
            dispatcher.drain()
            await bench.clock.advance(WORK_MAX_S)

    bench.log.on_publish = freeze

    async with bench.running(dispatcher) as (task,):
        await bench.pass_time(0.1)
        assert task.done()

    assert await types(bench) == [Type.ORIGINAL, Type.CLAIM, Type.RETURN]
    assert bench.carrier.submitted == []
    assert bench.acked == []


async def test_a_message_that_waited_longer_than_it_is_valid_fails_and_is_not_sent(
    bench: Bench,
) -> None:
    created = await bench.put(NAME)
    await bench.clock.advance(36_001.0)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(1.0)

    assert bench.carrier.submitted == []
    assert bench.acked == [created.event.id]
    message = await bench.message(NAME)
    assert message.status is Status.FAILED
    assert message.ending is not None
    assert message.ending.error_code == 30036


@pytest.mark.parametrize("count", [1, TOGETHER_MIN])
async def test_what_waits_when_its_account_is_suspended_fails_and_is_not_sent(
    bench: Bench, count: int
) -> None:
    names = [f"{number:032x}" for number in range(1, count + 1)]
    for name in names:
        await bench.put(name)
    bench.inactive.add(ACCOUNT)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(1.0)

    assert bench.carrier.submitted == []
    assert len(bench.acked) == count
    for name in names:
        message = await bench.message(name)
        assert message.status is Status.FAILED
        assert message.ending is not None
        assert message.ending.error_code == 30002


async def test_a_message_waits_while_nobody_can_say_whether_its_account_is_active(
    bench: Bench,
) -> None:
    created = await bench.put(NAME)
    bench.is_copy_readable = False
    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(5.0)
        assert bench.carrier.submitted == []
        assert bench.acked == []

        bench.is_copy_readable = True
        await bench.pass_time(60.0)

    assert bench.carrier.attempts == [(1, False)]
    assert bench.acked == [created.event.id]


async def test_what_may_have_left_before_its_account_was_suspended_is_not_said_to_be_unsent(
    bench: Bench,
) -> None:
    await bench.put(NAME)
    bench.carrier.answering.clear()
    async with bench.running(bench.dispatcher("one")):
        assert bench.carrier.under_way == 1
    bench.inactive.add(ACCOUNT)

    async with bench.running(bench.dispatcher("two", on_ambiguous=OnAmbiguous.RESEND)):
        bench.carrier.answering.set()
        await bench.log.deliver_again()
        await bench.pass_time(1.0)

    assert bench.carrier.attempts == [(1, False)]
    message = await bench.message(NAME)
    assert message.ending is not None
    assert message.ending.error_code == 30008


async def test_a_worker_that_thaws_after_it_was_given_up_is_not_sent_behind_its_back(
    bench: Bench,
) -> None:
    await bench.put(NAME)
    frozen, other = ScriptedCarrier(), ScriptedCarrier()
    frozen.answering.clear()

    first = bench.dispatcher("one", carrier=frozen)

    async with bench.running(first):
        first.drain()
        async with bench.running(bench.dispatcher("two", carrier=other)):
            await bench.log.deliver_again()
            await bench.pass_time(1.0)
            assert await types(bench) == [Type.ORIGINAL, Type.CLAIM, Type.AMBIGUOUS]
            frozen.answering.set()
            await bench.pass_time(5.0)

    assert (frozen.attempts, other.attempts) == ([(1, False)], [])
    assert (await types(bench))[-1] is Type.AMBIGUOUS
    message = await bench.message(NAME)
    assert (message.status, message.ambiguous) == (Status.SENT, frozenset({1})), (
        "the answer still counts"
    )


async def test_a_host_killed_during_a_hand_over_leaves_a_message_that_is_flagged(
    bench: Bench,
) -> None:
    created = await bench.put(NAME)
    bench.carrier.answering.clear()
    async with bench.running(bench.dispatcher("one")):
        assert bench.carrier.under_way == 1

    async with bench.running(bench.dispatcher("two", on_ambiguous=OnAmbiguous.RESEND)):
        bench.carrier.answering.set()
        await bench.log.deliver_again()
        await bench.pass_time(1.0)

    assert bench.carrier.attempts == [(1, False), (2, True)]
    assert bench.acked == [created.event.id]


async def test_a_duplicate_copy_is_dropped_and_its_original_is_sent_once(bench: Bench) -> None:
    bench.log.will(HOME, Fate.ANSWER_LOST)
    duplicate = await bench.put(NAME)
    assert duplicate.shard == NEXT

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(2 * WORK_MAX_S)

    assert bench.carrier.attempts == [(1, False)]
    assert await types(bench) == [Type.ORIGINAL, Type.CLAIM, Type.OUTCOME]
    assert [event.type for event in await bench.log.chain(NEXT, NAME)] == [Type.ORIGINAL]
    assert len(bench.acked) == 2


async def test_a_message_behind_an_electing_shard_waits_alone(bench: Bench) -> None:
    bench.log.will(HOME, Fate.LOST)
    diverted = await bench.put(NAME)
    bench.log.always(Fate.LOST, HOME)
    other = next(name for name in map("{:032x}".format, range(99)) if walk(name)[0] != HOME)
    await bench.put(other)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(5.0)
        (reference,) = [each.reference for each in bench.carrier.submitted]
        assert reference == f"{ACCOUNT}:SM{other}:1:{walk(other)[0]}"
        bench.log.always(Fate.WELL, HOME)
        await bench.pass_time(5.0)

    assert len(bench.carrier.submitted) == 2
    assert diverted.event.id in bench.acked


async def test_a_tombstone_is_passed_by(bench: Bench) -> None:
    tombstone = Tombstone(for_shard=NEXT)
    await put(bench.log, HOME, NAME, bench.author("one"), Type.TOMBSTONE, tombstone)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(1.0)

    assert [event.type for event in bench.log.acked] == [Type.TOMBSTONE]
    assert bench.carrier.submitted == []


async def test_a_late_original_is_held_counted_and_not_sent(bench: Bench) -> None:
    slow_clock = FakeClock(wall=bench.clock.wall() - LATE_MAX_S - 1.0)
    created = await bench.put(NAME, author=pen("slow", slow_clock))

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(2 * WORK_MAX_S)

    assert bench.carrier.submitted == []
    assert await types(bench) == [Type.ORIGINAL]
    assert bench.acked == [created.event.id]
    held = bench.counters.held
    assert isinstance(held, Tally)
    assert held.count == 1


async def test_a_message_that_breaks_the_carrier_does_not_stop_the_others(bench: Bench) -> None:
    names = [f"{number:032x}" for number in range(5)]
    for name in names:
        await bench.put(name)
    bench.carrier.answers.append(ZeroDivisionError("a bug of the carrier's"))

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(1.0)
        assert len(bench.acked) == 4
        await bench.pass_time(2 * WORK_MAX_S)

    # Nobody knows whether the broken one left: it is held, flagged.
    flagged = [name for name in names if (await bench.message(name)).ambiguous]
    assert len(bench.acked) == 5
    assert len(bench.carrier.submitted) == 5
    assert len(flagged) == 1


async def test_draining_settles_what_is_under_way_claims_nothing_new_and_ends(
    bench: Bench,
) -> None:
    narrow = ScriptedCarrier(window=2)
    narrow.answering.clear()
    for number in range(6):
        await bench.put(f"{number:032x}")
    dispatcher = bench.dispatcher("one", carrier=narrow)

    async with bench.running(dispatcher) as (task,):
        dispatcher.drain()
        await bench.pass_time(1.0)
        assert (narrow.under_way, task.done()) == (2, False)
        narrow.answering.set()
        await bench.pass_time(1.0)
        assert task.done()

    claims = [e for p in bench.log.published for e in p.events if e.type is Type.CLAIM]
    assert (len(narrow.submitted), len(claims), len(bench.acked)) == (2, 2, 2)

    async with bench.running(bench.dispatcher("two")):
        await bench.pass_time(2 * WORK_MAX_S)

    assert len(bench.carrier.submitted) == 4
    assert len(bench.acked) == 6


async def put_together(bench: Bench, *names: str) -> Appended:
    """Accepted messages that stand in one register."""
    first, *others = (draft(name, is_keyed=False) for name in names)
    together = msgspec.structs.replace(first, name=names[0][:20], others=tuple(others))
    answer = await bench.within_time(
        append(bench.log, together, author=bench.author("api"), health=ShardHealth(bench.clock))
    )
    assert isinstance(answer, Appended)
    return answer


TOGETHER = [f"{'9' * 20}{number:012x}" for number in range(4)]


async def test_messages_of_one_register_are_each_sent_once_and_acknowledged_together(
    bench: Bench,
) -> None:
    created = await put_together(bench, *TOGETHER)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(1.0)

    assert len(bench.carrier.submitted) == 4
    assert bench.acked == [created.event.id, *(event.id for event in created.others)]


async def test_what_is_left_of_a_register_comes_again_without_what_is_done(bench: Bench) -> None:
    await put_together(bench, *TOGETHER)
    bench.carrier.answers.append(carrier.Refused(0, "full", is_returned=True, retry_after_s=5.0))

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(1.0)
        assert (len(bench.carrier.submitted), bench.acked) == (4, [])
        await bench.pass_time(10.0)

    assert len(bench.carrier.submitted) == 5
    assert len(bench.acked) == 4
    assert [attempt for attempt, _ in bench.carrier.attempts] == [1, 1, 1, 1, 2]


async def test_one_poisonous_message_of_a_register_does_not_stop_the_others(bench: Bench) -> None:
    await put_together(bench, *TOGETHER)
    cannot_be_written = carrier.Refused(30003, "\ud800")
    bench.carrier.answers.append(cannot_be_written)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(1.0)

    assert len(bench.carrier.submitted) == 4
    outcomes = [e for p in bench.log.published for e in p.events if e.type is Type.OUTCOME]
    assert (len(outcomes), bench.acked) == (3, [])


async def test_a_register_in_the_hands_of_two_hosts_is_sent_once(bench: Bench) -> None:
    await put_together(bench, *TOGETHER)
    bench.carrier.answering.clear()
    leases = [ScriptedLeases(name, live={"one", "two"}) for name in ("one", "two")]
    first, second = (bench.dispatcher(each.own, leases=each) for each in leases)

    async with bench.running(first):
        await bench.log.deliver_again()
        async with bench.running(second):
            await bench.pass_time(2.0)
            bench.carrier.answering.set()
            await bench.pass_time(2.0)

    assert len(bench.carrier.submitted) == 4


async def test_an_answer_that_cannot_be_written_down_stops_one_message_only(bench: Bench) -> None:
    await put_together(bench, *TOGETHER)
    bench.carrier.answers.append(carrier.Accepted("\ud800"))

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(1.0)

    outcomes = [e for p in bench.log.published for e in p.events if e.type is Type.OUTCOME]
    assert (len(bench.carrier.submitted), len(outcomes), bench.acked) == (4, 3, [])
