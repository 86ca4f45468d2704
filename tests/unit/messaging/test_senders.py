"""A scheduled message is not sent from a number that is its account's no more."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.log.scripted_log import ACCOUNT
from tests.unit.messaging.message_bench import Bench, Copy

from trunkline.directory.numbers import Owned, own_number, register_of
from trunkline.directory.records import Removed, delete
from trunkline.domain.events import NumberOwned, Type
from trunkline.domain.status import Status
from trunkline.kernel import Deadline
from trunkline.log.interface import Unreadable
from trunkline.messaging.senders import Senders
from trunkline.messaging.unwanted import SENDER_NOT_OWNED

pytestmark = pytest.mark.anyio

OURS = "+15550001"
OTHER_ACCOUNT = "AC" + "b" * 32
NUMBER = NumberOwned(sid="PN" + "1" * 32, phone_number=OURS, friendly_name="desk")
NAME = "8" * 32
DAY_S = 86_400.0


@pytest.fixture
async def copy(bench: Bench, tmp_path: Path) -> AsyncIterator[Copy]:
    async with Copy(bench, tmp_path / "one.sqlite3").following() as made:
        yield made


async def buy(bench: Bench, account: str) -> None:
    owning = own_number(
        bench.log,
        account,
        NUMBER,
        author=bench.author("api"),
        deadline=Deadline.after(5.0, bench.clock),
    )
    assert isinstance(await bench.within_time(owning), Owned)


async def release(bench: Bench, account: str) -> None:
    releasing = delete(
        bench.log,
        register_of(OURS),
        sid=NUMBER.sid,
        account=account,
        author=bench.author("api"),
        deadline=Deadline.after(5.0, bench.clock),
    )
    assert isinstance(await bench.within_time(releasing), Removed)


async def test_a_number_is_its_owner_s_until_it_is_given_back(bench: Bench, copy: Copy) -> None:
    senders = Senders(copy.replica, bench.log.shards)
    await buy(bench, ACCOUNT)
    await copy.catch_up()
    assert senders.owns(ACCOUNT, OURS, 0.0) is True
    assert senders.owns(OTHER_ACCOUNT, OURS, DAY_S) is False

    await release(bench, ACCOUNT)
    await copy.catch_up()

    assert senders.owns(ACCOUNT, OURS, DAY_S) is False


async def test_a_copy_that_is_behind_does_not_say_that_a_number_is_gone(
    bench: Bench, copy: Copy
) -> None:
    senders = Senders(copy.replica, bench.log.shards)

    assert isinstance(senders.owns(ACCOUNT, OURS, 0.0), Unreadable)
    copy.replica.close()
    assert isinstance(senders.owns(ACCOUNT, OURS, DAY_S), Unreadable)


async def test_the_magic_sender_is_everybody_s(bench: Bench, copy: Copy) -> None:
    senders = Senders(copy.replica, bench.log.shards, lambda number: number == OURS)

    assert senders.owns(ACCOUNT, OURS, DAY_S) is True


@pytest.mark.parametrize("is_scheduled", [True, False])
async def test_what_was_scheduled_fails_and_what_was_not_goes_out(
    bench: Bench, is_scheduled: bool
) -> None:
    asked: list[tuple[str, str, float]] = []

    def owns(account: str, phone_number: str, age_s: float) -> bool:
        asked.append((account, phone_number, age_s))
        return False

    await bench.put(NAME, send_in_s=3600.0 if is_scheduled else None)
    own = bench.dispatcher("one", owns_sender=owns)
    async with bench.running(own, bench.due_messages(own)):
        await bench.pass_time(1.0)
        await bench.clock.advance(3600.0)
        await bench.pass_time(2.0)

    message = await bench.message(NAME)
    assert len(bench.carrier.submitted) == (0 if is_scheduled else 1)
    if not is_scheduled:
        assert asked == []
        return
    assert message.status is Status.FAILED
    assert message.ending is not None
    assert message.ending.error_code == SENDER_NOT_OWNED
    assert {each[:2] for each in asked} == {(ACCOUNT, OURS)}
    assert min(age_s for _, _, age_s in asked) >= 3600.0


async def test_while_nobody_can_tell_whose_the_number_is_it_waits(bench: Bench) -> None:
    answers: list[bool | Unreadable] = [Unreadable("the read copy is too far behind")] * 3

    def owns(account: str, phone_number: str, age_s: float) -> bool | Unreadable:
        del account, phone_number, age_s
        return answers.pop() if answers else True

    await bench.put(NAME, send_in_s=3600.0)
    own = bench.dispatcher("one", owns_sender=owns)
    async with bench.running(own, bench.due_messages(own)):
        await bench.pass_time(1.0)
        await bench.clock.advance(3600.0)
        await bench.pass_time(60.0)

    assert len(bench.carrier.submitted) == 1
    types = [event.type for _, event in await bench.history(NAME)]
    assert types == [Type.ORIGINAL, Type.CLAIM, Type.OUTCOME]
