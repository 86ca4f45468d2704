"""How long one publish is worth waiting for, by how long publishes take.

Only new resources are given up so soon, as they go to another shard. All that belongs to a resource
waits for its shard as long as it may: a bound that is too low must not keep it from being written.
"""

from typing import Final

from trunkline.kernel import CENSORED_FACTOR, RecentLatencies, try_timeout_s
from trunkline.log.limits import TRY_TIMEOUT_S

REFRESH_EVERY: Final = 64
"""The bound moves this slowly, in publishes."""


class TryTimes:
    """Of the publishes to all shards.

    A publish that was not answered counts as half as long again as it was waited for, or the bound
    could shrink and never grow. But a shard that is away counts once, until it answers again: it
    must not slow down the way round it.
    """

    def __init__(self, shards: int) -> None:
        self.timeout_s = TRY_TIMEOUT_S
        """Three times what nearly all answers take, at most `TRY_TIMEOUT_S`."""
        self._recent = RecentLatencies()
        self._is_silent = [False] * shards
        self._since = 0

    def record(self, shard: int, took_s: float, *, is_answered: bool) -> None:
        if is_answered:
            self._recent.record(took_s)
        elif self._is_silent[shard]:
            return
        else:
            self._recent.record(CENSORED_FACTOR * took_s)
        self._is_silent[shard] = not is_answered
        self._since += 1
        if self._since >= REFRESH_EVERY:
            self._since = 0
            self.timeout_s = try_timeout_s(self._recent, TRY_TIMEOUT_S)
