"""Timers on a real server: they outlive it, what is purged beside them, and nothing else."""

import asyncio
import contextlib
import random
import secrets
import subprocess
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import msgspec
import pytest

from trunkline.host.engine_child import answers
from trunkline.host.listen import Address, free_address
from trunkline.kernel import Deadline, SystemClock
from trunkline.log.engines.jetstream import JetStreamLog, open_jetstream
from trunkline.log.engines.jetstream.api import stream_name
from trunkline.log.interface import Accepted, Consumer, Delivery, LogUnavailable
from trunkline.log.shards import SHARDS, order
from trunkline.log.timers import TimersDropped, TimerSet, cancel_timer, set_timer

pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.anyio, pytest.mark.timeout(90)]

LIMIT_S = 20.0
DAY_S = 86_400.0
LATE_MAX_S = 3.0
"""The engine looks four times a second; the rest is this machine."""

CLOCK = SystemClock()


class Server:
    """A nats-server that flushes every message, on one folder and port, however often it dies."""

    def __init__(self, folder: Path) -> None:
        self.address = free_address(Address("127.0.0.1", 0), setting="the test")
        self.token = secrets.token_hex(8)
        self._conf = folder / "nats.conf"
        self._conf.write_text(
            f'listen: "{self.address}"\nauthorization {{ token: "{self.token}" }}\n'
            f'jetstream {{ store_dir: "{folder}", sync_interval: always }}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> Self:
        program = Path(sysconfig.get_path("scripts")) / "nats-server"
        self._process = subprocess.Popen([program, "-c", self._conf], stderr=subprocess.DEVNULL)
        async with asyncio.timeout(LIMIT_S):
            while not await answers(self.address, self.token):
                await CLOCK.sleep(0.01)
        return self

    def kill(self) -> None:
        """Without a chance to write anything more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=LIMIT_S)

    def log(self, *, is_born: bool = False) -> contextlib.AbstractAsyncContextManager[JetStreamLog]:
        return open_jetstream(
            [f"nats://{self.address}"],
            self.token,
            clock=CLOCK,
            rng=random.Random(),
            bytes_max=1 << 30,
            is_born=is_born,
        )


@contextlib.asynccontextmanager
async def server(folder: Path) -> AsyncIterator[Server]:
    running = Server(folder)
    try:
        yield await running.start()
    finally:
        running.kill()


async def set_in(log: JetStreamLog, name: str, seconds: float) -> float:
    """The moment at which it is due."""
    due_at = CLOCK.wall() + seconds
    deadline = Deadline.after(LIMIT_S, CLOCK)
    answer = await set_timer(
        log.timers, name, due_at, name.encode(), clock=CLOCK, deadline=deadline
    )
    assert isinstance(answer, TimerSet)
    return due_at


async def consumers(log: JetStreamLog) -> list[Consumer]:
    return [await log.timers.due(shard, "schedule") for shard in range(log.timers.shards)]


async def due(log: JetStreamLog, count: int) -> list[Delivery]:
    """`count` or more, as they come from any shard."""
    deadline = Deadline.after(LIMIT_S, CLOCK)
    seen: list[Delivery] = []
    opened = await consumers(log)
    while len(seen) < count and not deadline.has_passed():
        for consumer in opened:
            seen += await consumer.fetch(100, 0.05)
    assert len(seen) >= count
    return seen


async def standing(log: JetStreamLog) -> int:
    counts = [
        await log.timers.count(shard, timeout_s=LIMIT_S) for shard in range(log.timers.shards)
    ]
    return sum(count for count in counts if isinstance(count, int))


async def purge_events(log: JetStreamLog) -> None:
    """Empty every stream of events, which is more than a trimmer ever does."""
    for shard in range(SHARDS):
        subject = f"ev.{shard}.message.created.AC1.a"
        answer = await log.publish(shard, subject, b"{}", expected=0, timeout_s=LIMIT_S)
        assert isinstance(answer, Accepted)
        name = f"$JS.API.STREAM.PURGE.{stream_name(shard)}"
        reply = await log._requests.request(name, timeout_s=LIMIT_S)
        assert isinstance(reply, bytes)
        assert msgspec.json.decode(reply)["success"] is True


async def test_a_timer_set_before_the_server_is_killed_fires_once_its_time_has_come(
    tmp_path: Path,
) -> None:
    async with server(tmp_path) as running:
        async with running.log() as log:
            due_at = await set_in(log, "soon", 2.0)
        running.kill()
        await running.start()

        async with running.log(is_born=True) as log:
            (delivery,) = await due(log, 1)

            assert delivery.stored.payload == b"soon"
            assert 0.0 <= delivery.stored.at - due_at < LATE_MAX_S
            await delivery.ack()
            assert await standing(log) == 0


async def test_a_timer_whose_time_comes_while_the_server_is_down_fires_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with server(tmp_path) as running:
        async with running.log() as log:
            due_at = await set_in(log, "meanwhile", 0.3)
            running.kill()
        while CLOCK.wall() < due_at + 0.3:
            await CLOCK.sleep(0.05)
        back_at = CLOCK.wall()
        await running.start()

        async with running.log(is_born=True) as log:
            (delivery,) = await due(log, 1)

            assert delivery.stored.payload == b"meanwhile"
            assert back_at <= delivery.stored.at < back_at + LATE_MAX_S


async def test_a_timer_35_days_ahead_outlives_a_kill_and_the_purge_of_all_events(
    tmp_path: Path,
) -> None:
    async with server(tmp_path) as running:
        async with running.log() as log:
            await set_in(log, "far", 35 * DAY_S)
            await purge_events(log)
        running.kill()
        await running.start()

        async with running.log(is_born=True) as log:
            assert await standing(log) == 1
            assert await cancel_timer(
                log.timers, "far", clock=CLOCK, deadline=Deadline.after(LIMIT_S, CLOCK)
            ) == TimersDropped(1)
            assert await standing(log) == 0


async def test_all_timers_fire_although_the_server_is_killed_while_it_fires_them(
    tmp_path: Path,
) -> None:
    count = 300
    async with server(tmp_path) as running:
        async with running.log() as log, asyncio.TaskGroup() as tasks:
            for number in range(count):
                tasks.create_task(set_in(log, f"burst-{number}", 1.5))
        async with running.log(is_born=True) as log:
            await due(log, 1)
            running.kill()
        await running.start()

        async with running.log(is_born=True) as log:
            seen: set[str] = set()
            async with asyncio.timeout(LIMIT_S):
                opened = await consumers(log)
                while len(seen) < count or await standing(log) > 0:
                    for consumer in opened:
                        for delivery in await consumer.fetch(100, 0.1):
                            seen.add(delivery.stored.subject.rpartition(".")[2])
                            await delivery.ack()
            assert len(seen) == count


async def test_a_lost_shard_of_timers_is_noticed_and_not_made_anew(tmp_path: Path) -> None:
    async with server(tmp_path) as running:
        async with running.log() as log:
            await set_in(log, "kept", 35 * DAY_S)
            lost = order("kept", log.timers.shards)[-1]
            await log._requests.request(f"$JS.API.STREAM.DELETE.TIMER_{lost}", timeout_s=LIMIT_S)

        with pytest.RaisesGroup(LogUnavailable, flatten_subgroups=True):
            async with running.log(is_born=True):
                pass


async def test_a_log_from_before_there_were_timers_gets_its_shards(tmp_path: Path) -> None:
    async with server(tmp_path) as running:
        async with running.log() as log:
            for shard in range(log.timers.shards):
                name = f"$JS.API.STREAM.DELETE.TIMER_{shard}"
                await log._requests.request(name, timeout_s=LIMIT_S)

        async with running.log(is_born=True) as log:
            await set_in(log, "first", 35 * DAY_S)
            assert await standing(log) == 1
