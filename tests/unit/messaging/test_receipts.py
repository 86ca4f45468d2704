"""Receipts and inbound messages: written down first, acknowledged afterwards, kept once."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.log.scripted_log import ACCOUNT, Fate
from tests.unit.messaging.message_bench import Bench, Copy, Tally

from trunkline.directory.numbers import Owned, own_number, register_of
from trunkline.directory.records import Removed, delete
from trunkline.domain.events import MessageReceived, NumberOwned, Type
from trunkline.domain.sid import SMS, digits_of, sid_from_key
from trunkline.domain.status import Status
from trunkline.kernel import Deadline
from trunkline.log.append import ShardHealth
from trunkline.log.interface import Follower, LogUnavailable
from trunkline.messaging.carrier import InboundItem, ReceiptItem, reference_of
from trunkline.messaging.receipts import FRESH_MAX_S, LINK_DOWN_WAIT_S, Counters, Receipts
from trunkline.messaging.record import EventRecorder

pytestmark = pytest.mark.anyio

OTHER_ACCOUNT = "AC" + "b" * 32
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


async def cut_off_copies(bench: Bench) -> None:
    """No copy hears of anything any more; who asks the log itself is answered."""

    async def no_follower(shard: int, *, after: int) -> Follower:
        raise LogUnavailable(f"shard {shard} is not followed from {after} on")

    bench.log.is_connected = False
    await bench.pass_time(1.0)
    bench.log.follower = no_follower  # type: ignore[method-assign]  # for copies alone
    bench.log.is_connected = True


async def give_number_to(bench: Bench, account: str, settings: NumberOwned) -> None:
    """From its owner `ACCOUNT`, through another host."""
    author, deadline = bench.author("api"), Deadline.after(5.0, bench.clock)
    releasing = delete(
        bench.log,
        register_of(OURS),
        sid="PN" + "1" * 32,
        account=ACCOUNT,
        author=author,
        deadline=deadline,
    )
    assert isinstance(await bench.within_time(releasing), Removed)
    buying = own_number(bench.log, account, settings, author=author, deadline=deadline)
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


async def test_the_date_of_a_receipt_is_kept_and_so_is_that_there_is_none(
    bench: Bench, copy: Copy
) -> None:
    await bench.put(NAME)
    dated = replace(RECEIPT, item_id="item-2", done_date="2611251330")
    bench.carrier.offered += [RECEIPT, dated]

    async with bench.running(service(bench, copy)):
        await bench.pass_time(1.0)

    bodies = [event.data for _, event in await bench.history(NAME) if event.type is Type.RECEIPT]
    assert [b"done_date" in bytes(each) for each in bodies] == [False, True]


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


async def test_a_message_is_the_new_owner_s_however_long_the_copy_shows_the_earlier_one(
    bench: Bench, tmp_path: Path
) -> None:
    theirs = NumberOwned(sid="PN" + "2" * 32, phone_number=OURS, friendly_name="theirs")
    async with Copy(bench, tmp_path / "lagging.sqlite3").following() as lagging:
        await buy_number(bench)
        await lagging.catch_up()
        await cut_off_copies(bench)
        await give_number_to(bench, OTHER_ACCOUNT, theirs)
        await bench.pass_time(2 * FRESH_MAX_S)
        bench.carrier.offered.append(INBOUND)

        async with bench.running(service(bench, lagging)):
            await bench.pass_time(1.0)
        shown = lagging.replica.number_by_phone(OURS)
        assert shown is not None
        assert shown.account == ACCOUNT

    ((_, event),) = await bench.history(INBOUND_NAME)
    assert event.account == OTHER_ACCOUNT


async def test_while_a_copy_that_lags_cannot_ask_whose_a_number_is_the_carrier_keeps_the_message(
    bench: Bench, tmp_path: Path
) -> None:
    async with Copy(bench, tmp_path / "lagging.sqlite3").following() as lagging:
        await buy_number(bench)
        await lagging.catch_up()
        bench.log.is_connected = False
        bench.log.unreadable.update(range(bench.log.shards))
        await bench.pass_time(2 * FRESH_MAX_S)
        bench.carrier.offered.append(INBOUND)

        async with bench.running(service(bench, lagging)):
            await bench.pass_time(1.0)

    assert bench.carrier.acknowledged == []


async def test_a_copy_that_keeps_up_asks_nobody_whose_a_number_is(bench: Bench, copy: Copy) -> None:
    await buy_number(bench)
    await copy.catch_up()
    # While its disk took real time the virtual one ran on; now it looks at every end once more.
    await bench.pass_time(1.0)
    bench.log.unreadable.update(range(bench.log.shards))
    bench.carrier.offered.append(INBOUND)

    async with bench.running(service(bench, copy)):
        await bench.pass_time(0.0)

    assert bench.carrier.acknowledged == ["item-2"]
