"""Owning a telephone number: one place decides, and nobody owns it twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.log.scripted_log import ACCOUNT, Fate, ScriptedLog, in_virtual_time, pen

from trunkline.directory.numbers import (
    FORMER_ACCOUNTS_MAX,
    Numbers,
    OwnAnswer,
    Owned,
    Taken,
    find_number,
    own_number,
)
from trunkline.directory.records import Missing, Undecidable
from trunkline.domain.events import NumberOwned
from trunkline.domain.number import Number
from trunkline.kernel import Deadline, FakeClock
from trunkline.log.interface import Unreadable
from trunkline.log.shards import home
from trunkline.replica import schema
from trunkline.replica.progress import Progress
from trunkline.replica.queries import Replica

pytestmark = pytest.mark.anyio

OTHER_ACCOUNT = "AC" + "b" * 32
THIRD_ACCOUNT = "AC" + "c" * 32
PHONE = "+15125550100"
HOME = home(PHONE)
SETTINGS = NumberOwned(sid="PN" + "1" * 32, phone_number=PHONE, friendly_name="desk")
OTHER_SETTINGS = NumberOwned(sid="PN" + "2" * 32, phone_number=PHONE, friendly_name="shop")


async def own(
    log: ScriptedLog,
    clock: FakeClock,
    account: str = ACCOUNT,
    settings: NumberOwned = SETTINGS,
    *,
    host: str = "one",
) -> OwnAnswer:
    deadline = Deadline.after(5.0, clock)
    owning = own_number(log, account, settings, author=pen(host, clock), deadline=deadline)
    return await in_virtual_time(clock, owning)


async def test_the_first_to_ask_owns_the_number(log: ScriptedLog, clock: FakeClock) -> None:
    answer = await own(log, clock)

    assert isinstance(answer, Owned)
    assert (answer.is_repeat, answer.number.account) == (False, ACCOUNT)
    assert (answer.number.settings, answer.number.created_at) == (SETTINGS, clock.wall())
    assert await find_number(log, PHONE, timeout_s=0.5) == answer.number


async def test_a_number_that_somebody_owns_is_taken(log: ScriptedLog, clock: FakeClock) -> None:
    owned = await own(log, clock)

    assert await own(log, clock, OTHER_ACCOUNT, OTHER_SETTINGS, host="two") == Taken()
    assert await own(log, clock, ACCOUNT, OTHER_SETTINGS) == Taken()
    assert isinstance(owned, Owned)
    assert await find_number(log, PHONE, timeout_s=0.5) == owned.number


async def test_the_same_request_again_finds_the_number_its_own(
    log: ScriptedLog, clock: FakeClock
) -> None:
    first = await own(log, clock)
    await clock.advance(60.0)

    repeat = await own(log, clock, host="two")

    assert isinstance(first, Owned)
    assert repeat == Owned(first.number, is_repeat=True)


async def test_of_two_that_ask_at_once_exactly_one_owns_it(
    log: ScriptedLog, clock: FakeClock
) -> None:
    answers: list[OwnAnswer] = []

    async def ask(account: str, settings: NumberOwned, host: str) -> None:
        deadline = Deadline.after(5.0, clock)
        author = pen(host, clock)
        answers.append(await own_number(log, account, settings, author=author, deadline=deadline))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask(ACCOUNT, SETTINGS, "one"))
        tasks.create_task(ask(OTHER_ACCOUNT, OTHER_SETTINGS, "two"))

    assert sorted(type(answer).__name__ for answer in answers) == ["Owned", "Taken"]


async def test_a_lost_answer_does_not_lose_the_number(log: ScriptedLog, clock: FakeClock) -> None:
    log.will(HOME, Fate.ANSWER_LOST)

    answer = await own(log, clock)

    assert isinstance(answer, Owned)
    assert len(await log.everything()) == 1


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.REFUSED, Fate.UNDECIDED])
async def test_the_decision_is_never_taken_to_another_shard(
    log: ScriptedLog, clock: FakeClock, fate: Fate
) -> None:
    log.always(fate, HOME)

    assert isinstance(await own(log, clock), Undecidable)
    assert {publish.shard for publish in log.published} == {HOME}
    assert await log.everything() == []


async def test_a_claim_that_landed_after_its_deadline_is_found_by_its_repeat(
    log: ScriptedLog, clock: FakeClock
) -> None:
    log.always(Fate.DELAYED, HOME)
    assert isinstance(await own(log, clock), Undecidable)
    log.always(Fate.WELL, HOME)
    await log.land()

    repeat = await own(log, clock)

    assert isinstance(repeat, Owned)
    assert repeat.is_repeat


async def test_a_number_that_nobody_bought_has_no_owner(log: ScriptedLog) -> None:
    assert await find_number(log, PHONE, timeout_s=0.5) is None
    assert await find_number(log, "ev.>", timeout_s=0.5) is None


async def test_who_owns_a_number_is_not_known_while_its_home_cannot_be_asked(
    log: ScriptedLog,
) -> None:
    log.unreadable.add(HOME)

    assert isinstance(await find_number(log, PHONE, timeout_s=0.5), Unreadable)


@pytest.fixture
async def numbers(log: ScriptedLog, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Numbers]:
    """As a host has them, whose copy nobody feeds."""
    path = tmp_path / "copy.sqlite3"
    schema.make(path, cluster="test")
    progress = Progress(path.with_suffix(".progress"), shards=log.shards, clock=clock)
    replica = Replica(path, progress)
    yield Numbers(log, replica, author=pen("two", clock))
    replica.close()
    progress.close()


async def moved(
    numbers: Numbers, clock: FakeClock, number: Number, account: str
) -> Number | Missing | Undecidable:
    deadline = Deadline.after(5.0, clock)
    moving = numbers.move(number, account, lambda settings: settings, deadline=deadline)
    answer: Number | Missing | Undecidable = await in_virtual_time(clock, moving)
    return answer


async def bought(log: ScriptedLog, clock: FakeClock) -> Number:
    answer = await own(log, clock)
    assert isinstance(answer, Owned)
    return answer.number


async def test_a_number_that_was_moved_is_the_other_account_s_alone(
    log: ScriptedLog, clock: FakeClock, numbers: Numbers
) -> None:
    number = await bought(log, clock)

    answer = await moved(numbers, clock, number, OTHER_ACCOUNT)

    assert isinstance(answer, Number)
    assert (answer.account, answer.sid) == (OTHER_ACCOUNT, number.sid)
    assert answer.created_at == number.created_at
    assert answer.settings.former_accounts == (ACCOUNT,)
    assert await find_number(log, PHONE, timeout_s=0.5) == answer
    assert await moved(numbers, clock, number, OTHER_ACCOUNT) == Missing()
    assert await own(log, clock, ACCOUNT, OTHER_SETTINGS) == Taken()
    # Nor does the request that bought it buy it back.
    assert await own(log, clock) == Taken()


async def test_of_two_moves_at_once_one_is_made(
    log: ScriptedLog, clock: FakeClock, numbers: Numbers
) -> None:
    number = await bought(log, clock)
    answers: list[Number | Missing | Undecidable] = []

    async def move(account: str) -> None:
        deadline = Deadline.after(5.0, clock)
        answers.append(await numbers.move(number, account, lambda kept: kept, deadline=deadline))

    async def both() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(move(OTHER_ACCOUNT))
            tasks.create_task(move(THIRD_ACCOUNT))

    await in_virtual_time(clock, both())

    [made] = [each for each in answers if isinstance(each, Number)]
    assert [each for each in answers if each is not made] == [Missing()]
    assert await find_number(log, PHONE, timeout_s=0.5) == made


async def test_a_move_whose_answer_was_lost_is_made_once(
    log: ScriptedLog, clock: FakeClock, numbers: Numbers
) -> None:
    number = await bought(log, clock)
    log.will(HOME, Fate.ANSWER_LOST)

    answer = await moved(numbers, clock, number, OTHER_ACCOUNT)

    assert isinstance(answer, Number)
    assert answer.account == OTHER_ACCOUNT
    assert len(await log.everything()) == 2


async def test_a_move_that_cannot_be_decided_is_not_said_to_be_made(
    log: ScriptedLog, clock: FakeClock, numbers: Numbers
) -> None:
    number = await bought(log, clock)
    log.always(Fate.LOST, HOME)

    assert isinstance(await moved(numbers, clock, number, OTHER_ACCOUNT), Undecidable)
    assert await find_number(log, PHONE, timeout_s=0.5) == number


async def test_a_number_that_went_round_and_round_remembers_so_many_accounts(
    log: ScriptedLog, clock: FakeClock, numbers: Numbers
) -> None:
    number = await bought(log, clock)
    accounts = [f"AC{turn:032x}" for turn in range(FORMER_ACCOUNTS_MAX + 3)]

    for account in (*accounts, accounts[5]):
        answer = await moved(numbers, clock, number, account)
        assert isinstance(answer, Number)
        number = answer

    former = number.settings.former_accounts
    assert len(former) == FORMER_ACCOUNTS_MAX
    assert former[-1] == accounts[-1]
    assert accounts[5] not in former
