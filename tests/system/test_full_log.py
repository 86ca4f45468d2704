"""A log that is full, on a real engine: creates wait, nothing is dropped, and trimming ends it."""

import asyncio
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from tests.system.running import wait_until

from trunkline.domain.events import Kind, MessageCreated
from trunkline.host.engine_conf import EnginePlan, find_program, render
from trunkline.host.listen import Address, free_address
from trunkline.kernel import SystemClock
from trunkline.log.append import AppendAnswer, Appended, Draft, NotStored, ShardHealth, append
from trunkline.log.author import Author
from trunkline.log.engines.jetstream import JetStreamLog, open_jetstream
from trunkline.log.event import created_filter
from trunkline.log.interface import Consumer, Extent
from trunkline.log.trim import TrimLimits
from trunkline.replica.progress import Progress, is_caught_up
from trunkline.replica.projector import Projector
from trunkline.replica.queries import Replica
from trunkline.replica.retention import Pace, Retention

pytestmark = [pytest.mark.system, pytest.mark.anyio, pytest.mark.timeout(120)]

ACCOUNT = "AC" + "a" * 32
BYTES_MAX = 12 * 1024 * 1024
AT_ONCE = 50
CREATES_MAX = 10_000
SETTLES_S = 20.0
NOW = Pace(snapshot_s=0.0, trim=TrimLimits(retain_s=0.0, barrier_s=0.0, work_s=0.0))
"""Everything that everybody is through with, at once: not to be had by any setting."""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A real engine, configured as a host configures it."""
    address = free_address(Address.parse("127.0.0.1:0"), setting="")
    plan = EnginePlan("full", None, tmp_path / "log", tmp_path, BYTES_MAX)
    (tmp_path / "nats.conf").write_text(render(plan, address, "made-up"))
    process = subprocess.Popen([str(find_program(None)), "-c", str(tmp_path / "nats.conf")])
    try:
        said = tmp_path / "nats.log"
        wait_until(
            lambda: said.exists() and "Server is ready" in said.read_text(),
            "the engine to be ready",
        )
        yield f"nats://{address}"
    finally:
        process.terminate()
        process.wait(timeout=SETTLES_S)


class Creator:
    """A host that takes messages."""

    def __init__(self, log: JetStreamLog) -> None:
        self._log = log
        self._author = Author("one", SystemClock(), os.urandom)
        self._health = ShardHealth(SystemClock())
        self.created: list[str] = []

    async def create(self, text: str = "hello") -> AppendAnswer:
        name = os.urandom(16).hex()
        body = MessageCreated(sid="SM" + name, sender="+1", recipient="+2", text=text)
        draft = Draft(Kind.MESSAGE, "SM" + name, ACCOUNT, body, is_keyed=False)
        answer = await append(self._log, draft, author=self._author, health=self._health)
        if isinstance(answer, Appended):
            self.created.append("SM" + name)
        return answer

    async def until_full(self) -> NotStored:
        """Fast at first; then slowly, because the fill is looked at every two seconds."""
        while await self._fill() < 0.75:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(AT_ONCE):
                    tasks.create_task(self.create("x" * 1500))
        for _ in range(CREATES_MAX):
            answer = await self.create()
            if isinstance(answer, NotStored):
                return answer
            await self._fill()
        raise AssertionError("it never was full")

    async def _fill(self) -> float:
        """Of the fullest shard."""
        shares = []
        for shard in range(self._log.shards):
            extent = await self._log.extent(shard, timeout_s=SETTLES_S)
            assert isinstance(extent, Extent)
            shares.append(extent.bytes / extent.bytes_max)
        return max(shares)


@asynccontextmanager
async def following(log: JetStreamLog, path: Path) -> AsyncIterator[tuple[Replica, Progress]]:
    """A copy that follows."""
    with closing(Progress(path.with_name("progress"), shards=12, clock=SystemClock())) as progress:
        projector = Projector(log, path, progress, cluster="test", clock=SystemClock())
        await projector.open()
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(projector.run())
            with closing(Replica(path, progress)) as replica:
                yield replica, progress
            following.cancel()


async def work_through(log: JetStreamLog) -> int:
    """Everything that dispatch is given is done."""
    done = 0
    consumers: list[Consumer] = []
    for shard in range(log.shards):
        filters = [created_filter(shard, Kind.MESSAGE)]
        consumer: Consumer = await log.consumer(shard, "dispatch", filters)
        consumers.append(consumer)
        while deliveries := await consumer.fetch(500, 0.2):
            for delivery in deliveries:
                await delivery.ack()
                done += 1
    for consumer in consumers:
        await consumer.close()
    return done


async def test_a_full_log_drops_nothing_and_takes_creates_again_when_it_was_trimmed(
    url: str, tmp_path: Path
) -> None:
    clock = SystemClock()
    rng = random.Random(1)
    async with open_jetstream([url], "made-up", clock=clock, rng=rng, bytes_max=BYTES_MAX) as log:
        creator = Creator(log)
        # Whoever is first: our own look, every two seconds, or the engine at its bound.
        full = {NotStored("the log is nearly full"), NotStored("maximum bytes exceeded")}
        assert await creator.until_full() in full
        async with following(log, tmp_path / "replica.db") as (replica, progress):
            retention = Retention(
                log,
                tmp_path / "replica.db",
                progress,
                cluster="test",
                services=["dispatch"],
                keep_s=None,
                pace=NOW,
                clock=clock,
            )
            async with asyncio.timeout(SETTLES_S):
                while not await is_caught_up(progress, log):
                    await log.extent(0, timeout_s=1.0)
            await retention.once()
            assert isinstance(await creator.create(), NotStored), "nobody has done any work yet"

            assert await work_through(log) == len(creator.created)
            async with asyncio.timeout(SETTLES_S):
                while not isinstance(await creator.create(), Appended):
                    await retention.once()

            shown = [replica.message(sid) for sid in creator.created[:-1]]
            assert None not in shown
