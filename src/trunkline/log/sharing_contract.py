"""What an engine promises to several processes that read for one service. Part of `log/contract`."""

import itertools
import os
from collections.abc import Awaitable, Callable
from typing import Final

from trunkline.log.interface import Accepted, Consumer, Delivery, Log, RetainedLog

SHARD: Final = 1
WAIT_S: Final = 5.0

_numbers: Final = itertools.count(1)


async def what_somebody_has_in_hand_comes_again_when_asked_for(log: Log) -> None:
    kind = _kind()
    filters = [f"ev.{SHARD}.{kind}.created.>"]
    gone = await log.consumer(SHARD, f"service-{kind}", filters)
    for name in ("a", "b", "c"):
        await _publish(log, f"ev.{SHARD}.{kind}.created.AC1.{name}", name.encode(), expected=0)
    (done, *_) = await _deliveries(gone, 3)
    await done.ack()

    other = await log.consumer(SHARD, f"service-{kind}", filters)
    assert await other.redeliver()
    taken = await _deliveries(other, 2)

    assert [delivery.stored.payload for delivery in taken] == [b"b", b"c"]
    for delivery in taken:
        await delivery.ack()
    assert await other.fetch(10, 0.05) == []
    await gone.close()
    await other.close()


async def a_consumer_that_rests_leaves_what_comes_to_others(log: Log) -> None:
    kind = _kind()
    filters = [f"ev.{SHARD}.{kind}.created.>"]
    first = await log.consumer(SHARD, f"service-{kind}", filters)
    second = await log.consumer(SHARD, f"service-{kind}", filters)
    assert await first.fetch(1, 0.05) == []
    await first.rest()
    await _publish(log, f"ev.{SHARD}.{kind}.created.AC1.a", b"a", expected=0)

    (delivery,) = await _deliveries(second, 1)
    await delivery.ack()

    await _publish(log, f"ev.{SHARD}.{kind}.created.AC1.b", b"b", expected=0)
    await second.rest()
    (delivery,) = await _deliveries(first, 1)
    await delivery.ack()
    await first.close()
    await second.close()


SHARING: Final[tuple[Callable[[RetainedLog], Awaitable[None]], ...]] = (
    what_somebody_has_in_hand_comes_again_when_asked_for,
    a_consumer_that_rests_leaves_what_comes_to_others,
)


def _kind() -> str:
    """One that nobody has used before, in this process or another."""
    return f"shared{os.getpid()}x{next(_numbers)}"


async def _publish(log: Log, subject: str, payload: bytes, *, expected: int | None) -> None:
    answer = await log.publish(SHARD, subject, payload, expected=expected, timeout_s=WAIT_S)
    assert isinstance(answer, Accepted)


async def _deliveries(consumer: Consumer, count: int) -> list[Delivery]:
    taken: list[Delivery] = []
    while len(taken) < count:
        came = await consumer.fetch(count - len(taken), WAIT_S)
        assert came, f"only {len(taken)} came"
        taken += came
    return taken
