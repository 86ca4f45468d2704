"""The service as a whole, in virtual time, on the memory engine and with a real copy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from structlog.testing import capture_logs
from tests.unit.log.scripted_log import ACCOUNT, walk
from tests.unit.messaging.message_bench import Bench, Copy

from trunkline.directory.accounts import open_account
from trunkline.domain.events import AccountOpened, Kind
from trunkline.kernel import Deadline
from trunkline.kernel.crash import CrashPoint
from trunkline.log.event import created_filter
from trunkline.log.interface import Consumer, Extent
from trunkline.replica.queries import Replica
from trunkline.replica.retention import Pace, Report, Retention

pytestmark = pytest.mark.anyio

TEST_MAX_S: Final = 40.0
"""In real time: each day has flushes on a disk that others use too."""

DAY_S: Final = 86_400.0
NAMES: Final = [f"{number:032x}" for number in range(1, 20)]
SERVICE: Final = "dispatch"


@dataclass
class Host:
    """A host whose copy follows, with one service that reads the log."""

    bench: Bench
    copy: Copy
    replica: Replica
    retention: Retention
    others: dict[str, int] = field(default_factory=dict)
    mine: set[int] = field(default_factory=set)
    reports: list[Report] = field(default_factory=list)
    consumers: dict[int, Consumer] = field(default_factory=dict)

    async def work(self) -> int:
        """Everything that is there is done; how many that were."""
        done = 0
        for shard in range(self.bench.log.shards):
            if shard not in self.consumers:
                filters = [created_filter(shard, Kind.MESSAGE)]
                self.consumers[shard] = await self.bench.log.consumer(shard, SERVICE, filters)
            for delivery in await self.consumers[shard].fetch(100, 0.0):
                await delivery.ack()
                done += 1
        return done

    async def pass_days(self, days: int) -> None:
        for _ in range(days):
            await self.copy.catch_up()
            await self.retention.once()
            await self.bench.clock.advance(DAY_S)
        await self.copy.catch_up()
        await self.retention.once()

    async def holds(self) -> int:
        """How many of the messages stand in the log."""
        stored = await self.bench.log.everything()
        return sum(".message.created." in each.subject for each in stored)


@asynccontextmanager
async def host_on(path: Path, *, pace: Pace | None = None) -> AsyncIterator[Host]:
    bench = Bench()
    path.parent.mkdir(exist_ok=True)
    copy = Copy(bench, path)
    reports: list[Report] = []
    others: dict[str, int] = {}
    mine = set(range(bench.log.shards))
    retention = Retention(
        bench.log,
        path,
        copy.progress,
        cluster="test",
        services=[SERVICE],
        keep_s=None,
        pace=pace or Pace(),
        clock=bench.clock,
        tell=reports.append,
        others=lambda _: others,
        may_trim=lambda shard: shard in mine,
    )
    await copy.projector.open()
    with closing(Replica(path, copy.progress)) as replica:
        async with asyncio.timeout(TEST_MAX_S), asyncio.TaskGroup() as tasks:
            following = tasks.create_task(copy.projector.run())
            yield Host(bench, copy, replica, retention, others, mine, reports)
            following.cancel()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "copy" / "replica.db"


async def test_work_that_nobody_took_for_sixty_days_is_still_there(path: Path) -> None:
    async with host_on(path) as host:
        assert await host.work() == 0
        for name in NAMES:
            await host.bench.put(name)

        with capture_logs() as said:
            await host.pass_days(60)

        assert await host.holds() == len(NAMES)
        waits = [each for each in said if each["event"] == "log.trimming_waits"]
        assert waits[-1]["reader"] == SERVICE
        assert len(waits) <= 60
        assert await host.work() == len(NAMES)
        await host.pass_days(4)
        assert await host.holds() == 0


async def test_a_service_that_never_ran_holds_everything(path: Path) -> None:
    async with host_on(path) as host:
        await host.bench.put(NAMES[0])

        await host.pass_days(10)

        assert await host.holds() == 1


async def test_what_is_trimmed_is_shown_by_the_copy(path: Path) -> None:
    async with host_on(path) as host:
        for name in NAMES:
            await host.bench.put(name)
        await host.work()

        await host.pass_days(5)

        assert await host.holds() == 0
        messages = [host.replica.message("SM" + name) for name in NAMES]
        assert None not in messages
        report = host.reports[-1]
        assert report.oldest_at is not None
        assert host.bench.clock.wall() - report.oldest_at < 5 * DAY_S


async def test_nothing_is_trimmed_that_no_snapshot_has(path: Path) -> None:
    never = Pace(snapshot_s=1e12)
    async with host_on(path, pace=never) as host:
        await host.work()
        await host.retention.once()  # the only snapshot, of nothing
        for name in NAMES:
            await host.bench.put(name)
        await host.work()

        await host.pass_days(10)

        assert await host.holds() == len(NAMES)
        waiting = host.reports[-1].waiting
        assert waiting is not None
        assert waiting.reader == "snapshot"


async def test_a_shard_that_cannot_be_asked_holds_all_of_them(path: Path) -> None:
    async with host_on(path) as host:
        for name in NAMES:
            await host.bench.put(name)
        await host.work()
        await host.retention.once()
        host.bench.log.unreadable.add(walk(NAMES[0])[3])

        for _ in range(10):
            await host.retention.once()
            await host.bench.clock.advance(DAY_S)

        assert await host.holds() == len(NAMES)


async def test_numbers_and_accounts_outlive_every_trimming(path: Path) -> None:
    async with host_on(path) as host:
        opened = AccountOpened(sid=ACCOUNT, friendly_name="First", auth_token="made-up")
        author = host.bench.author("one")
        deadline = Deadline.after(5.0, host.bench.clock)
        assert await open_account(host.bench.log, opened, author=author, deadline=deadline)
        await host.work()

        await host.pass_days(30)

        stored = await host.bench.log.everything()
        assert sum(b"made-up" in each.payload for each in stored) == 1
        for shard in range(host.bench.log.shards):
            extent = await host.bench.log.extent(shard, timeout_s=0.0)
            assert isinstance(extent, Extent)
            assert extent.last - extent.first <= 6, "the markers of the last days, and little else"


class Died(Exception):
    """Where a process would have."""


@pytest.mark.parametrize("point", [CrashPoint.PURGE_BEFORE, CrashPoint.PURGE_AFTER])
async def test_a_pass_that_dies_at_a_purge_is_finished_by_the_next(
    path: Path, point: CrashPoint
) -> None:
    async with host_on(path) as host:
        for name in NAMES:
            await host.bench.put(name)
        await host.work()
        died = 0

        def die(here: CrashPoint, /) -> None:
            nonlocal died
            if here is point and died < 3:
                died += 1
                raise Died

        host.retention._crash_here = die
        for _ in range(8):
            await host.copy.catch_up()
            try:
                await host.retention.once()
            except Died:
                continue
            await host.bench.clock.advance(DAY_S)

        assert died == 3
        assert await host.holds() == 0


async def test_a_host_that_is_away_holds_trimming_up_and_is_named(path: Path) -> None:
    async with host_on(path) as host:
        host.others["copy of host-2"] = 0
        for name in NAMES:
            await host.bench.put(name)
        await host.work()

        await host.pass_days(6)
        assert await host.holds() == len(NAMES)
        waiting = host.reports[-1].waiting
        assert waiting is not None
        assert waiting.reader == "copy of host-2"

        host.others["copy of host-2"] = 1_000_000
        await host.pass_days(4)
        assert await host.holds() == 0


async def test_a_shard_of_another_host_is_not_trimmed_here(path: Path) -> None:
    async with host_on(path) as host:
        for name in NAMES:
            await host.bench.put(name)
        await host.work()
        host.mine.clear()

        await host.pass_days(6)
        assert await host.holds() == len(NAMES)

        host.mine.update(range(host.bench.log.shards))
        await host.pass_days(1)
        assert await host.holds() == 0
