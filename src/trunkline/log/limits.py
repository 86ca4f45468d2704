"""The bounds of the log, all in one place; the protocol's safety argument rests on their order.

TRY_TIMEOUT_S < ANSWER_MAX_S << LATE_MAX_S, and ACK_WAIT_S << WORK_MAX_S << LATE_MAX_S;
COPY_LAG_MAX_S + LATE_MAX_S << KEY_WINDOW_S < RETAIN_MIN_S
"""

from typing import Final

TRY_TIMEOUT_S: Final = 0.25
"""One publish to one shard; then the next shard (measured: a frozen leader costs one or two)."""

ANSWER_MAX_S: Final = 10.0
"""A create that took longer than this is not answered 201, as its copy may soon count as late."""

SETTLE_MAX_S: Final = 5.0
"""How long a create whose every try is of unknown outcome is asked about again before it is given
up as unknown: longer than an engine takes to restart."""

LATE_MAX_S: Final = 600.0
"""A copy stored this much away from its own `at` is late: closed, held, and never acted upon."""

WORK_MAX_S: Final = 60.0
"""A delivery is worked on for at most this long, by a clock that counts suspension."""

ACK_WAIT_S: Final = 3.0
"""The engine delivers again what was neither answered nor kept in hand for this long."""

CREATES_SHARE: Final = 0.8
"""A shard fuller than this takes no new resources, so that tombstones, claims and outcomes of those
it has always find room."""

RETRY_PAUSE_S: Final = 0.05
"""Between two tries at a register that is undecided or cannot be reached."""

EJECTED_S: Final = 1.0
"""A shard that did not answer is passed over by new creates for this long."""

COPY_LAG_MAX_S: Final = 300.0
"""A host whose copy was last complete longer ago than this takes no create with a key: its message
may be finished and trimmed, and only the copy would know it."""

KEY_WINDOW_S: Final = 24 * 3600.0
"""A key names its resource for at least this long; afterwards for as long as the record is kept."""

RETAIN_MIN_S: Final = 2 * KEY_WINDOW_S
"""Nothing younger is trimmed, whoever is done with it: twice the key window, so that no repeat of a
key inside its window rests on the copy alone."""

MARKER_EVERY_S: Final = 300.0
"""Each shard gets a marker this often; trimming is exact to one of them. They cost a flush for each
shard, and less than 100 bytes."""

MARKERS_KEPT_MAX: Final = 4_096
"""Known markers of one shard: two weeks. Beyond it the older ones are thinned out, which only makes
trimming coarser."""
