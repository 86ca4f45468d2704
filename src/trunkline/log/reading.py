"""Opening a durable consumer when the engine may still be starting, or be away for a moment."""

from collections.abc import Sequence
from typing import Final

import structlog

from trunkline.kernel import Clock
from trunkline.log.interface import Consumer, Delivery, Log, LogUnavailable
from trunkline.log.share import Share

log: Final = structlog.get_logger(__name__)

FETCH_WAIT_S: Final = 0.5
"""How long a service waits for work before it looks whether it is to stop; costs next to nothing,
because the request stays open at the engine."""

OPEN_AGAIN_S: Final = 0.2

REDELIVER_LOOK_S: Final = 0.05
"""How long is waited for work while the engine is still to be asked for what a gone host had."""


async def open_consumer(
    engine: Log, shard: int, service: str, filters: Sequence[str], *, clock: Clock
) -> Consumer:
    """The durable consumer, tried until the engine gives it."""
    while True:
        try:
            return await engine.consumer(shard, service, filters)
        except LogUnavailable as error:
            log.info("log.waiting", service=service, shard=shard, reason=str(error))
            await clock.sleep(OPEN_AGAIN_S)


async def fetch_shared(
    consumer: Consumer, share: Share, shard: int, items_max: int, wait_s: float
) -> Sequence[Delivery]:
    """As `consumer.fetch`, while the shard is ours; and first what a host had that is gone."""
    if not share.has(shard):
        await consumer.rest()
        await share.wait(wait_s)
        return []
    redeliver_in_s = share.redeliver_in_s(shard)
    if redeliver_in_s is not None:
        wait_s = min(wait_s, REDELIVER_LOOK_S)
        if redeliver_in_s <= 0.0:
            share.redelivered(shard, is_done=await consumer.redeliver())
    taken = await consumer.fetch(items_max, wait_s)
    if taken and not share.has(shard):
        # It went to another host while we waited; that one is waiting now.
        for delivery in taken:
            await delivery.nak(0.0)
        return []
    return taken
