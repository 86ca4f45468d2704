"""Having a copy to serve from, at the start of a host: the one that is there, one restored from a
snapshot, or one made from the log; or none, and then the host does not start.

A copy fits the log when each of its cursors lies in what the shard still holds: not ahead of its
end, which would mean that it belongs to another past, and not before its beginning, because what was
trimmed between would be missing for ever and nobody would see that.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final, assert_never

import structlog

from trunkline.log.interface import Extent, LogUnavailable, RetainedLog, Unreadable
from trunkline.replica import schema, snapshot
from trunkline.replica.schema import Look
from trunkline.replica.snapshot import Snapshots

ASK_TIMEOUT_S: Final = 5.0

_log: Final = structlog.get_logger(__name__)

Extents = Mapping[int, Extent]


class CopyLost(Exception):
    """There is no copy that fits the log, and the log is trimmed. Nothing was changed."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} {why}")
        self.path = path
        self.why = why


async def make_ready(log: RetainedLog, path: Path, cluster: str) -> None:
    """See to it that the file at `path` may be opened, and followed up from the log.

    Raises `LogUnavailable`, or `CopyLost`, and then has changed nothing.
    """
    extents = await _extents(log)
    why = _why_not(path, cluster, extents)
    if why is None:
        return
    for candidate in await asyncio.to_thread(Snapshots(path, cluster).good):
        if misfit(candidate.cursors, extents) is None:
            snapshot.restore(candidate, path)
            behind = sum(held.last - candidate.cursors.get(n, 0) for n, held in extents.items())
            _log.warning("replica.restored", why=why, snapshot=candidate.path.name, behind=behind)
            return
    if any(held.first > 1 for held in extents.values()):
        raise CopyLost(path, why)
    if path.exists():
        _log.warning("replica.made_anew", why=why)
    schema.make(path, cluster=cluster)


def misfit(cursors: Mapping[int, int], extents: Extents) -> str | None:
    """Why a copy with these cursors cannot be followed up from this log; `None` if it can."""
    for shard, held in extents.items():
        cursor = cursors.get(shard, 0)
        if cursor > held.last:
            # Either a backup was put back, or the log has lost what this copy had seen.
            _log.error("replica.ahead_of_log", shard=shard, cursor=cursor, last=held.last)
            return f"is ahead of the log (shard {shard}: {cursor}, and the log ends at {held.last})"
        if cursor < held.first - 1:
            return (
                f"is behind what the log still holds (shard {shard}: {cursor}, and the log begins "
                f"at {held.first})"
            )
    return None


def _why_not(path: Path, cluster: str, extents: Extents) -> str | None:
    match schema.look(path, cluster=cluster):
        case Look.MISSING:
            return "is missing"
        case Look.DAMAGED:
            return "is damaged"
        case Look.OTHER:
            return "belongs to another cluster, or to another version of this program"
        case Look.OURS:
            database = schema.open_for_writing(path, cluster=cluster)
            try:
                return misfit(schema.cursors(database), extents)
            finally:
                database.close()
        case other:
            assert_never(other)


async def _extents(log: RetainedLog) -> Extents:
    extents: dict[int, Extent] = {}
    for shard in range(log.shards):
        held = await log.extent(shard, timeout_s=ASK_TIMEOUT_S)
        if isinstance(held, Unreadable):
            raise LogUnavailable(f"shard {shard} cannot be asked: {held.reason}")
        extents[shard] = held
    return extents
