"""Taking a service's deliveries in: every shard on its own, many in hand, none blocking another.

A service gives an `Intake` one function that looks at a batch and answers what is trivial on the
spot; what needs time it passes to `Hands`, which works on a bounded number of deliveries of one
shard at once. A delivery that makes its worker raise goes back to the log after a while: one
poisonous event must not stop the service.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from trunkline.kernel import Backoff, Clock
from trunkline.log.event import Event, UnreadableEvent, decode_all
from trunkline.log.interface import Delivery, Log, LogUnavailable
from trunkline.log.reading import fetch_shared
from trunkline.log.share import WHOLE, Share

HANDS_MAX: Final = 256
"""Deliveries of one shard that are worked on at once."""
BATCH_MAX: Final = 64
FETCH_WAIT_S: Final = 0.5
REOPEN_BASE_S: Final = 0.1
REOPEN_CAP_S: Final = 2.0
POISON_RETRY_S: Final = 30.0

log: Final = structlog.get_logger(__name__)


class Hands:
    """The workers of one shard of one service."""

    def __init__(self, group: asyncio.TaskGroup, service: str) -> None:
        self._group = group
        self._service = service
        self._free = asyncio.Semaphore(HANDS_MAX)

    async def pass_on(self, delivery: Delivery, work: Callable[[], Awaitable[None]]) -> None:
        """Have `work` done, as soon as a hand is free; it answers the delivery itself."""
        await self._free.acquire()
        self._group.create_task(self._do(delivery, work))

    async def rest(self) -> None:
        """Return when every hand is empty; nothing may be passed on meanwhile."""
        for _ in range(HANDS_MAX):
            await self._free.acquire()
        for _ in range(HANDS_MAX):
            self._free.release()

    async def _do(self, delivery: Delivery, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception:
            # The edge that decides: a bug, or a copy that cannot be read, stops one event only.
            log.exception(
                "intake.work_failed",
                service=self._service,
                subject=delivery.stored.subject,
                sequence=delivery.stored.sequence,
            )
            await delivery.nak(POISON_RETRY_S)
        finally:
            self._free.release()


Take = Callable[[int, Sequence[Delivery], Hands], Awaitable[None]]
"""`take(shard, deliveries, hands)` answers each delivery, or passes it on."""


class Intake:
    """The deliveries of one service, from every shard."""

    def __init__(
        self,
        log: Log,
        service: str,
        filters: Callable[[int], Sequence[str]],
        take: Take,
        *,
        clock: Clock,
        rng: random.Random,
        share: Share = WHOLE,
    ) -> None:
        self._log = log
        self._share = share
        self._service = service
        self._filters = filters
        self._take = take
        self._clock = clock
        self._backoff = Backoff(REOPEN_BASE_S, REOPEN_CAP_S, rng)
        self._draining = False

    def drain(self) -> None:
        """Take nothing new; `run` returns when what is in hand is answered."""
        self._draining = True

    async def run(self) -> None:
        """Take in until drained. Cancelled, what is in hand is delivered again, here or elsewhere."""
        async with asyncio.TaskGroup() as group:
            for shard in range(self._log.shards):
                group.create_task(self._serve(shard))

    async def _serve(self, shard: int) -> None:
        failures = 0
        async with asyncio.TaskGroup() as group:
            hands = Hands(group, self._service)
            while not self._draining:
                try:
                    await self._read(shard, hands)
                except LogUnavailable as error:
                    log.warning(
                        "intake.log_unavailable",
                        service=self._service,
                        shard=shard,
                        reason=str(error),
                    )
                    await self._clock.sleep(self._backoff.delay_s(failures))
                    failures += 1

    async def _read(self, shard: int, hands: Hands) -> None:
        """Batch after batch; raises `LogUnavailable`."""
        consumer = await self._log.consumer(shard, self._service, self._filters(shard))
        try:
            while not self._draining:
                deliveries = await fetch_shared(
                    consumer, self._share, shard, BATCH_MAX, FETCH_WAIT_S
                )
                if deliveries:
                    await self._take_guarded(shard, deliveries, hands)
            await hands.rest()
        finally:
            await consumer.close()

    async def _take_guarded(self, shard: int, deliveries: Sequence[Delivery], hands: Hands) -> None:
        """A batch that cannot be taken is taken one by one, so that one event stops only itself."""
        try:
            await self._take(shard, deliveries, hands)
            return
        except Exception:
            # Whichever event it was, the others must not wait for it.
            log.exception("intake.batch_failed", service=self._service, shard=shard)
        for delivery in deliveries:
            try:
                await self._take(shard, [delivery], hands)
            except Exception:
                # The edge that decides: it goes back, and is visible each time.
                log.exception(
                    "intake.work_failed",
                    service=self._service,
                    subject=delivery.stored.subject,
                    sequence=delivery.stored.sequence,
                )
                await delivery.nak(POISON_RETRY_S)


async def readable(delivery: Delivery) -> Sequence[Event] | None:
    """The event or events; what this version cannot read goes back, for a newer host to take."""
    try:
        return decode_all(delivery.stored.payload)
    except UnreadableEvent:
        log.exception("intake.unreadable", subject=delivery.stored.subject)
        await delivery.nak(POISON_RETRY_S)
        return None
