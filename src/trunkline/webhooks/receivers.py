"""How much of our work may stand before one receiver, so that a bad one stops nobody else.

A receiver is what one account has at one host and port: accounts share platforms, and one's fault
must not be another's. One that answers well is given all it can take, and those who wait for it
wait. One whose last try failed is unwell: only a few pieces of work stay in hand for it, just enough
to notice when it is back; the rest goes back to where it came from. And when half of many tries
fail, a breaker spares it all of them but one, term after term.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from trunkline.kernel import Breaker, BreakerLimits, Clock, Open
from trunkline.webhooks.client import URL_INVALID, Answered, WebhookAnswer

TRIES_PER_RECEIVER_MAX: Final = 32
WELL_IN_HAND_MAX: Final = 128
"""Half the hands of one shard: a receiver that is well but slow leaves the others their half."""

UNWELL_IN_HAND_MAX: Final = 8
SLOW_ANSWER_S: Final = 5.0
"""A receiver that takes longer than this for an answer is treated like one that fails."""

BREAKER: Final = BreakerLimits(term_most_s=30.0)
"""As long as the longest wait between two tries: who is back is noticed no later than without."""

BREAKERS_REMEMBERED_MAX: Final = 4096
"""Forgetting one costs its receiver twenty failed tries."""


class Receiver:
    """One receiver while there is work in hand for it. `tries` bounds requests under way."""

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
    """All receivers with work in hand, bounded by it; and the breakers of the most recent ones."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], Receiver] = {}
        self._breakers: OrderedDict[tuple[str, str], Breaker] = OrderedDict()

    @contextmanager
    def hold(self, account: str, url: str) -> Iterator[Receiver | None]:
        """The receiver of `url`, counted as in hand for the block; `None` if it is crowded."""
        name = (account, _name(url))
        receiver = self._known.setdefault(name, Receiver())
        receiver.in_hand += 1
        try:
            yield None if receiver.is_crowded else receiver
        finally:
            receiver.in_hand -= 1
            if not receiver.in_hand:
                self._known.pop(name, None)

    async def ask(
        self,
        act: Callable[[], Awaitable[WebhookAnswer]],
        *,
        account: str,
        url: str,
        is_only_chance: bool = False,
    ) -> WebhookAnswer | Open:
        """What `act` answers; `Open` without asking while the account's receiver is spared.

        With `is_only_chance` it is asked in any case, and the breaker learns what came of it.
        """
        breaker = self._breaker(account, url)
        began = self._clock.monotonic()
        refusal = breaker.ask(began)
        if refusal is not None and not is_only_chance:
            return refusal
        has_ended = False
        try:
            answer = await act()
            has_ended = True
        finally:
            if not has_ended:
                breaker.abandon(began=began)
        now = self._clock.monotonic()
        if isinstance(answer, Answered):
            is_working = answer.status != 429 and answer.status < 500
            (breaker.succeed if is_working else breaker.fail)(began=began, now=now)
        elif answer.error_code == URL_INVALID:
            breaker.abandon(began=began)  # nobody was asked
        else:
            breaker.fail(began=began, now=now)
        return answer

    def _breaker(self, account: str, url: str) -> Breaker:
        name = (account, _name(url))
        breaker = self._breakers.setdefault(name, Breaker(BREAKER))
        self._breakers.move_to_end(name)
        if len(self._breakers) > BREAKERS_REMEMBERED_MAX:
            self._breakers.popitem(last=False)
        return breaker


def _name(url: str) -> str:
    """Host and port; what cannot be read is a receiver of its own, whose requests all fail."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port}"
    except ValueError:
        return url
