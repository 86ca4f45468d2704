"""How long things wait for each service, asked of the log."""

import asyncio
from collections.abc import Callable, Mapping

from trunkline.domain.events import Kind
from trunkline.host.queues import LOOK_EVERY_S, QueueAges, QueueLine
from trunkline.kernel.virtual import VirtualClock, run_in_virtual_time
from trunkline.log.engines.memory import MemoryLog
from trunkline.log.event import changed_filter, created_subject
from trunkline.log.interface import Accepted, Unreadable
from trunkline.messaging.wanted import WANTED, by_dispatch

ACCOUNT = "AC" + "a" * 32


class SilentAtTimes(MemoryLog):
    """Does not answer for its consumers while it is told so."""

    is_silent = False

    async def ack_floors(self, shard: int, *, timeout_s: float) -> Mapping[str, int] | Unreadable:
        if self.is_silent:
            return Unreadable("no leader")
        return await super().ack_floors(shard, timeout_s=timeout_s)


def ages_of(
    log: MemoryLog,
    clock: VirtualClock,
    *services: str,
    is_ours: Callable[[int], bool] = lambda _: True,
    unkept_s: Callable[[], float] | None = None,
) -> QueueAges:
    return QueueAges(log, services, is_ours=is_ours, unkept_s=unkept_s, clock=clock)


async def put(log: MemoryLog, shard: int, name: str) -> None:
    subject = created_subject(shard, Kind.MESSAGE, ACCOUNT, name)
    answer = await log.publish(shard, subject, b"{}", expected=0, timeout_s=1.0)
    assert isinstance(answer, Accepted)


def test_the_oldest_of_all_shards_counts_until_its_service_is_through_with_it() -> None:
    async def main() -> None:
        clock = VirtualClock()
        log = MemoryLog(clock=clock)
        ages = ages_of(log, clock, "api", "dispatch", "webhooks")
        consumers = [await log.consumer(shard, "dispatch", by_dispatch(shard)) for shard in (0, 1)]
        await put(log, 1, "first")
        await clock.sleep(5.0)
        await put(log, 0, "second")
        await clock.sleep(2.0)

        await ages.look()
        assert ages.lines() == [
            QueueLine(service="dispatch", oldest_s=7.0),
            QueueLine(service="webhooks", oldest_s=0.0),
        ]

        (first,) = await consumers[1].fetch(9, 1.0)
        await ages.look()
        assert ages.lines()[0].oldest_s == 7.0, "delivered is not done"
        await first.ack()
        await ages.look()
        assert ages.lines()[0].oldest_s == 2.0
        (second,) = await consumers[0].fetch(9, 1.0)
        await second.ack()
        await ages.look()
        assert ages.lines()[0].oldest_s == 0.0

    run_in_virtual_time(main())


def test_what_waits_grows_older_while_nobody_answers_and_that_is_told() -> None:
    async def main() -> None:
        clock = VirtualClock()
        log = SilentAtTimes(clock=clock)
        ages = ages_of(log, clock, "dispatch")
        await put(log, 3, "waits")
        await ages.look()

        log.is_silent = True
        await clock.sleep(60.0)
        await ages.look()
        assert ages.lines() == [
            QueueLine(service="dispatch", oldest_s=60.0, unknown_shards=log.shards)
        ]

        log.is_silent = False
        await ages.look()
        assert ages.lines() == [QueueLine(service="dispatch", oldest_s=60.0)]

    run_in_virtual_time(main())


def test_what_is_another_hosts_share_is_told_by_that_host_alone() -> None:
    async def main() -> None:
        clock = VirtualClock()
        log = MemoryLog(clock=clock)
        ours = {3, 4}
        ages = ages_of(log, clock, "dispatch", is_ours=lambda shard: shard in ours)
        await put(log, 3, "goes-to-another-host")
        await clock.sleep(30.0)
        await ages.look()
        assert ages.lines()[0].oldest_s == 30.0

        ours.remove(3)
        await ages.look()
        assert ages.lines()[0].oldest_s == 0.0

    run_in_virtual_time(main())


def test_it_is_looked_every_few_seconds_and_receipts_tell_of_themselves() -> None:
    async def main() -> None:
        clock = VirtualClock()
        log = MemoryLog(clock=clock)
        ages = ages_of(log, clock, "dispatch", "receipts", unkept_s=lambda: 4.5)
        await put(log, 0, "waits")

        running = ages.run()
        looking = clock.sleep(LOOK_EVERY_S * 1.5)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(running)
            await looking
            task.cancel()

        assert ages.lines() == [
            QueueLine(service="dispatch", oldest_s=LOOK_EVERY_S * 1.5),
            QueueLine(service="receipts", oldest_s=4.5),
        ]

    run_in_virtual_time(main())


def test_webhooks_wait_for_whatever_happens_to_a_message() -> None:
    async def main() -> None:
        clock = VirtualClock()
        log = MemoryLog(clock=clock)
        ages = ages_of(log, clock, *WANTED)
        subject = changed_filter(2, Kind.MESSAGE).removesuffix(">") + ACCOUNT
        answer = await log.publish(2, subject, b"{}", expected=None, timeout_s=1.0)
        assert isinstance(answer, Accepted)
        await clock.sleep(1.0)

        await ages.look()

        waits = {line.service: line.oldest_s for line in ages.lines()}
        assert waits == {"dispatch": 0.0, "webhooks": 1.0, "inbound": 0.0}

    run_in_virtual_time(main())
