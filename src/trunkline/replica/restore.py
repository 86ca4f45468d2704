"""Having a copy to serve from, at the start of a host: the one that is there, one restored from a
snapshot, one from a peer, or one made from the log; or none, and then the host does not start.

Which of them is a question of time: what is nearest to the log's end is followed up soonest, and a
peer is asked where nothing of the host's own is near.

A copy fits the log when each of its cursors lies in what the shard still holds: not ahead of its
end, which would mean that it belongs to another past, and not before its beginning, because what was
trimmed between would be missing for ever and nobody would see that.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

import structlog

from trunkline.kernel import Deadline
from trunkline.log.interface import Extent, LogUnavailable, RetainedLog, Unreadable
from trunkline.replica import schema, snapshot
from trunkline.replica.refill import Refill
from trunkline.replica.schema import Look
from trunkline.replica.snapshot import Snapshot, Snapshots

ASK_TIMEOUT_S: Final = 5.0

ELECTION_S: Final = 30.0
"""A shard has a new leader in four to nine seconds."""

ASK_AGAIN_S: Final = 0.5

NEAR_EVENTS: Final = 200_000
"""What is followed up in some twenty seconds: about as long as a peer takes to make a snapshot and
hand it over. Further behind, it is worth asking one."""

_log: Final = structlog.get_logger(__name__)

Extents = Mapping[int, Extent]


class CopyLost(Exception):
    """There is no copy that fits the log, and the log is trimmed. Nothing was changed."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} {why}")
        self.path = path
        self.why = why


@dataclass(frozen=True, slots=True)
class _Own:
    """What this host has itself: the copy that stands there (`None` for `why`), or a snapshot, or
    the whole log. `behind` is how many messages of the log are to follow."""

    why: str | None
    behind: int
    restorable: Snapshot | None = None


async def make_ready(
    log: RetainedLog, path: Path, cluster: str, refill: Refill | None = None
) -> None:
    """See to it that the file at `path` may be opened, and followed up from the log. With `refill`,
    peers are asked too.

    Raises `LogUnavailable`, or `CopyLost`, and then has changed nothing.
    """
    extents = await _extents_in_time(log, refill)
    await _bring_up_to_date(path, cluster)
    why, behind = _look(path, cluster, extents)
    own = _Own(why, behind) if why is None else await _fallback(path, cluster, why, extents)
    is_near = own is not None and own.behind <= NEAR_EVENTS
    if refill is not None and not is_near and await _refilled(log, path, cluster, refill, why, own):
        await _bring_up_to_date(path, cluster)
        return
    if own is None:
        raise CopyLost(path, why or "")
    if own.why is None:
        return
    if own.restorable is not None:
        snapshot.restore(own.restorable, path)
        await _bring_up_to_date(path, cluster)
        name = own.restorable.path.name
        _log.warning("replica.restored", why=own.why, snapshot=name, behind=own.behind)
        return
    if path.exists():
        _log.warning("replica.made_anew", why=own.why)
    schema.make(path, cluster=cluster)


async def _fallback(path: Path, cluster: str, why: str, extents: Extents) -> _Own | None:
    """What takes the place of a copy that cannot be used, without any peer."""
    for candidate in await asyncio.to_thread(Snapshots(path, cluster).good):
        if misfit(candidate.cursors, extents) is None:
            return _Own(why, _behind(candidate.cursors, extents), candidate)
    if any(held.first > 1 for held in extents.values()):
        return None
    return _Own(why, _behind({}, extents))


async def _refilled(
    log: RetainedLog,
    path: Path,
    cluster: str,
    refill: Refill,
    why: str | None,
    own: _Own | None,
) -> bool:
    """Whether a peer's snapshot has taken the place of the copy."""
    latest: Extents = {}

    async def why_not(cursors: Mapping[int, int]) -> str | None:
        # Asked anew each time: while it travelled, the log may have been trimmed.
        nonlocal latest
        latest = await _extents_in_time(log, refill)
        reason = misfit(cursors, latest)
        if reason is None and own is not None and _behind(cursors, latest) >= own.behind:
            return "is no nearer to the log's end than what this host has"
        return reason

    fetched = await refill.fetch(path, cluster, why_not)
    if fetched is None:
        return False
    snapshot.restore(fetched.snapshot, path)
    _log.warning(
        "replica.refilled",
        why=why or "is far behind the log",
        peer=fetched.peer,
        bytes=fetched.bytes,
        took_s=round(fetched.took_s, 3),
        behind=_behind(fetched.snapshot.cursors, latest),
    )
    return True


def _behind(cursors: Mapping[int, int], extents: Extents) -> int:
    return sum(
        held.last - max(cursors.get(shard, 0), held.first - 1) for shard, held in extents.items()
    )


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


async def _bring_up_to_date(path: Path, cluster: str) -> None:
    """What stands at `path`, also a snapshot that was put there, may be of an older version; who only
    reads the copy finds a newest one."""
    steps = await asyncio.to_thread(schema.bring_up_to_date, path, cluster=cluster)
    if steps:
        _log.info("replica.brought_up_to_date", steps=steps)


def _look(path: Path, cluster: str, extents: Extents) -> tuple[str | None, int]:
    """Why the copy that stands there cannot be used, if so; and how far it is behind."""
    match schema.look(path, cluster=cluster):
        case Look.MISSING:
            return "is missing", 0
        case Look.DAMAGED:
            return "is damaged", 0
        case Look.OTHER:
            return "belongs to another cluster, or to another version of this program", 0
        case Look.OURS:
            database = schema.open_for_writing(path, cluster=cluster)
            try:
                cursors = schema.cursors(database)
            finally:
                database.close()
            return misfit(cursors, extents), _behind(cursors, extents)
        case other:
            assert_never(other)


async def _extents_in_time(log: RetainedLog, refill: Refill | None) -> Extents:
    """The same; in a cluster, a shard that has no leader just now is waited for."""
    if refill is None:
        return await extents_of(log)
    deadline = Deadline.after(ELECTION_S, refill.clock)
    while True:
        try:
            return await extents_of(log)
        except LogUnavailable:
            if deadline.has_passed():
                raise
        await refill.clock.sleep(ASK_AGAIN_S)


async def extents_of(log: RetainedLog) -> Extents:
    """What each shard holds now. Raises `LogUnavailable`."""
    extents: dict[int, Extent] = {}
    for shard in range(log.shards):
        held = await log.extent(shard, timeout_s=ASK_TIMEOUT_S)
        if isinstance(held, Unreadable):
            raise LogUnavailable(f"shard {shard} cannot be asked: {held.reason}")
        extents[shard] = held
    return extents
