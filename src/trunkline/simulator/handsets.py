"""The handsets: what each number received, newest last, and how often the same thing came twice.

Only the newest messages are held in memory, over all handsets together; the file keeps them all.
The counts are of all messages, however few are held.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from trunkline.simulator.entries import Entry, Submitted

MESSAGES_KEPT_MAX: Final = 100_000
"""About 0.7 kB of memory each."""
BODIES_KEPT_MAX: Final = 1_000_000
"""A repeat is recognised among so many messages before it at least, and twice as many at most; about
70 bytes of memory each."""
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

    def __init__(
        self, *, messages_max: int = MESSAGES_KEPT_MAX, bodies_max: int = BODIES_KEPT_MAX
    ) -> None:
        self.delivered = 0
        self.duplicates_by_body = 0
        self.unflagged_duplicates_by_body = 0
        self._messages_max = messages_max
        self._bodies_max = bodies_max
        self._inboxes: dict[str, Kept[Submitted]] = {}
        self._order: deque[str] = deque()
        self._bodies: set[int] = set()
        self._older_bodies: set[int] = set()

    def deliver(self, message: Submitted) -> None:
        recipient = message.recipient
        inbox = self._inboxes.get(recipient)
        if inbox is None:
            inbox = self._inboxes[recipient] = Kept()
        inbox.append(message)
        self._order.append(recipient)
        if len(self._order) > self._messages_max:
            self._drop_oldest()
        self._count(message)

    def messages(self, number: str, *, after: int, limit: int) -> Sequence[Submitted]:
        inbox = self._inboxes.get(number)
        return inbox.after(after, limit) if inbox is not None else ()

    def numbers(self, limit: int) -> list[tuple[str, int]]:
        """Up to `limit` numbers with how many messages are kept for each, in order of number."""
        return [(number, len(self._inboxes[number])) for number in sorted(self._inboxes)[:limit]]

    def _count(self, message: Submitted) -> None:
        self.delivered += 1
        body = hash((message.recipient, message.body, message.media_urls))
        if body in self._bodies or body in self._older_bodies:
            self.duplicates_by_body += 1
            self.unflagged_duplicates_by_body += not message.possible_duplicate
            return
        self._bodies.add(body)
        if len(self._bodies) >= self._bodies_max:
            # Two generations, so that forgetting costs nothing for each.
            self._older_bodies, self._bodies = self._bodies, set()

    def _drop_oldest(self) -> None:
        number = self._order.popleft()
        inbox = self._inboxes[number]
        inbox.drop_oldest()
        if not inbox:
            del self._inboxes[number]
