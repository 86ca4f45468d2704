"""Names for registers whose order begins with the shard that it is convenient to write to now.

A keyless resource may stand anywhere, so this host lets those of the same moment meet: for a fifth of
a second all of them prefer one shard, and then the next one. What follows them (claims, outcomes,
receipts, deliveries, the engine's own book-keeping) meets there, too, and is done many at a time,
instead of a little in each of twelve shards. Over a few seconds every shard gets its part.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from trunkline.domain.ports import Entropy
from trunkline.kernel import Clock
from trunkline.log.shards import home

SHARED_DIGITS: Final = 20
"""Of a SID's 32: 80 bits of entropy name the register, and 48 tell those in it apart."""

STAY_S: Final = 0.2
"""How long one shard is preferred: some tens of flushes under load."""

KEPT_MAX: Final = 64
"""Names of one shard that were drawn for another and are kept for its turn."""


class Names:
    """Draws names. `is_passable` says of a shard whether new resources may go there now, and
    `is_near` whether this host would rather have them there: where its own engine leads, nothing
    crosses the network twice, and what follows is this host's own work."""

    def __init__(
        self,
        shards: int,
        *,
        entropy: Entropy,
        clock: Clock,
        is_passable: Callable[[int], bool],
        is_near: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self._shards = shards
        self._entropy = entropy
        self._clock = clock
        self._is_passable = is_passable
        self._is_near = is_near
        self._kept: list[deque[str]] = [deque() for _ in range(shards)]
        # So that hosts that started together are not always at the same shard.
        self._offset = int.from_bytes(entropy(8), "big") % shards

    def next(self) -> str:
        """A name that nobody was given before."""
        wanted = self._shard()
        kept = self._kept[wanted]
        while not kept:
            name = self._entropy(SHARED_DIGITS // 2).hex()
            shard = home(name, self._shards)
            if shard == wanted:
                return name
            if len(self._kept[shard]) < KEPT_MAX:
                self._kept[shard].append(name)
        return kept.popleft()

    def _shard(self) -> int:
        """The one whose turn it is, or the next one that can be written to; a near one before all."""
        turn = int(self._clock.monotonic() / STAY_S) + self._offset
        far: int | None = None
        for step in range(self._shards):
            shard = (turn + step) % self._shards
            if not self._is_passable(shard):
                continue
            if self._is_near(shard):
                return shard
            far = shard if far is None else far
        return turn % self._shards if far is None else far
