"""Which SIDs were deleted in a register lately: told by its newest event, so that nobody reads the rest.

A key names its record for a while, also one that is deleted meanwhile: a repeat must bring nothing
back. So each event in a register repeats what the one before it said of deletions, and a deletion adds
its own. What older versions wrote says nothing, and is `None` here.
"""

from typing import Final

from trunkline.domain.events import Type
from trunkline.log.event import Event
from trunkline.log.limits import KEY_WINDOW_S

SPENT_MAX: Final = 64
"""Deletions in one register that are remembered: some four kilobytes in each of its events. Whoever
deletes and creates one thing more often than that within a day may bring back the first of them."""

Spent = tuple[tuple[str, float], ...]
"""SIDs, each with the time at which it was deleted, oldest first."""


def spent_by(newest: Event, *, now: float) -> Spent | None:
    """What the newest event of a register says was deleted there in the time of a key, itself
    included; `None` where it does not say."""
    if newest.spent is not None:
        return lately(newest.spent, now=now)
    # All that was deleted before a record was created is older than it.
    is_deletion = newest.type is Type.DELETED
    since = newest.at if is_deletion else newest.record_created_at
    return () if now - since > KEY_WINDOW_S else None


def with_deletion(before: Spent | None, deletion: Event) -> Spent | None:
    """The same once `deletion` stands behind it."""
    if before is None:
        return None
    return lately((*before, (deletion.sid, deletion.at)), now=deletion.at)


def lately(spent: Spent, *, now: float) -> Spent:
    """Those for which a key may still be repeated, and not too many."""
    return tuple(each for each in spent if now - each[1] <= KEY_WINDOW_S)[-SPENT_MAX:]


def has(spent: Spent, sid: str) -> bool:
    """Whether it is one of those."""
    return any(name == sid for name, _ in spent)
