"""What the copy shows: waited for after a decision, and before something is said to be missing."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.log.scripted_log import ACCOUNT, ScriptedLog, pen

from trunkline.directory.applications import all_applications
from trunkline.directory.numbers import Numbers, Owned, find_number
from trunkline.directory.records import Missing, Removed
from trunkline.directory.view import View
from trunkline.domain.application import Application
from trunkline.domain.events import ApplicationMade, NumberOwned
from trunkline.domain.number import Number
from trunkline.kernel import Deadline, FakeClock
from trunkline.log.event import decode
from trunkline.replica import schema
from trunkline.replica.folding import Folding
from trunkline.replica.progress import Progress
from trunkline.replica.queries import NumberFilter, Replica

pytestmark = pytest.mark.anyio

PHONE = "+15125550100"
OWNED = NumberOwned(sid="PN" + "1" * 32, phone_number=PHONE, friendly_name="desk")
MADE = ApplicationMade(sid="AP" + "1" * 32, friendly_name="desk")


class Host:
    """A copy that takes in everything, each time somebody waits for the log."""

    def __init__(self, log: ScriptedLog, clock: FakeClock, path: Path) -> None:
        self.log, self.clock = log, clock
        self._folding = Folding(schema.open_for_writing(path, cluster="test"))
        self._progress = Progress(path.with_suffix(".progress"), shards=log.shards, clock=clock)
        self.replica = Replica(path, self._progress)

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            for stored in await self.log.everything():
                if stored.sequence > self._progress.sequence(stored.shard):
                    event = decode(stored.payload)
                    self._folding.add(event, event.body(), stored)
                    self._folding.write()
                    self._folding.commit()
                    self._folding.forget_written()
                    self._progress.record(
                        stored.shard, sequence=stored.sequence, complete_at=self.clock.wall()
                    )
            self._progress.wake()
            await asyncio.sleep(0)

    def deadline(self) -> Deadline:
        return Deadline.after(5.0, self.clock)

    def close(self) -> None:
        self.replica.close()
        self._progress.close()
        self._folding.close()


@pytest.fixture
def host(log: ScriptedLog, clock: FakeClock, tmp_path: Path) -> Iterator[Host]:
    with closing(Host(log, clock, tmp_path / "copy.db")) as made:
        yield made


async def test_what_was_done_to_a_number_is_in_the_next_read(host: Host) -> None:
    numbers = Numbers(host.log, host.replica, author=pen("one", host.clock))
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(host.follow())

        owned = await numbers.own(ACCOUNT, OWNED, is_keyed=False, deadline=host.deadline())
        assert isinstance(owned, Owned)
        assert host.replica.number(OWNED.sid) == owned.number

        changed = await numbers.change(
            owned.number,
            lambda body: NumberOwned(sid=body.sid, phone_number=PHONE, friendly_name="shop"),
            deadline=host.deadline(),
        )
        assert isinstance(changed, Number)
        assert host.replica.number_by_phone(PHONE) == changed

        assert isinstance(await numbers.release(changed, deadline=host.deadline()), Removed)
        assert host.replica.numbers(ACCOUNT, NumberFilter(), items_max=9) == []
        assert await numbers.release(changed, deadline=host.deadline()) == Missing()
        assert await find_number(host.log, PHONE, timeout_s=0.5) is None
        for name, was_named in ((OWNED.sid, True), ("PN" + "9" * 32, False)):
            deadline = host.deadline()
            assert await numbers.was_named(PHONE, name, deadline=deadline) is was_named
        following.cancel()


async def test_what_was_done_to_an_application_is_in_the_next_read(host: Host) -> None:
    applications = all_applications(host.log, host.replica, author=pen("one", host.clock))
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(host.follow())

        made = await applications.make(ACCOUNT, MADE, is_keyed=False, deadline=host.deadline())
        assert isinstance(made, Application)
        assert host.replica.application(MADE.sid) == made
        assert await applications.find(MADE.sid, deadline=host.deadline()) == made

        changed = await applications.change(
            ACCOUNT,
            MADE.sid,
            lambda body: ApplicationMade(sid=body.sid, friendly_name="shop"),
            deadline=host.deadline(),
        )
        assert host.replica.application(MADE.sid) == changed != made

        gone = await applications.delete(ACCOUNT, MADE.sid, deadline=host.deadline())
        assert isinstance(gone, Removed)
        assert host.replica.application(MADE.sid) is None
        following.cancel()


async def test_a_copy_that_lags_is_waited_for(host: Host) -> None:
    view = View(host.log, host.replica, host.clock)
    numbers = Numbers(host.log, host.replica, author=pen("one", host.clock))
    assert await view.catch_up(deadline=host.deadline())  # there is nothing to show

    async with asyncio.TaskGroup() as tasks:
        owning = tasks.create_task(
            numbers.own(ACCOUNT, OWNED, is_keyed=False, deadline=host.deadline())
        )
        while not await host.log.everything():
            await asyncio.sleep(0)
        catching_up = tasks.create_task(view.catch_up(deadline=host.deadline()))
        assert host.replica.number(OWNED.sid) is None
        following = tasks.create_task(host.follow())
        assert await catching_up
        assert host.replica.number(OWNED.sid) is not None
        await owning
        following.cancel()


async def test_nothing_is_known_to_be_shown_while_the_log_cannot_be_asked(host: Host) -> None:
    host.log.is_connected = False

    assert not await View(host.log, host.replica, host.clock).catch_up(deadline=host.deadline())
