"""Opening a durable consumer when the engine may still be starting, or be away for a moment."""

from collections.abc import Sequence
from typing import Final

import structlog

from trunkline.kernel import Clock
from trunkline.log.interface import Consumer, Log, LogUnavailable

log: Final = structlog.get_logger(__name__)

FETCH_WAIT_S: Final = 0.5
"""How long a service waits for work before it looks whether it is to stop; costs next to nothing,
because the request stays open at the engine."""

OPEN_AGAIN_S: Final = 0.2


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
