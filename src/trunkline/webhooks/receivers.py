"""How much of our work may stand before one receiver, so that a bad one stops nobody else.

A receiver is a host and port. One that answers well is given all it can take, and those who wait
for it wait. One whose last try failed is unwell: only a few pieces of work stay in hand for it,
just enough to notice when it is back; the rest goes back to where it came from.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

TRIES_PER_RECEIVER_MAX: Final = 32
WELL_IN_HAND_MAX: Final = 128
"""Half the hands of one shard: a receiver that is well but slow leaves the others their half."""

UNWELL_IN_HAND_MAX: Final = 8
SLOW_ANSWER_S: Final = 5.0
"""A receiver that takes longer than this for an answer is treated like one that fails."""


class Receiver:
    """One host and port while there is work in hand for it. `tries` bounds requests under way."""

    __slots__ = ("in_hand", "is_well", "tries")

    def __init__(self) -> None:
        self.in_hand = 0
        self.is_well = True
        self.tries = asyncio.Semaphore(TRIES_PER_RECEIVER_MAX)

    @property
    def is_crowded(self) -> bool:
        """Whether more is in hand for it than it may have."""
        return self.in_hand > (WELL_IN_HAND_MAX if self.is_well else UNWELL_IN_HAND_MAX)

    def note(self, *, is_success: bool, took_s: float) -> None:
        """A try ended."""
        self.is_well = is_success and took_s <= SLOW_ANSWER_S


class Receivers:
    """All receivers with work in hand; bounded by the work in hand."""

    def __init__(self) -> None:
        self._known: dict[str, Receiver] = {}

    @contextmanager
    def hold(self, url: str) -> Iterator[Receiver | None]:
        """The receiver of `url`, counted as in hand for the block; `None` if it is crowded."""
        name = _name(url)
        receiver = self._known.setdefault(name, Receiver())
        receiver.in_hand += 1
        try:
            yield None if receiver.is_crowded else receiver
        finally:
            receiver.in_hand -= 1
            if not receiver.in_hand:
                self._known.pop(name, None)


def _name(url: str) -> str:
    """Host and port; what cannot be read is a receiver of its own, whose requests all fail."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port}"
    except ValueError:
        return url
