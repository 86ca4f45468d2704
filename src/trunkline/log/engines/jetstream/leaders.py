"""Who leads which stream, and how a leader is asked to make way."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from trunkline.log.engines.jetstream import api
from trunkline.log.engines.jetstream.requests import Requests


async def leaders(
    requests: Requests, streams: Sequence[str], timeout_s: float
) -> Mapping[str, str | None]:
    """See `ClusteredLog.leaders`. Each leader is asked about its own stream: an answer costs it a
    tenth of a millisecond, while a list of all streams waits for those that are silent."""
    found: dict[str, str | None] = dict.fromkeys(streams)

    async def look(stream: str) -> None:
        reply = await requests.ask(f"$JS.API.STREAM.INFO.{stream}", timeout_s=timeout_s)
        if isinstance(reply, bytes):
            cluster = msgspec.json.decode(reply, type=api.StreamAnswer).cluster
            found[stream] = cluster.leader or None if cluster is not None else None

    async with asyncio.TaskGroup() as tasks:
        for stream in streams:
            tasks.create_task(look(stream))
    return found


async def step_down(requests: Requests, stream: str, prefer: str, timeout_s: float) -> bool:
    """See `ClusteredLog.step_down`."""
    question = msgspec.json.encode({"placement": {"preferred": prefer}})
    reply = await requests.request(
        f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}", question, timeout_s=timeout_s
    )
    return isinstance(reply, bytes) and msgspec.json.decode(reply, type=api.PurgeAnswer).success
