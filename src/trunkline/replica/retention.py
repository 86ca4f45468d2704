"""The service `retention`: markers, snapshots of the copy, trimming of the log, old records.

It runs where the projector runs, in exactly one process of a host. Nothing waits for it, and it may
die between any two lines: everything it does is done again, or found done, by its next pass. While
it does not run the log fills, and that is all.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeVar

import structlog

from trunkline.kernel import Clock
from trunkline.kernel.crash import CrashHere, CrashPoint, never_crash
from trunkline.log.carry import carry
from trunkline.log.interface import Extent, RetainedLog, Unreadable
from trunkline.log.limits import MARKER_EVERY_S, RETAIN_MIN_S
from trunkline.log.marker import Markers
from trunkline.log.trim import TrimLimits, Trimmer, Waiting
from trunkline.replica.old_records import OldRecords
from trunkline.replica.snapshot import KEPT_MAX, Snapshot, SnapshotFailed, Snapshots

SNAPSHOT_EVERY_S: Final = 12 * 3600.0
"""A quarter of the least time that anything stays in the log, so that both snapshots that are kept
can be followed up; a shorter one would only write the whole copy more often."""

FIRST_PASS_AFTER_S: Final = 10.0
RECORDS_EVERY_S: Final = 24 * 3600.0
WAITING_WARNED_AFTER_S: Final = 3 * 86_400.0
"""Trimming that has not moved for a day longer than it should is told of."""

ASK_TIMEOUT_S: Final = 5.0
PURGE_TIMEOUT_S: Final = 10.0
COPY: Final = "projector"
SNAPSHOT: Final = "snapshot"
"""The names of the readers that are no consumers of the log."""

log: Final = structlog.get_logger(__name__)

Result = TypeVar("Result")


class Cursors(Protocol):
    """How far the copy is, as committed."""

    def sequence(self, shard: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How often each part is done, in seconds, and when what may be trimmed. Only a test or a drill
    gives anything but the defaults and a longer `trim.retain_s`."""

    pass_s: float = MARKER_EVERY_S
    snapshot_s: float = SNAPSHOT_EVERY_S
    records_s: float = RECORDS_EVERY_S
    trim: TrimLimits = field(default_factory=TrimLimits)


@dataclass(frozen=True, slots=True)
class Report:
    """What one pass found. `horizon` is the time up to which everything may go; `since_marker` how
    many messages came, and in how many seconds, since the oldest marker that was looked back to."""

    at: float
    extents: Mapping[int, Extent]
    oldest_at: float | None
    horizon: float | None
    waiting: Waiting | None
    recent_messages: int
    recent_s: float


