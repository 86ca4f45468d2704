"""The handsets: what each number received, newest last, and how often the same thing came twice.

Only the newest messages are held in memory, over all handsets together; the file keeps them all.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from trunkline.simulator.entries import Delivered, Entry

MESSAGES_KEPT_MAX: Final = 1_000_000
"""About 0.6 kB of memory each."""
_COMPACT_AT: Final = 16

Line = TypeVar("Line", bound=Entry)


class Kept(Generic[Line]):
    """Entries in order of their `n`, dropped at the front, found by `n` in logarithmic time."""

    __slots__ = ("_first", "_lines")

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._first = 0

    def __len__(self) -> int:
        return len(self._lines) - self._first

    def append(self, line: Line) -> None:
        self._lines.append(line)

    def drop_oldest(self) -> Line:
        line = self._lines[self._first]
        self._first += 1
        if self._first >= _COMPACT_AT and self._first * 8 >= len(self._lines):
            del self._lines[: self._first]
            self._first = 0
        return line

    def after(self, n: int, limit: int) -> Sequence[Line]:
        """Up to `limit` entries behind `n`, oldest first."""
        start = bisect_right(self._lines, n, lo=self._first, key=lambda line: line.n)
        return self._lines[start : start + limit]


class Handsets:
    """All handsets that ever received something that is still kept."""

    def __init__(self, *, messages_max: int = MESSAGES_KEPT_MAX) -> None:
        self.delivered = 0
        self.duplicates_by_body = 0
        self.unflagged_duplicates_by_body = 0
        self._messages_max = messages_max
        self._inboxes: dict[str, Kept[Delivered]] = {}
        self._order: deque[str] = deque()
        self._bodies: dict[int, int] = {}

    def deliver(self, message: Delivered) -> None:
        inbox = self._inboxes.get(message.recipient)
        if inbox is None:
            inbox = self._inboxes[message.recipient] = Kept()
        inbox.append(message)
        self._order.append(message.recipient)
        self._count(message)
        if len(self._order) > self._messages_max:
            self._drop_oldest()

    def messages(self, number: str, *, after: int, limit: int) -> Sequence[Delivered]:
        inbox = self._inboxes.get(number)
        return inbox.after(after, limit) if inbox is not None else ()

    def numbers(self, limit: int) -> list[tuple[str, int]]:
        """Up to `limit` numbers with how many messages are kept for each, in order of number."""
        return [(number, len(self._inboxes[number])) for number in sorted(self._inboxes)[:limit]]

    def _count(self, message: Delivered) -> None:
        self.delivered += 1
        body = _body_key(message)
        seen = self._bodies.get(body, 0)
        self._bodies[body] = seen + 1
        if seen:
            self.duplicates_by_body += 1
            self.unflagged_duplicates_by_body += not message.possible_duplicate

    def _drop_oldest(self) -> None:
        number = self._order.popleft()
        inbox = self._inboxes[number]
        body = _body_key(inbox.drop_oldest())
        if not inbox:
            del self._inboxes[number]
        if self._bodies[body] == 1:
            del self._bodies[body]
        else:
            self._bodies[body] -= 1


def _body_key(message: Delivered) -> int:
    return hash((message.recipient, message.body, message.media_urls))
