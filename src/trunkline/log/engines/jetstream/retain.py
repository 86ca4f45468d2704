"""What retention asks of a stream: its extent, its consumers' floors, and the purge of a prefix."""

from collections.abc import Mapping
from typing import Final

import msgspec

from trunkline.log.engines.jetstream import api
from trunkline.log.engines.jetstream.requests import Requests
from trunkline.log.interface import Extent, Unreadable

CONSUMERS_MAX: Final = 256
"""The engine lists this many consumers of a stream in one answer; a host has a few dozen."""


async def extent(requests: Requests, shard: int, timeout_s: float) -> Extent | Unreadable:
    """See `RetainedLog.extent`."""
    reply = await requests.ask(_subject("STREAM.INFO", shard), timeout_s=timeout_s)
    if not isinstance(reply, bytes):
        return Unreadable(reply.reason)
    answer = msgspec.json.decode(reply, type=api.StreamAnswer)
    if answer.state is None or answer.config is None:
        return _unreadable(answer.error)
    state = answer.state
    # A stream that was never written to says 0 for both.
    first = max(1, state.first_seq)
    return Extent(first, state.last_seq, state.bytes, answer.config.max_bytes, state.num_subjects)


async def ack_floors(
    requests: Requests, shard: int, timeout_s: float
) -> Mapping[str, int] | Unreadable:
    """See `RetainedLog.ack_floors`.

    The engine's floor speaks of what was delivered, and stays where it is while a consumer is not
    asked for anything it wants. One that has nothing undelivered and nothing unanswered is through
    with all that the stream held before it was looked at.
    """
    held = await extent(requests, shard, timeout_s)
    if isinstance(held, Unreadable):
        return held
    reply = await requests.ask(_subject("CONSUMER.LIST", shard), timeout_s=timeout_s)
    if not isinstance(reply, bytes):
        return Unreadable(reply.reason)
    answer = msgspec.json.decode(reply, type=api.ConsumersAnswer)
    if answer.error is not None:
        return _unreadable(answer.error)
    if answer.total > len(answer.consumers):
        return Unreadable(f"it has {answer.total} consumers, more than {CONSUMERS_MAX}")
    return {
        each.name: held.last
        if each.num_pending == 0 and each.num_ack_pending == 0
        else each.ack_floor.stream_seq
        for each in answer.consumers
        if each.config.durable_name
    }


async def purge(requests: Requests, shard: int, before: int, timeout_s: float) -> int | Unreadable:
    """See `RetainedLog.purge`. Without a sequence the engine would remove everything."""
    if before <= 1:
        return 0
    question = msgspec.json.encode({"seq": before})
    reply = await requests.request(_subject("STREAM.PURGE", shard), question, timeout_s=timeout_s)
    if not isinstance(reply, bytes):
        return Unreadable(reply.reason)
    answer = msgspec.json.decode(reply, type=api.PurgeAnswer)
    return answer.purged if answer.success else _unreadable(answer.error)


def _subject(what: str, shard: int) -> str:
    return f"$JS.API.{what}.{api.stream_name(shard)}"


def _unreadable(error: api.ApiError | None) -> Unreadable:
    return Unreadable("no state" if error is None else error.description)
