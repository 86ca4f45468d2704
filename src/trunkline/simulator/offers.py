"""What waits to be taken by a host: receipts and handsets' messages, offered until acknowledged.

An item is due at a moment, then ready, then offered to one bind for a while, then ready again for
whoever asks. Time is an argument; nothing here waits.
"""

import heapq
from collections import deque
from typing import Final

from trunkline.protocols.simulated import Item

REOFFER_S: Final = 3.0
"""An item offered and not acknowledged for this long is offered again."""
ITEMS_PENDING_MAX: Final = 1_000_000
"""Kept in memory; beyond it the oldest is dropped and counted. The file keeps them all."""


class Offers:
    """The items not yet acknowledged."""

    def __init__(self, *, reoffer_s: float, items_max: int = ITEMS_PENDING_MAX) -> None:
        self.dropped = 0
        self._reoffer_s = reoffer_s
        self._items_max = items_max
        self._items: dict[str, Item] = {}
        self._due: list[tuple[float, int, str]] = []
        self._ready: deque[str] = deque()
        self._offered: deque[tuple[float, str]] = deque()
        self._owed = 0

    def __len__(self) -> int:
        return len(self._items)

    def owe(self, item: Item, *, due: float, now: float) -> None:
        """Offer `item` from `due` on."""
        self._items[item.item_id] = item
        if due <= now:
            self._ready.append(item.item_id)
        else:
            self._owed += 1
            heapq.heappush(self._due, (due, self._owed, item.item_id))
        if len(self._items) > self._items_max:
            del self._items[next(iter(self._items))]
            self.dropped += 1

    def offer(self, items_max: int, *, now: float) -> list[Item]:
        """Up to `items_max` items that nobody holds at the moment; they are held from now on."""
        self._make_ready(now)
        taken: list[Item] = []
        while self._ready and len(taken) < items_max:
            item_id = self._ready.popleft()
            item = self._items.get(item_id)
            if item is not None:
                taken.append(item)
                self._offered.append((now + self._reoffer_s, item_id))
        return taken

    def acknowledge(self, item_id: str) -> Item | None:
        """Forget the item. `None` when it is not (or no longer) waiting."""
        return self._items.pop(item_id, None)

    def has_ready(self, *, now: float) -> bool:
        """Whether `offer` would give something."""
        self._make_ready(now)
        while self._ready and self._ready[0] not in self._items:
            self._ready.popleft()
        return bool(self._ready)

    def next_deadline(self) -> float | None:
        """When the next item becomes ready by itself."""
        while self._offered and self._offered[0][1] not in self._items:
            self._offered.popleft()
        while self._due and self._due[0][2] not in self._items:
            heapq.heappop(self._due)
        moments = [queue[0][0] for queue in (self._offered, self._due) if queue]
        return min(moments, default=None)

    def _make_ready(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            self._ready.append(heapq.heappop(self._due)[2])
        while self._offered and self._offered[0][0] <= now:
            self._ready.append(self._offered.popleft()[1])