class Retention:
    """Use as a support: `run` until cancelled. `services` are the consumers that have to be through
    with a shard; a durable consumer that is not among them counts too, once the engine has it.

    In a cluster, `others` says how far each other host's copy is in a shard, and `may_trim` whether
    this host is the one that trims it."""

    name = "retention"

    def __init__(  # noqa: PLR0913 - each is a part that the composition root names
        self,
        log: RetainedLog,
        copy: Path,
        progress: Cursors,
        *,
        cluster: str,
        services: Sequence[str],
        keep_s: float | None,
        pace: Pace,
        clock: Clock,
        crash_here: CrashHere = never_crash,
        tell: Callable[[Report], None] = lambda _: None,
        others: Callable[[int], Mapping[str, int]] = lambda _: {},
        may_trim: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self._log = log
        self._progress = progress
        self._services = tuple(services)
        self._pace = pace
        self._clock = clock
        self._crash_here = crash_here
        self._tell = tell
        self._others = others
        self._may_trim = may_trim
        self._services_at = dict.fromkeys(range(log.shards), 0)
        """Up to where every service is through, as far as this host knows."""
        self._snapshots = Snapshots(copy, cluster, crash_here)
        self._records = OldRecords(copy, keep_s)
        self._good: list[Snapshot] | None = None
        self._snapshot_due_at = 0.0
        self._markers = {shard: Markers(shard) for shard in range(log.shards)}
        self._trimmer = Trimmer(self._markers, pace.trim)
        self._records_at: float | None = None
        self._warned_at: float | None = None
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="retention")

    async def run(self) -> None:
        """Until cancelled. A fault of ours stops one pass, and no service."""
        if self._pace.trim.retain_s < RETAIN_MIN_S:
            log.warning("retention.hastened", retain_s=self._pace.trim.retain_s)
        try:
            # A host that starts has more urgent things to do.
            await self._clock.sleep(min(self._pace.pass_s, FIRST_PASS_AFTER_S))
            while True:
                try:
                    await self.once()
                except Exception:
                    # Nobody waits for a pass, and the services must not end because of one.
                    log.exception("retention.failed")
                await self._clock.sleep(self._pace.pass_s)
        finally:
            self._stop.set()
            self._thread.shutdown(wait=True, cancel_futures=True)

    async def once(self) -> None:
        """One pass."""
        await self._mark()
        await self._snapshot()
        extents = await self._observe()
        now, monotonic = self._clock.wall(), self._clock.monotonic()
        decided = self._trimmer.decide(wall=now, monotonic=monotonic)
        for shard, before in decided.items():
            if shard in extents and before > extents[shard].first and self._may_trim(shard):
                await self._purge(shard, before)
        self._report(extents, now, self._trimmer.horizon(wall=now, monotonic=monotonic))
        if self._records_at is None or monotonic - self._records_at >= self._pace.records_s:
            await self._forget_records(now)
            self._records_at = monotonic

    async def _mark(self) -> None:
        for markers in self._markers.values():
            await markers.publish(self._log)
            await markers.read(self._log)

    async def _snapshot(self) -> None:
        began = self._clock.monotonic()
        if self._good is None:
            self._good = await self._in_thread(lambda: self._snapshots.good(self._stop))
            age_s = self._snapshots.age_s(self._clock.wall())
            self._snapshot_due_at = began + self._pace.snapshot_s - age_s
        if self._good and began < self._snapshot_due_at:
            return
        try:
            taken = await self._in_thread(lambda: self._snapshots.take(self._stop))
        except SnapshotFailed as failure:
            if not self._stop.is_set():
                log.warning("snapshot.failed", reason=str(failure))
            return
        self._good = [taken, *self._good][:KEPT_MAX]
        self._snapshot_due_at = began + self._pace.snapshot_s
        log.info("snapshot.taken", took_s=round(self._clock.monotonic() - began, 3))

    async def _observe(self) -> Mapping[int, Extent]:
        """Ask every shard; one that cannot be asked is left out, and stays as it was known."""
        extents: dict[int, Extent] = {}
        for shard in range(self._log.shards):
            extent = await self._log.extent(shard, timeout_s=ASK_TIMEOUT_S)
            floors = await self._log.ack_floors(shard, timeout_s=ASK_TIMEOUT_S)
            if isinstance(extent, Unreadable) or isinstance(floors, Unreadable):
                continue
            extents[shard] = extent
            of_services = {**dict.fromkeys(self._services, 0), **floors}
            self._services_at[shard] = min(of_services.values(), default=0)
            self._trimmer.observe(
                shard,
                {
                    **of_services,
                    COPY: self._progress.sequence(shard),
                    SNAPSHOT: self._snapshot_floor(shard),
                    **self._others(shard),
                },
            )
        return extents

    def floors(self) -> list[int]:
        """For each shard, up to where the copy and every snapshot of it hold everything, and all
        services are known here to be through: who takes over a shard must not begin before what is
        trimmed."""
        return [
            min(
                self._progress.sequence(shard),
                self._snapshot_floor(shard),
                self._services_at[shard],
            )
            for shard in range(self._log.shards)
        ]

    def _snapshot_floor(self, shard: int) -> int:
        return min((each.cursors.get(shard, 0) for each in self._good or []), default=0)

    async def _purge(self, shard: int, before: int) -> None:
        if not await carry(self._log, shard, before=before, clock=self._clock):
            return
        self._crash_here(CrashPoint.PURGE_BEFORE)
        removed = await self._log.purge(shard, before=before, timeout_s=PURGE_TIMEOUT_S)
        self._crash_here(CrashPoint.PURGE_AFTER)
        if isinstance(removed, Unreadable):
            log.warning("log.not_trimmed", shard=shard, reason=removed.reason)
            return
        self._markers[shard].forget_before(before)
        log.info("log.trimmed", shard=shard, messages=removed, first=before)

    def _report(self, extents: Mapping[int, Extent], now: float, horizon: float | None) -> None:
        """Tell what was found, and an operator if trimming has not moved for days."""
        waiting = self._trimmer.waiting()
        oldest = [known.oldest.at for known in self._markers.values() if known.oldest]
        recent = [
            (extents[shard].last - behind.sequence, now - behind.at)
            for shard, known in self._markers.items()
            if shard in extents and (behind := known.looking_back(now)) is not None
        ]
        self._tell(
            Report(
                at=now,
                extents=extents,
                oldest_at=min(oldest, default=None),
                horizon=horizon,
                waiting=waiting,
                recent_messages=sum(messages for messages, _ in recent),
                recent_s=max((seconds for _, seconds in recent), default=0.0),
            )
        )
        is_long = (
            waiting is not None
            and oldest
            and now - min(oldest) > (self._pace.trim.retain_s + WAITING_WARNED_AFTER_S)
        )
        is_due = self._warned_at is None or now - self._warned_at >= WAITING_WARNED_AFTER_S / 3
        if waiting is not None and is_long and is_due:
            self._warned_at = now
            log.warning(
                "log.trimming_waits",
                shard=waiting.shard,
                reader=waiting.reader,
                sequence=waiting.sequence,
                oldest_h=round((now - min(oldest)) / 3600.0, 1),
            )

    async def _forget_records(self, now: float) -> None:
        forgotten = await self._records.forget(now, self._in_thread, self._clock)
        if forgotten:
            log.info("records.forgotten", messages=forgotten)

    async def _in_thread(self, function: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
