"""Markers: a small message that each shard gets every few minutes, and what is known of them.

A marker is a barrier. What was proposed to its shard before it cannot commit behind it, so a
consumer or a copy that is past a marker has seen everything that was sent there before; and a marker
says when: the engine stored it by its own clock. Nobody but the trimmer reads them.
"""

from dataclasses import dataclass, field
from typing import Final

from trunkline.log.interface import Accepted, RetainedLog, Stored
from trunkline.log.limits import MARKERS_KEPT_MAX

NO_EVENTS: Final = b"[]"
"""What a marker holds: a list of events that has none."""

READ_TIMEOUT_S: Final = 2.0
PUBLISH_TIMEOUT_S: Final = 2.0

LOOKED_BACK_S: Final = 6 * 3600.0
"""Over which time the pace of a shard is told."""

READ_MAX: Final = 500
"""Markers of one shard that are read at once; after a restart there are hundreds to be read."""


def marker_subject(shard: int) -> str:
    return f"ev.{shard}.marker"


@dataclass(frozen=True, slots=True)
class Marker:
    """`at` is when the engine stored it, in seconds since the epoch."""

    sequence: int
    at: float


@dataclass(slots=True)
class Markers:
    """The known markers of one shard, in order."""

    shard: int
    _known: list[Marker] = field(default_factory=list)
    _read_up_to: int = 0

    async def publish(self, log: RetainedLog) -> bool:
        """Whether the shard has another one, flushed."""
        answer = await log.publish(
            self.shard,
            marker_subject(self.shard),
            NO_EVENTS,
            expected=None,
            timeout_s=PUBLISH_TIMEOUT_S,
        )
        return isinstance(answer, Accepted)

    async def read(self, log: RetainedLog) -> None:
        """Learn of those that came since; after a failure the next call goes on from there."""
        for _ in range(READ_MAX):
            found = await log.read_next(
                self.shard,
                marker_subject(self.shard),
                after=self._read_up_to,
                timeout_s=READ_TIMEOUT_S,
            )
            if not isinstance(found, Stored):
                return
            self.add(Marker(found.sequence, found.at))

    def add(self, marker: Marker) -> None:
        self._read_up_to = marker.sequence
        self._known.append(marker)
        if len(self._known) > MARKERS_KEPT_MAX:
            half = MARKERS_KEPT_MAX // 2
            self._known[:half] = self._known[:half:2]

    def forget_before(self, sequence: int) -> None:
        """They are purged."""
        self._known = [marker for marker in self._known if marker.sequence >= sequence]

    @property
    def oldest(self) -> Marker | None:
        """What stands before it is at most one interval older."""
        return self._known[0] if self._known else None

    def looking_back(self, now: float) -> Marker | None:
        """The newest that is a few hours old; of a young shard the oldest."""
        return self.newest_until(now - LOOKED_BACK_S) or self.oldest

    def newest_up_to(self, sequence: int) -> Marker | None:
        """The newest that everything up to `sequence` reaches."""
        return next((each for each in reversed(self._known) if each.sequence <= sequence), None)

    def newest_until(self, at: float) -> Marker | None:
        """The newest that was stored by then."""
        return next((each for each in reversed(self._known) if each.at <= at), None)
