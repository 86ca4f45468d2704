"""The retention as a host runs it: its pace, and the small file in which it says what it found."""

import os
from pathlib import Path
from typing import Final

import msgspec

from trunkline.host.cluster import ClusterPart
from trunkline.host.config import MONTH_S, Settings
from trunkline.host.context import Context
from trunkline.host.cursors import CursorExchange
from trunkline.kernel.crash import CrashHere, CrashPoint, read_crash_at
from trunkline.log.trim import TrimLimits
from trunkline.messaging.wanted import WANTED
from trunkline.replica.progress import Progress
from trunkline.replica.retention import Pace, Report, Retention

CONSUMERS: Final = tuple(WANTED)
"""The services that read the log; none of it goes before each of them is through with it."""


HASTENED_BY: Final = frozenset(
    {
        CrashPoint.SNAPSHOT_BEFORE_RENAME,
        CrashPoint.SNAPSHOT_AFTER_RENAME,
        CrashPoint.PURGE_BEFORE,
        CrashPoint.PURGE_AFTER,
    }
)
DRILL_PASS_S: Final = 1.0
DRILL_BARRIER_S: Final = 3.0
DRILL_WORK_S: Final = 3.0
DRILL: Final = Pace(
    pass_s=DRILL_PASS_S,
    snapshot_s=DRILL_PASS_S,
    trim=TrimLimits(retain_s=0.0, barrier_s=DRILL_BARRIER_S, work_s=DRILL_WORK_S),
)
"""For a host that is told to die at one of these points, which otherwise nothing passes for two
days. What it shortens is what protects against hosts that freeze, so such a host serves nobody; that
is said of every armed host."""


class Found(msgspec.Struct, frozen=True):
    """A report, summed up over all shards. Times are seconds since the epoch."""

    at: float
    messages: int
    resources: int
    bytes: int
    bytes_max: int
    fullest: float
    """The share that the fullest shard has taken of its room."""
    oldest_at: float | None
    horizon: float | None
    retain_s: float
    recent_messages: int
    recent_s: float
    waiting_for: str
    waiting_shard: int
    waiting_sequence: int


def retention_of(
    context: Context, progress: Progress, *, crash_here: CrashHere, part: ClusterPart | None = None
) -> tuple[Retention, *tuple[CursorExchange, ...]]:
    """The service, for the process that has the projector; and in a cluster what tells the hosts how
    far each other's copies are. Each shard is trimmed by the host whose share it is."""
    pace = pace_of(context.settings)
    months = context.settings.records.keep_months
    path = context.layout.retention
    exchanges: list[CursorExchange] = []
    retention = Retention(
        context.log,
        context.layout.replica,
        progress,
        cluster=context.cluster,
        services=CONSUMERS,
        keep_s=months * MONTH_S if months else None,
        pace=pace,
        clock=context.clock,
        crash_here=crash_here,
        tell=lambda report: write(path, summed_up(report, pace.trim.retain_s)),
        others=lambda shard: exchanges[0].floors(shard) if exchanges else {},
        may_trim=lambda shard: part is None or part.shards.has(shard),
    )
    if part is not None:
        exchanges.append(
            CursorExchange(
                part.bus,
                part.members,
                shards=context.log.shards,
                own=retention.floors,
                clock=context.clock,
            )
        )
    return (retention, *exchanges)


def pace_of(settings: Settings) -> Pace:
    """The pace for these settings."""
    crash_at = settings.host.crash_at
    if crash_at and read_crash_at(crash_at)[0] in HASTENED_BY:
        return DRILL
    return Pace(trim=TrimLimits(retain_s=settings.log.retain_h * 3600.0))


def summed_up(report: Report, retain_s: float) -> Found:
    """The report over all shards."""
    extents = report.extents.values()
    waiting = report.waiting
    return Found(
        at=report.at,
        messages=sum(held.last - held.first + 1 for held in extents),
        resources=sum(held.subjects for held in extents),
        bytes=sum(held.bytes for held in extents),
        bytes_max=sum(held.bytes_max for held in extents),
        fullest=max((held.bytes / max(1, held.bytes_max) for held in extents), default=0.0),
        oldest_at=report.oldest_at,
        horizon=report.horizon,
        retain_s=retain_s,
        recent_messages=report.recent_messages,
        recent_s=report.recent_s,
        waiting_for="" if waiting is None else waiting.reader,
        waiting_shard=-1 if waiting is None else waiting.shard,
        waiting_sequence=0 if waiting is None else waiting.sequence,
    )


def write(path: Path, found: Found) -> None:
    """In one step, and not flushed: after a power failure the next pass writes it anew."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_bytes(msgspec.json.encode(found))
    new.replace(path)


def read(path: Path) -> Found | None:
    """The last one; `None` where no host has run for a while, or another version has."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Found)
    except (OSError, msgspec.MsgspecError):
        return None
