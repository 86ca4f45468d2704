"""Receipts and inbound messages: written down first, acknowledged afterwards, kept once."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.log.scripted_log import ACCOUNT, Fate
from tests.unit.messaging.message_bench import Bench, Copy, Tally

from trunkline.directory.numbers import Owned, own_number
from trunkline.domain.events import MessageReceived, NumberOwned
from trunkline.domain.sid import SMS, digits_of, sid_from_key
from trunkline.domain.status import Status
from trunkline.kernel import Deadline
from trunkline.log.append import ShardHealth
from trunkline.messaging.carrier import InboundItem, ReceiptItem, reference_of
from trunkline.messaging.receipts import LINK_DOWN_WAIT_S, Counters, Receipts
from trunkline.messaging.record import EventRecorder

pytestmark = pytest.mark.anyio

NAME = "9" * 32
OURS = "+15125550100"
RECEIPT = ReceiptItem("item-1", "acme-1", reference_of(ACCOUNT, "SM" + NAME, 1, 3), "delivered")
INBOUND = InboundItem("item-2", "from-handset-1", "+15125550123", OURS, "hi")
INBOUND_NAME = digits_of(sid_from_key(SMS, "inbound", "acme", "from-handset-1"))


@pytest.fixture
async def copy(bench: Bench, tmp_path: Path) -> AsyncIterator[Copy]:
    async with Copy(bench, tmp_path / "copy.sqlite3").following() as made:
        yield made


def service(bench: Bench, copy: Copy, host: str = "one") -> Receipts:
    author = bench.author(host)
    return Receipts(
        log=bench.log,
        carrier=bench.carrier,
        replica=copy.replica,
        recorder=EventRecorder(bench.log, author=author),
        health=ShardHealth(bench.clock),
        counters=Counters(Tally(), Tally(), Tally()),
        author=author,
    )


async def buy_number(bench: Bench) -> None:
    settings = NumberOwned(sid="PN" + "1" * 32, phone_number=OURS, friendly_name="desk")
    deadline = Deadline.after(5.0, bench.clock)
    buying = own_number(bench.log, ACCOUNT, settings, author=bench.author("api"), deadline=deadline)
    assert isinstance(await bench.within_time(buying), Owned)


async def test_a_receipt_is_written_down_before_it_is_acknowledged(
    bench: Bench, copy: Copy
) -> None:
    await bench.put(NAME)
    bench.carrier.offered.append(RECEIPT)
    bench.log.always(Fate.LOST)

    async with bench.running(service(bench, copy)):
        await bench.pass_time(5.0)
        assert bench.carrier.acknowledged == []
        bench.log.always(Fate.WELL)
        await bench.pass_time(1.0)

    assert bench.carrier.acknowledged == ["item-1"]
    assert (await bench.message(NAME)).status is Status.DELIVERED


async def test_a_receipt_that_could_not_be_written_down_is_offered_again(
    bench: Bench, copy: Copy
) -> None:
    await bench.put(NAME)
    bench.carrier.offered.append(RECEIPT)
    bench.log.always(Fate.LOST)

    async with bench.running(service(bench, copy)):
        await bench.pass_time(15.0)
    assert bench.carrier.acknowledged == []
    assert bench.carrier.asked > 1

    bench.log.always(Fate.WELL)
    async with bench.running(service(bench, copy, "two")):
        await bench.pass_time(1.0)
    assert bench.carrier.acknowledged == ["item-1"]


async def test_one_receipt_taken_by_two_hosts_is_one_receipt(bench: Bench, copy: Copy) -> None:
    await bench.put(NAME)
    bench.carrier.offered.append(RECEIPT)

    async with bench.running(service(bench, copy)):
        await bench.pass_time(1.0)
    once = await bench.message(NAME)
    bench.carrier.acknowledged.clear()
    async with bench.running(service(bench, copy, "two")):
        await bench.pass_time(1.0)
    twice = await bench.message(NAME)

    assert len(await bench.history(NAME)) == 3
    assert once.ending is not None
    assert (twice.status, twice.ending) == (Status.DELIVERED, once.ending)


async def test_a_receipt_that_names_nothing_of_ours_is_counted_and_let_go(
    bench: Bench, copy: Copy
) -> None:
    bench.carrier.offered.append(ReceiptItem("item-9", "acme-9", "somebody-else", "delivered"))
    receipts = service(bench, copy)

    async with bench.running(receipts):
        await bench.pass_time(1.0)

    assert bench.carrier.acknowledged == ["item-9"]
    assert bench.log.published == []


async def test_a_message_from_a_handset_is_kept_for_the_number_s_owner(
    bench: Bench, copy: Copy
) -> None:
    await buy_number(bench)
    await copy.catch_up()
    bench.carrier.offered.append(INBOUND)

    async with bench.running(service(bench, copy)):
        await bench.pass_time(1.0)

    assert bench.carrier.acknowledged == ["item-2"]
    ((_, event),) = await bench.history(INBOUND_NAME)
    body = event.body()
    assert event.account == ACCOUNT
    assert isinstance(body, MessageReceived)
    assert (body.sender, body.recipient, body.text) == (INBOUND.sender, OURS, "hi")
    assert (await bench.message(INBOUND_NAME)).status is Status.RECEIVED


async def test_a_message_from_a_handset_that_the_carrier_repeats_is_one_message(
    bench: Bench, copy: Copy
) -> None:
    await buy_number(bench)
    await copy.catch_up()
    repeat = InboundItem("item-3", "from-handset-1", INBOUND.sender, OURS, "hi")
    bench.carrier.offered += [INBOUND, repeat]

    async with bench.running(service(bench, copy)):
        await bench.pass_time(1.0)
    bench.carrier.acknowledged.clear()
    async with bench.running(service(bench, copy, "two")):
        await bench.pass_time(1.0)

    assert sorted(bench.carrier.acknowledged) == ["item-2", "item-3"]
    assert len(await bench.history(INBOUND_NAME)) == 1


async def test_a_message_from_a_handset_is_not_acknowledged_while_it_cannot_be_stored(
    bench: Bench, copy: Copy
) -> None:
    await buy_number(bench)
    await copy.catch_up()
    bench.carrier.offered.append(INBOUND)
    bench.log.always(Fate.REFUSED)

    async with bench.running(service(bench, copy)):
        await bench.pass_time(5.0)
        assert bench.carrier.acknowledged == []
        bench.log.always(Fate.WELL)
        await bench.pass_time(5.0)

    assert bench.carrier.acknowledged == ["item-2"]


async def test_a_log_that_takes_nothing_is_not_asked_without_a_pause(
    bench: Bench, copy: Copy
) -> None:
    await buy_number(bench)
    await copy.catch_up()
    bench.carrier.offered.append(INBOUND)
    bench.log.always(Fate.REFUSED)

    async with bench.running(service(bench, copy)):
        await bench.pass_time(5.0)

    assert bench.carrier.asked <= 5.0 / LINK_DOWN_WAIT_S + 2


async def test_a_message_for_a_number_that_nobody_owns_is_let_go(bench: Bench, copy: Copy) -> None:
    bench.carrier.offered.append(INBOUND)

    async with bench.running(service(bench, copy)):
        await bench.pass_time(1.0)

    assert bench.carrier.acknowledged == ["item-2"]
    assert await bench.history(INBOUND_NAME) == []


async def test_a_message_for_a_number_that_the_copy_does_not_show_yet_is_kept(
    bench: Bench, tmp_path: Path
) -> None:
    async with Copy(bench, tmp_path / "lagging.sqlite3").following() as lagging:
        bench.log.is_connected = False
        await bench.pass_time(1.0)
        await buy_number(bench)
        bench.carrier.offered.append(INBOUND)

        async with bench.running(service(bench, lagging)):
            await bench.pass_time(1.0)
        assert lagging.replica.number_by_phone(OURS) is None

    assert bench.carrier.acknowledged == ["item-2"]
    assert len(await bench.history(INBOUND_NAME)) == 1


async def test_a_message_is_offered_again_while_nobody_can_say_who_owns_its_number(
    bench: Bench, copy: Copy
) -> None:
    bench.carrier.offered.append(INBOUND)
    bench.log.unreadable.update(range(bench.log.shards))

    async with bench.running(service(bench, copy)):
        await bench.pass_time(2.0)

    assert bench.carrier.acknowledged == []


async def test_draining_writes_down_what_is_in_hand_and_ends(bench: Bench, copy: Copy) -> None:
    await bench.put(NAME)
    bench.carrier.offered.append(RECEIPT)
    bench.log.always(Fate.LOST)
    receipts = service(bench, copy)

    async with bench.running(receipts) as (task,):
        receipts.drain()
        await bench.pass_time(1.0)
        assert not task.done()
        bench.log.always(Fate.WELL)
        await bench.pass_time(1.0)
        assert task.done()

    assert bench.carrier.acknowledged == ["item-1"]


async def test_how_long_a_receipt_waits_to_be_written_down_is_known(
    bench: Bench, copy: Copy
) -> None:
    await bench.put(NAME)
    bench.carrier.offered.append(RECEIPT)
    bench.log.always(Fate.LOST)
    receipts = service(bench, copy)
    assert receipts.unkept_s == 0.0

    async with bench.running(receipts):
        await bench.pass_time(LINK_DOWN_WAIT_S * 20)
        waited_s = receipts.unkept_s
        await bench.pass_time(LINK_DOWN_WAIT_S * 20)
        assert receipts.unkept_s > waited_s > 0.0

        bench.log.always(Fate.WELL)
        await bench.pass_time(LINK_DOWN_WAIT_S * 20)
        assert receipts.unkept_s == 0.0
