"""What waits to be taken by a host: receipts and handsets' messages, offered until acknowledged.

An item is due at a moment, then ready, then offered to one bind for a while, then ready again for
whoever asks. What is due or was offered at the same moment waits together. Time is an argument;
nothing here waits.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final

from trunkline.protocols.simulated import Item

REOFFER_S: Final = 3.0
"""An item offered and not acknowledged for this long is offered again."""
ITEMS_PENDING_MAX: Final = 1_000_000
"""Kept in memory, about 0.4 kB each; beyond it the oldest is dropped and counted. The file keeps
them all."""


class Offers:
    """The items not yet acknowledged."""

    def __init__(self, *, reoffer_s: float, items_max: int = ITEMS_PENDING_MAX) -> None:
        self.dropped = 0
        self._reoffer_s = reoffer_s
        self._items_max = items_max
        # Ordered, because a plain dict takes ever longer to find the first of those that are left.
        self._items: OrderedDict[str, Item] = OrderedDict()
        self._due: dict[float, list[str]] = {}
        self._due_moments: list[float] = []
        self._ready: deque[str] = deque()
        self._offered: deque[tuple[float, Sequence[str]]] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def owe(self, item: Item, *, due: float, now: float) -> None:
        """Offer `item` from `due` on."""
        items, item_id = self._items, item.item_id
        items[item_id] = item
        if due <= now:
            self._ready.append(item_id)
        elif (together := self._due.get(due)) is not None:
            together.append(item_id)
        else:
            self._due[due] = [item_id]
            heapq.heappush(self._due_moments, due)
        if len(items) > self._items_max:
            items.popitem(last=False)
            self.dropped += 1

    def offer(self, items_max: int, *, now: float) -> list[Item]:
        """Up to `items_max` items that nobody holds at the moment; they are held from now on."""
        self._make_ready(now)
        items, ready = self._items, self._ready
        taken: list[Item] = []
        while ready and len(taken) < items_max:
            item = items.get(ready.popleft())
            if item is not None:
                taken.append(item)
        if taken:
            self._offered.append((now + self._reoffer_s, [item.item_id for item in taken]))
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
        while self._offered and not self._is_any_waiting(self._offered[0][1]):
            self._offered.popleft()
        while self._due_moments and not self._is_any_waiting(self._due[self._due_moments[0]]):
            del self._due[heapq.heappop(self._due_moments)]
        moments = [self._offered[0][0]] if self._offered else []
        moments += self._due_moments[:1]
        return min(moments, default=None)

    def _is_any_waiting(self, item_ids: Sequence[str]) -> bool:
        items = self._items
        return any(item_id in items for item_id in item_ids)

    def _make_ready(self, now: float) -> None:
        while self._due_moments and self._due_moments[0] <= now:
            self._ready.extend(self._due.pop(heapq.heappop(self._due_moments)))
        while self._offered and self._offered[0][0] <= now:
            self._ready.extend(self._offered.popleft()[1])
