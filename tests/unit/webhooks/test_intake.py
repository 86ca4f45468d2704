"""Taking deliveries in: nothing poisonous or slow stops the rest, and draining finishes."""

import asyncio
import functools
import random
from collections.abc import Sequence

import pytest

from trunkline.domain.events import Kind, Told, Type
from trunkline.kernel import FakeClock
from trunkline.log.engines.memory import MemoryLog
from trunkline.log.event import Event, changed_filter, changed_subject, encode, encode_body
from trunkline.log.interface import Consumer, Delivery, LogUnavailable
from trunkline.webhooks.intake import POISON_RETRY_S, Hands, Intake, readable

pytestmark = pytest.mark.anyio

ACCOUNT = "AC1"
WAIT_S = 5.0


async def publish(log: MemoryLog, sid: str, shard: int = 0) -> None:
    event = Event(
        id=sid,
        kind=Kind.MESSAGE,
        type=Type.TOLD,
        sid=sid,
        account=ACCOUNT,
        at=0.0,
        by_host="host-1",
        data=encode_body(Told(status="sent", attempts=1)),
    )
    subject = changed_subject(shard, Kind.MESSAGE, ACCOUNT)
    await log.publish(shard, subject, encode(event), expected=None, timeout_s=1.0)


class Service:
    """Works on each delivery in a hand of its own; some of them are poison, some wait."""

    def __init__(self, log: MemoryLog, clock: FakeClock) -> None:
        self.done: list[str] = []
        self.progress = asyncio.Event()
        self.gate = asyncio.Event()
        self.intake = Intake(
            log,
            "test",
            lambda shard: [changed_filter(shard, Kind.MESSAGE)],
            self.take,
            clock=clock,
            rng=random.Random(1),
        )

    async def take(self, shard: int, deliveries: Sequence[Delivery], hands: Hands) -> None:
        del shard
        for delivery in deliveries:
            events = await readable(delivery)
            for event in events or ():
                await hands.pass_on(delivery, functools.partial(self.work, delivery, event))

    async def work(self, delivery: Delivery, event: Event) -> None:
        if event.sid == "poison":
            raise RuntimeError("a bug")
        if event.sid == "slow":
            await self.gate.wait()
        await delivery.ack()
        self.done.append(event.sid)
        self.progress.set()

    async def until_done(self, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while len(self.done) < count:
                self.progress.clear()
                await self.progress.wait()


async def test_a_poisonous_event_stops_neither_its_shard_nor_itself_for_ever() -> None:
    clock = FakeClock()
    log = MemoryLog(clock=clock, shards=2)
    service = Service(log, clock)
    await log.publish(0, "ev.0.message.changed.AC1", b"not an event", expected=None, timeout_s=1.0)
    for sid in ("poison", "slow", "SM1"):
        await publish(log, sid)
    await publish(log, "SM2", shard=1)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.intake.run())
        await service.until_done(2)
        service.gate.set()
        await service.until_done(3)
        service.intake.drain()

    assert sorted(service.done) == ["SM1", "SM2", "slow"]
    await clock.advance(POISON_RETRY_S)
    again = await (await log.consumer(0, "test", [changed_filter(0, Kind.MESSAGE)])).fetch(9, 0.0)
    assert len(again) == 2


async def test_draining_waits_for_what_is_in_hand() -> None:
    clock = FakeClock()
    log = MemoryLog(clock=clock, shards=1)
    service = Service(log, clock)
    await publish(log, "SM1")
    await publish(log, "slow")

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(service.intake.run())
        await service.until_done(1)
        service.intake.drain()
        await clock.advance(1.0)
        assert not running.done()
        service.gate.set()

    assert sorted(service.done) == ["SM1", "slow"]


class Fragile(MemoryLog):
    """A log whose first consumers cannot be made."""

    refusals = 3

    async def consumer(self, shard: int, service: str, filters: Sequence[str]) -> Consumer:  # type: ignore[override]  # it refuses once
        if self.refusals:
            self.refusals -= 1
            raise LogUnavailable("electing")
        return await super().consumer(shard, service, filters)


async def test_a_log_that_cannot_be_reached_is_asked_again() -> None:
    clock = FakeClock()
    log = Fragile(clock=clock, shards=1)
    service = Service(log, clock)
    await publish(log, "SM1")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.intake.run())
        await clock.advance(10.0)
        await service.until_done(1)
        service.intake.drain()
