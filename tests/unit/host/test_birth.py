"""A cluster's first account and number are written once, whatever has become of the number."""

import pytest
from tests.unit.log.scripted_log import Fate, ScriptedLog, in_virtual_time, pen

from trunkline.directory.numbers import Owned, find_number, own_number, register_of
from trunkline.directory.records import Removed, Written, change, delete
from trunkline.domain.events import NumberOwned
from trunkline.domain.number import Number
from trunkline.host.birth import give_birth
from trunkline.host.credentials import Credentials
from trunkline.host.refusal import EngineError
from trunkline.kernel import Deadline, FakeClock
from trunkline.log.interface import Unreadable

pytestmark = pytest.mark.anyio

FIRST = Credentials(account_sid="AC" + "a" * 32, auth_token="t" * 32, phone_number="+15125550100")
PHONE = FIRST.phone_number
OTHER_ACCOUNT = "AC" + "b" * 32


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def log(clock: FakeClock) -> ScriptedLog:
    return ScriptedLog(clock)


async def started(log: ScriptedLog, clock: FakeClock) -> Number | Unreadable | None:
    """What stands of the number when a host has started."""
    await in_virtual_time(clock, give_birth(log, FIRST, author=pen("one", clock)))
    return await find_number(log, PHONE, timeout_s=0.5)


async def standing(log: ScriptedLog, clock: FakeClock) -> Number:
    number = await started(log, clock)
    assert isinstance(number, Number)
    return number


async def released(log: ScriptedLog, clock: FakeClock, number: Number) -> None:
    deleting = delete(
        log,
        register_of(PHONE),
        sid=number.sid,
        account=number.account,
        author=pen("two", clock),
        deadline=Deadline.after(5.0, clock),
    )
    assert isinstance(await in_virtual_time(clock, deleting), Removed)


async def test_a_host_that_starts_again_finds_what_it_wrote(
    log: ScriptedLog, clock: FakeClock
) -> None:
    first = await standing(log, clock)
    written = len(await log.everything())

    assert (first.account, first.phone_number) == (FIRST.account_sid, PHONE)
    assert await started(log, clock) == first
    assert len(await log.everything()) == written


async def test_a_number_that_was_given_back_stays_so(log: ScriptedLog, clock: FakeClock) -> None:
    await released(log, clock, await standing(log, clock))

    assert await started(log, clock) is None


async def test_a_number_that_is_somebody_else_s_by_now_stays_theirs(
    log: ScriptedLog, clock: FakeClock
) -> None:
    await released(log, clock, await standing(log, clock))
    bought = own_number(
        log,
        OTHER_ACCOUNT,
        NumberOwned(sid="PN" + "2" * 32, phone_number=PHONE, friendly_name="shop"),
        author=pen("two", clock),
        deadline=Deadline.after(5.0, clock),
    )
    owned = await in_virtual_time(clock, bought)
    assert isinstance(owned, Owned)

    assert await started(log, clock) == owned.number


async def test_a_number_that_was_moved_stays_where_it_is(
    log: ScriptedLog, clock: FakeClock
) -> None:
    number = await standing(log, clock)
    moving = change(
        log,
        register_of(PHONE),
        lambda settings: settings,
        sid=number.sid,
        account=number.account,
        author=pen("two", clock),
        deadline=Deadline.after(5.0, clock),
        new_account=OTHER_ACCOUNT,
    )
    assert isinstance(await in_virtual_time(clock, moving), Written)

    assert (await standing(log, clock)).account == OTHER_ACCOUNT


async def test_a_log_that_does_not_answer_is_a_reason_to_give_up(
    log: ScriptedLog, clock: FakeClock
) -> None:
    log.always(Fate.LOST)

    async def refusal() -> str:
        with pytest.raises(EngineError) as raised:
            await give_birth(log, FIRST, author=pen("one", clock))
        return str(raised.value)

    assert "did not take the first account" in await in_virtual_time(clock, refusal())
