"""Who leads which stream, and how a leader is asked to make way."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from trunkline.log.engines.jetstream import api
from trunkline.log.engines.jetstream.requests import Requests


class _Led(msgspec.Struct, frozen=True):
    """The answer about a stream or a consumer, as far as it is read here."""

    cluster: api.Cluster | None = None


async def leaders(
    requests: Requests, names: Sequence[str], timeout_s: float
) -> Mapping[str, str | None]:
    """See `ClusteredLog.leaders` and `consumer_leaders`. Each leader is asked about its own: an
    answer costs it a tenth of a millisecond, while a list of all waits for those that are silent."""
    found: dict[str, str | None] = dict.fromkeys(names)

    async def look(name: str) -> None:
        subject = f"$JS.API.{_kind(name)}.INFO.{name}"
        reply = await requests.ask(subject, timeout_s=timeout_s)
        if isinstance(reply, bytes):
            cluster = msgspec.json.decode(reply, type=_Led).cluster
            found[name] = cluster.leader or None if cluster is not None else None

    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(look(name))
    return found


async def step_down(requests: Requests, name: str, prefer: str, timeout_s: float) -> bool:
    """See `ClusteredLog.step_down`."""
    question = msgspec.json.encode({"placement": {"preferred": prefer}})
    subject = f"$JS.API.{_kind(name)}.LEADER.STEPDOWN.{name}"
    reply = await requests.request(subject, question, timeout_s=timeout_s)
    return isinstance(reply, bytes) and msgspec.json.decode(reply, type=api.PurgeAnswer).success


def _kind(name: str) -> str:
    """Streams have no dot in their name, and consumers are named behind their stream."""
    return "CONSUMER" if "." in name else "STREAM"
