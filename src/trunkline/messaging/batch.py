"""The first attempts at several messages of one shard, made side by side without a task for each.
They may stand in several registers.

It takes the road that nearly every message takes: claimed, handed over, accepted, written down. Each
step of it is a callback, and those that come at once go on together. Whatever turns off that road is
left to a task of its own, which does as `Attempts` does with a single message.
"""

import asyncio
import functools
import itertools
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from trunkline.domain.events import HandedOver, Type
from trunkline.log.chain import Advanced
from trunkline.log.ledger import Entry, LedgerAnswer
from trunkline.messaging import carrier
from trunkline.messaging.attempt import POISON_RETRY_S, Attempts
from trunkline.messaging.work import FIRST, Turn, Work

log: Final = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _One:
    """One message of the batch, and where it is."""

    work: Work
    nonce: str
    turn: Turn = FIRST
    entry: Entry | None = None
    is_settled: bool = False
    is_done: bool = False


class Batch:
    """`on_done` is called once for each message, when its place in the window is free again."""

    def __init__(
        self,
        attempts: Attempts,
        works: Sequence[Work],
        *,
        tasks: asyncio.TaskGroup,
        on_done: Callable[[], None],
    ) -> None:
        self._attempts = attempts
        self._ones = [_One(work, attempts.new_nonce()) for work in works]
        self._tasks = tasks
        self._on_done = on_done
        self._left = len(works)
        self._claimed: list[_One] = []
        self._is_over = False
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Until each of them has come to an end, or was let go of."""
        try:
            for one in self._ones:
                tell = functools.partial(self._on_claim, one)
                one.entry = self._attempts.want_claim(one.work, one.nonce, tell)
            await self._finished
        finally:
            self._is_over = True
            for one in self._ones:
                if one.entry is not None:
                    self._attempts.withdraw(one.work, one.entry)
                self._done(one)
        for one in self._ones:
            if one.is_settled:
                await one.work.delivery.ack()

    def _on_claim(self, one: _One, type_: Type, answer: LedgerAnswer) -> None:
        one.entry = None
        if type_ is not Type.CLAIM or not isinstance(answer, Advanced):
            self._leave(one, self._attempts.after_claim(one.work, one.nonce, type_, answer))
            return
        one.turn = self._attempts.claimed_at(answer.sequence)
        self._claimed.append(one)
        if len(self._claimed) == 1:
            # Those whose claims stand in the same write are told so in this turn of the loop.
            asyncio.get_running_loop().call_soon(self._hand_over)

    def _hand_over(self) -> None:
        ready, self._claimed = self._claimed, []
        if self._is_over:
            return
        if not self._attempts.may_act():
            for one in ready:
                self._done(one)  # whoever gets it next marks its claim ambiguous
            return
        timely: list[_One] = []
        for one in ready:
            if one.work.deadline.has_passed():
                self._leave(one, self._attempts.return_overdue(one.work, one.turn))
            else:
                timely.append(one)
        for _, register in itertools.groupby(timely, lambda one: one.work.delivery.stored.sequence):
            self._hand_over_register(tuple(register))

    def _hand_over_register(self, ready: Sequence[_One]) -> None:
        """The carrier gathers what it gets in one turn of the loop, so this costs no wire."""
        try:
            self._attempts.hand_over_many(
                [(one.work, one.turn) for one in ready],
                lambda number, outcome: self._on_outcome(ready[number], outcome),
            )
        except Exception:
            # A carrier that raises has a bug, and may have sent any of them; those of the other
            # registers go on.
            log.exception("dispatch.failed", subject=ready[0].work.delivery.stored.subject)
            for one in ready:
                self._leave(one, one.work.delivery.nak(POISON_RETRY_S))

    def _on_outcome(self, one: _One, outcome: carrier.Outcome) -> None:
        if self._is_over:
            return
        self._attempts.outcome_came()
        if not isinstance(outcome, carrier.Accepted):
            self._leave(one, self._attempts.take_outcome(one.work, one.turn, outcome))
            return
        tell = functools.partial(self._on_written, one)
        try:
            one.entry = self._attempts.want_outcome(one.work, one.turn, outcome, tell)
        except Exception:
            # An answer that cannot be written down stops one message, and not the link.
            log.exception("dispatch.failed", subject=one.work.delivery.stored.subject)
            self._leave(one, one.work.delivery.nak(POISON_RETRY_S))

    def _on_written(self, one: _One, body: HandedOver, answer: LedgerAnswer) -> None:
        one.entry = None
        if isinstance(answer, Advanced):
            self._attempts.outcome_stands()
            one.is_settled = True
            self._done(one)
        else:
            rest = self._attempts.finished(one.work, Type.OUTCOME, body, answer, is_answer=True)
            self._leave(one, rest)

    def _leave(self, one: _One, rest: Coroutine[Any, Any, None]) -> None:
        """Off the common road: the rest is a task's."""
        if self._is_over:
            rest.close()
        else:
            self._tasks.create_task(self._bring_to_an_end(one, rest))

    async def _bring_to_an_end(self, one: _One, rest: Coroutine[Any, Any, None]) -> None:
        try:
            await rest
        except Exception:
            # One poisonous message must not stop the others; it stays un-acked and visible.
            log.exception("dispatch.failed", subject=one.work.delivery.stored.subject)
            await one.work.delivery.nak(POISON_RETRY_S)
        finally:
            self._done(one)

    def _done(self, one: _One) -> None:
        if one.is_done:
            return
        one.is_done = True
        self._attempts.forget(one.nonce)
        self._on_done()
        self._left -= 1
        if not self._left and not self._finished.done():
            self._finished.set_result(None)
