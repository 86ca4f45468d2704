"""How much of our work may stand before one receiver, so that a bad one stops nobody else.

A receiver is what one account has at one host and port: accounts share platforms, and one's fault
must not be another's. One that answers well is given all it can take, and those who wait for it
wait. One whose last try failed is unwell: only a few pieces of work stay in hand for it, just enough
to notice when it is back; the rest goes back to where it came from. And when half of many tries
fail, a breaker spares it all of them but one, term after term.

No account, however many receivers it has, takes the room of all others (`webhooks/fair`), and all that
are unwell together take at most half of it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from trunkline.domain.callback import receiver_of
from trunkline.kernel import Breaker, BreakerLimits, Clock, Open
from trunkline.webhooks.client import URL_INVALID, Answered, WebhookAnswer
from trunkline.webhooks.fair import FairRoom

IN_HAND_MAX: Final = 320
"""Pieces of work in hand at once, for all receivers together: an account alone has two thirds of them,
which leaves hands free even where a process serves one shard."""

UNWELL_TOGETHER_MAX: Final = IN_HAND_MAX // 2
"""Of these, for all that are unwell: each may hang for as long as a try may take."""

TRIES_PER_RECEIVER_MAX: Final = 32
WELL_IN_HAND_MAX: Final = 128
"""Half the hands of one shard: a receiver that is well but slow leaves the others their half."""

UNWELL_IN_HAND_MAX: Final = 8
SLOW_ANSWER_S: Final = 5.0
"""A receiver that takes longer than this for an answer is treated like one that fails."""

DOWN_S: Final = 30.0
"""Failing for so long without any success, it is down; before, it is only unsteady."""

BREAKER: Final = BreakerLimits(term_most_s=30.0)
"""As long as the longest wait between two tries: who is back is noticed no later than without."""

RECEIVERS_REMEMBERED_MAX: Final = 4096
"""Forgetting one costs its receiver twenty failed tries."""


class Receiver:
    """One receiver. `tries` bounds requests under way; `failures` are those since the last success."""

    __slots__ = (
        "_clock", "breaker", "down_since", "failures", "in_hand", "is_well", "last_error", "name",
        "recovered_at", "tries",
    )  # fmt: skip

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.breaker = Breaker(BREAKER)
        self.in_hand = 0
        self.is_well = True
        self.failures = 0
        self.down_since: float | None = None
        self.recovered_at = float("-inf")
        self.last_error = ""
        self.tries = asyncio.Semaphore(TRIES_PER_RECEIVER_MAX)
        self._clock = clock

    @property
    def is_crowded(self) -> bool:
        """Whether more is in hand for it than it may have."""
        return self.in_hand > (WELL_IN_HAND_MAX if self.is_well else UNWELL_IN_HAND_MAX)

    @property
    def is_down(self) -> bool:
        """Whether it has failed for a while, and answered nobody meanwhile."""
        since = self.down_since
        return since is not None and self._clock.monotonic() - since >= DOWN_S

    def note(self, *, is_success: bool, took_s: float, error: str = "") -> None:
        """A try ended."""
        self.is_well = is_success and took_s <= SLOW_ANSWER_S
        now = self._clock.monotonic()
        if is_success:
            if self.is_down:
                self.recovered_at = now
            self.failures, self.down_since = 0, None
        else:
            self.failures += 1
            self.last_error = error
            if self.down_since is None:
                self.down_since = now


class Receivers:
    """All receivers with work in hand, and the most recent ones without."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: OrderedDict[str, Receiver] = OrderedDict()
        self._room = FairRoom(IN_HAND_MAX)
        self._unwell = 0
        """In hand for those that were unwell when it was taken."""

    def named(self, name: str) -> Receiver | None:
        """By the name that `domain/callback` gives it; `None` if nothing is remembered of it."""
        return self._known.get(name)

    @contextmanager
    def hold(self, account: str, url: str) -> Iterator[Receiver | None]:
        """The receiver of `url`, counted as in hand for the block; `None` if there is no room: it is
        crowded, or its account has its share, or too many are unwell."""
        receiver = self._of(account, url)
        is_unwell = not receiver.is_well
        has_room = self._room.has_place(account) and not (
            is_unwell and self._unwell >= UNWELL_TOGETHER_MAX
        )
        receiver.in_hand += 1
        if not has_room or receiver.is_crowded:
            receiver.in_hand -= 1
            yield None
            return
        self._room.take(account)
        self._unwell += is_unwell
        try:
            yield receiver
        finally:
            receiver.in_hand -= 1
            self._unwell -= is_unwell
            self._room.give_back(account)

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
        breaker = self._of(account, url).breaker
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

    def _of(self, account: str, url: str) -> Receiver:
        name = receiver_of(account, url)
        receiver = self._known.get(name)
        if receiver is None:
            receiver = self._known[name] = Receiver(name, self._clock)
            self._forget_idle()
        self._known.move_to_end(name)
        return receiver

    def _forget_idle(self) -> None:
        """The one that was longest not used; the few with work in hand stay."""
        if len(self._known) <= RECEIVERS_REMEMBERED_MAX:
            return
        for name, receiver in self._known.items():
            if not receiver.in_hand:
                del self._known[name]
                return
