"""Recording what may arrive in any order: any shard will do, and twice is harmless."""

import pytest
from tests.unit.log.scripted_log import ACCOUNT, Fate, walk
from tests.unit.messaging.message_bench import Bench

from trunkline.domain.events import Kind, Receipt, Type
from trunkline.domain.status import Status
from trunkline.messaging.record import RECORD_DEADLINE_S, EventRecorder

pytestmark = pytest.mark.anyio

NAME = "b" * 32
FIRST, SECOND, THIRD, *_ = walk(NAME)
DELIVERED = Receipt(status="delivered", carrier="acme", carrier_message_id="acme-1")


async def record(bench: Bench) -> bool:
    recorder = EventRecorder(bench.log, author=bench.author("one"))
    recording = recorder.record(Kind.MESSAGE, Type.RECEIPT, ACCOUNT, "SM" + NAME, DELIVERED)
    is_stored: bool = await bench.within_time(recording)
    return is_stored


async def test_an_event_goes_to_the_first_shard_of_its_resource(bench: Bench) -> None:
    assert await record(bench)

    (stored,) = await bench.log.everything()
    assert (stored.shard, stored.subject) == (FIRST, f"ev.{FIRST}.message.changed.{ACCOUNT}")


async def test_an_event_goes_elsewhere_when_a_shard_does_not_take_it(bench: Bench) -> None:
    bench.log.always(Fate.LOST, FIRST)
    bench.log.always(Fate.REFUSED, SECOND)

    assert await record(bench)

    assert [stored.shard for stored in await bench.log.everything()] == [THIRD]


async def test_an_event_stored_twice_folds_into_one(bench: Bench) -> None:
    await bench.put(NAME)
    await record(bench)
    once = await bench.message(NAME)
    bench.log.will(FIRST, Fate.ANSWER_LOST)

    assert await record(bench)

    assert len(await bench.history(NAME)) == 4
    twice = await bench.message(NAME)
    assert (twice.status, twice.ending) == (Status.DELIVERED, once.ending)


async def test_what_no_shard_takes_is_given_up_at_the_deadline_and_said_so(bench: Bench) -> None:
    bench.log.always(Fate.LOST)
    began = bench.clock.monotonic()

    assert not await record(bench)

    assert bench.clock.monotonic() - began == pytest.approx(RECORD_DEADLINE_S, abs=0.6)


async def test_a_moment_without_any_shard_is_waited_out(bench: Bench) -> None:
    for shard in range(bench.log.shards):
        bench.log.will(shard, Fate.LOST, Fate.REFUSED)

    assert await record(bench)
