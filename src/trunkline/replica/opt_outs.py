"""Who has opted out, remembered: nearly every message asks, and nearly none finds a new answer.

What was read is kept until the projector says that it writes a stop, a start or whose a number is
(`replica/progress`): each counts from the moment the copy shows it, as if nothing were remembered. While
one is being written, and of a number with many, the copy is asked each time.
"""

from collections.abc import Callable
from typing import Final

from trunkline.domain.optout import Keyword
from trunkline.kernel import Clock
from trunkline.replica.progress import Progress

WORDS_REMEMBERED_MAX: Final = 64
"""Of one number. Reading so many takes about as long as asking twice for one handset."""
NUMBERS_REMEMBERED_MAX: Final = 4096
"""About 6 KiB each at most; beyond them everything is read again."""
REMEMBERED_MAX_S: Final = 1.0
"""A copy that cannot be read any more is noticed after so long."""

Read = Callable[[str, str, int], list[tuple[str, str]]]
"""At most so many (last) words to an account's number, also from when it was another's that gave it on:
handset and word, of each handset the newest last."""


class OptOuts:
    """The handsets that have asked a number to stop, by account and number."""

    __slots__ = ("_clock", "_known", "_progress", "_read", "_since", "_version")

    def __init__(self, read: Read, progress: Progress, clock: Clock) -> None:
        self._read = read
        self._progress = progress
        self._clock = clock
        self._known: dict[tuple[str, str], frozenset[str] | None] = {}
        self._version = -1
        self._since = 0.0

    def has(self, account: str, phone_number: str, handset: str) -> bool | None:
        """Whether it has; `None` where the copy must be asked. Raises what reading raises."""
        # The version is looked at before the reading: what is read may be newer than it, not older.
        version = self._progress.keywords()
        if version is None:
            return None
        now = self._clock.monotonic()
        if version != self._version or now - self._since >= REMEMBERED_MAX_S:
            self._known.clear()
            self._version, self._since = version, now
        pair = (account, phone_number)
        try:
            stopped = self._known[pair]
        except KeyError:
            stopped = self._stopped(account, phone_number)
            if len(self._known) >= NUMBERS_REMEMBERED_MAX:
                self._known.clear()
            self._known[pair] = stopped
        return None if stopped is None else handset in stopped

    def _stopped(self, account: str, phone_number: str) -> frozenset[str] | None:
        words = self._read(account, phone_number, WORDS_REMEMBERED_MAX + 1)
        if len(words) > WORDS_REMEMBERED_MAX:
            return None
        last = dict(words)
        return frozenset(handset for handset, word in last.items() if word == Keyword.STOP)
