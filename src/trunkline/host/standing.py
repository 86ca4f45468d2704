"""Whether this host may act: a majority has heard what it said not long ago, without a gap, ever
since this incarnation began.

The time is that of the sending, by this host's own clock, which counts suspension: an echo that
comes late proves nothing about now. An incarnation that lapsed stays lapsed, because others may have
taken over from it; the host goes on under another. The argument is in docs/design/membership.md.
"""

from collections import deque
from collections.abc import Collection
from typing import Final

MUTE_S: Final = 2.0
"""A host whose newest heartbeat that a majority echoed was sent longer ago may not act. Work changes
hands long before: this only has to come before others call its attempts dead, and a busy machine
that is late by a second must not lose them."""

SENT_REMEMBERED_MAX: Final = 64
"""Heartbeats; an echo of an older one could not be new enough to count."""


def majority_of(hosts: Collection[str]) -> int:
    """How many of them are more than half."""
    return len(hosts) // 2 + 1


class Standing:
    """One incarnation's. `hosts` are all members of the cluster, `own` among them."""

    def __init__(self, hosts: Collection[str], own: str) -> None:
        self._others: Final = frozenset(hosts) - {own}
        self._wanted = majority_of(hosts) - 1
        self._sent: deque[tuple[int, float]] = deque(maxlen=SENT_REMEMBERED_MAX)
        self._echoed_at: dict[str, float] = {}
        self._proven_at: float | None = None
        self._has_lapsed = False

    def sending(self, number: int, *, now: float) -> None:
        """Called right before heartbeat `number` leaves."""
        self._sent.append((number, now))

    def echoed(self, host: str, number: int, *, now: float) -> None:
        """`host` says that it has heard heartbeat `number` of this incarnation."""
        sent_at = self.sent_at(number)
        if host not in self._others or sent_at is None:
            return
        # First the gap, and then what ends it: a gap that nobody looked at is one all the same.
        self._look(now)
        self._echoed_at[host] = max(sent_at, self._echoed_at.get(host, sent_at))
        newest = sorted(self._echoed_at.values(), reverse=True)
        if len(newest) >= self._wanted:
            self._proven_at = newest[self._wanted - 1]

    def sent_at(self, number: int) -> float | None:
        """When heartbeat `number` left, while that is remembered."""
        for known, at in self._sent:
            if known == number:
                return at
        return None

    def may_act(self, *, now: float) -> bool:
        """Whether a majority has heard this incarnation, now and ever since it first did."""
        self._look(now)
        return self._proven_at is not None and not self._has_lapsed

    def has_lapsed(self, *, now: float) -> bool:
        """Whether it could act once, and never can again."""
        self._look(now)
        return self._has_lapsed

    def until(self) -> float:
        """When it lapses if nothing is heard from now on; infinite before it could act."""
        return float("inf") if self._proven_at is None else self._proven_at + MUTE_S

    def _look(self, now: float) -> None:
        if self._proven_at is not None and now - self._proven_at >= MUTE_S:
            self._has_lapsed = True
