"""An attempt of which nobody knows whether it arrived: held, sent again flagged, or failed."""

import pytest
from tests.unit.log.scripted_log import ACCOUNT, put, walk
from tests.unit.messaging.message_bench import Bench

from trunkline.domain.events import Ambiguous, Body, Claimed, Kind, Receipt, Refused, Type
from trunkline.domain.status import Status
from trunkline.log.limits import WORK_MAX_S
from trunkline.messaging import carrier
from trunkline.messaging.record import EventRecorder
from trunkline.messaging.work import OnAmbiguous

pytestmark = pytest.mark.anyio

NAME = "8" * 32
SID = "SM" + NAME
HOME = walk(NAME)[0]
CLAIM_OF_A_DEAD_HOST = Claimed(attempt=1, nonce="n", lease="dead", carrier="acme")


async def types(bench: Bench) -> list[Type]:
    """The message's chain, from its original on."""
    return [event.type for event in await bench.log.chain(HOME, NAME)]


async def bodies(bench: Bench) -> list[Body]:
    return [event.body() for event in await bench.log.chain(HOME, NAME)][1:]


async def claimed_by_the_dead(bench: Bench) -> str:
    """An accepted message under a claim that nobody will settle; its id."""
    created = await bench.put(NAME)
    await put(bench.log, HOME, NAME, bench.author("dead"), Type.CLAIM, CLAIM_OF_A_DEAD_HOST)
    return created.event.id


async def test_a_lost_claim_is_held_and_stays_open_until_a_receipt_comes(bench: Bench) -> None:
    created = await claimed_by_the_dead(bench)

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(2 * WORK_MAX_S)

    assert bench.acked[0] == created
    assert bench.carrier.submitted == []
    (_, mark) = await bodies(bench)
    assert isinstance(mark, Ambiguous)
    assert (mark.attempt, mark.is_held) == (1, True)
    held = await bench.message(NAME)
    assert (held.status, held.ambiguous) == (Status.SENDING, frozenset({1}))

    receipt = Receipt(status="delivered", carrier="acme", carrier_message_id="acme-1")
    recorder = EventRecorder(bench.log, author=bench.author("one"))
    assert await recorder.record(Kind.MESSAGE, Type.RECEIPT, ACCOUNT, SID, receipt)
    assert (await bench.message(NAME)).status is Status.DELIVERED


async def test_a_lost_claim_is_sent_again_flagged_where_the_route_says_so(bench: Bench) -> None:
    created = await claimed_by_the_dead(bench)

    async with bench.running(bench.dispatcher("one", on_ambiguous=OnAmbiguous.RESEND)):
        await bench.pass_time(2 * WORK_MAX_S)

    assert bench.carrier.attempts == [(2, True)]
    assert await types(bench) == [
        Type.ORIGINAL,
        Type.CLAIM,
        Type.AMBIGUOUS,
        Type.CLAIM,
        Type.OUTCOME,
    ]
    assert bench.acked[0] == created
    message = await bench.message(NAME)
    assert (message.attempts, message.ambiguous) == (2, frozenset({1}))


async def test_a_lost_claim_fails_where_the_route_says_so(bench: Bench) -> None:
    created = await claimed_by_the_dead(bench)

    async with bench.running(bench.dispatcher("one", on_ambiguous=OnAmbiguous.FAIL)):
        await bench.pass_time(2 * WORK_MAX_S)

    assert bench.carrier.submitted == []
    assert bench.acked[0] == created
    message = await bench.message(NAME)
    assert message.status is Status.FAILED
    assert message.ending is not None
    assert message.ending.error_code == 30008


async def test_a_hand_over_without_an_answer_is_held(bench: Bench) -> None:
    created = await bench.put(NAME)
    bench.carrier.answers.append(carrier.Unknown("the link was lost"))

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(2 * WORK_MAX_S)

    assert bench.carrier.attempts == [(1, False)]
    assert await types(bench) == [Type.ORIGINAL, Type.CLAIM, Type.AMBIGUOUS]
    assert bench.acked == [created.event.id]
    assert (await bench.message(NAME)).status is Status.SENDING


async def test_a_hand_over_without_an_answer_is_sent_again_flagged_and_never_silently(
    bench: Bench,
) -> None:
    created = await bench.put(NAME)
    bench.carrier.answers.append(carrier.Unknown("the link was lost"))

    async with bench.running(bench.dispatcher("one", on_ambiguous=OnAmbiguous.RESEND)):
        await bench.pass_time(2 * WORK_MAX_S)

    assert bench.carrier.attempts == [(1, False), (2, True)]
    assert bench.acked == [created.event.id]
    message = await bench.message(NAME)
    assert (message.status, message.ambiguous) == (Status.SENT, frozenset({1}))


async def test_a_hand_over_without_an_answer_fails_where_the_route_says_so(bench: Bench) -> None:
    created = await bench.put(NAME)
    bench.carrier.answers.append(carrier.Unknown("the link was lost"))

    async with bench.running(bench.dispatcher("one", on_ambiguous=OnAmbiguous.FAIL)):
        await bench.pass_time(2 * WORK_MAX_S)

    assert bench.carrier.attempts == [(1, False)]
    refusal = (await bodies(bench))[-1]
    assert isinstance(refusal, Refused)
    assert refusal.error_code == 30008
    assert bench.acked == [created.event.id]
