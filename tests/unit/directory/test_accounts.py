"""Opening an account: once, however often it is asked for."""

import pytest
from tests.unit.log.scripted_log import ACCOUNT, Fate, ScriptedLog, in_virtual_time, pen

from trunkline.directory.accounts import open_account
from trunkline.domain.events import AccountOpened
from trunkline.kernel import Deadline, FakeClock

pytestmark = pytest.mark.anyio

OPENED = AccountOpened(sid=ACCOUNT, friendly_name="First", auth_token="made-up")


async def open_it(log: ScriptedLog, clock: FakeClock) -> bool:
    deadline = Deadline.after(5.0, clock)
    opening = open_account(log, OPENED, author=pen("one", clock), deadline=deadline)
    return await in_virtual_time(clock, opening)


async def test_an_account_is_opened_once_however_often_it_is_asked_for(
    log: ScriptedLog, clock: FakeClock
) -> None:
    assert await open_it(log, clock)
    assert await open_it(log, clock)

    assert len(await log.everything()) == 1


async def test_an_account_that_no_shard_takes_is_not_open(
    log: ScriptedLog, clock: FakeClock
) -> None:
    log.always(Fate.REFUSED)

    assert not await open_it(log, clock)


async def test_an_account_of_which_nobody_knows_is_not_said_to_be_open(
    log: ScriptedLog, clock: FakeClock
) -> None:
    log.always(Fate.LOST)

    assert not await open_it(log, clock)
