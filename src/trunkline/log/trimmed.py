"""What trimming proves to a reader that does not know how far it is.

A prefix of one shard is purged only when everybody is through with what was stored by then in *every*
shard (`log/trim`). What still stands of that age must not be handled again: the copy that counts may be
among what is gone. The marker at the beginning of a purged shard says up to when.
"""

from trunkline.log.interface import Log, Stored, Unreadable
from trunkline.log.marker import READ_MAX, marker_subject


async def done_up_to(log: Log, shard: int, *, timeout_s: float) -> int | Unreadable:
    """The sequence up to which everybody is surely through with `shard`; 0 where nothing shows it.
    Every shard is asked, each for at most `timeout_s`."""
    purged_until = 0.0
    for each in range(log.shards):
        first = await log.read_next(each, f"ev.{each}.>", after=0, timeout_s=timeout_s)
        if isinstance(first, Unreadable):
            return first
        # One that begins with a marker because it was quiet has lost nothing.
        if first is not None and first.sequence > 1 and first.subject == marker_subject(each):
            purged_until = max(purged_until, first.at)
    return await _newest_marker(log, shard, purged_until, timeout_s)


async def _newest_marker(log: Log, shard: int, until: float, timeout_s: float) -> int | Unreadable:
    """The last sequence before which all was stored by `until`, as far as `READ_MAX` markers say."""
    sequence = 0
    for _ in range(READ_MAX if until else 0):
        found = await log.read_next(
            shard, marker_subject(shard), after=sequence, timeout_s=timeout_s
        )
        if isinstance(found, Unreadable):
            return found
        if not isinstance(found, Stored) or found.at > until:
            break
        sequence = found.sequence
    return sequence
