"""Second looks: at messages whose last step nobody is sure of, by the process that took that step.

The engine delivers such a message again, but in a cluster perhaps to another host; and that one leaves
alone what a live process has claimed. So whoever may have claimed it looks again itself, as if it had
been delivered here once more, until it is sure.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import structlog

from trunkline.kernel import Clock, Deadline
from trunkline.log.interface import Stored
from trunkline.log.limits import WORK_MAX_S
from trunkline.messaging.work import Work

log: Final = structlog.get_logger(__name__)


class SecondLooks:
    """`look` handles a message as if it had just come. Without `tasks`, nobody looks: then what is
    not sure waits for its next delivery."""

    def __init__(
        self, look: Callable[[Work], Awaitable[None]], is_ending: Callable[[], bool], clock: Clock
    ) -> None:
        self.tasks: asyncio.TaskGroup | None = None
        self._look = look
        self._is_ending = is_ending
        self._clock = clock
        self._waiting: set[str] = set()

    def want(self, work: Work, after_s: float) -> None:
        """Have it looked at after `after_s`; once, however often it is asked for."""
        if self.tasks is not None and work.event.sid not in self._waiting:
            self._waiting.add(work.event.sid)
            self.tasks.create_task(self._wait_and_look(work, after_s))

    async def _wait_and_look(self, work: Work, after_s: float) -> None:
        await self._clock.sleep(after_s)
        self._waiting.discard(work.event.sid)
        if self._is_ending():
            return  # its lease ends too, and others mark what it had claimed
        deadline = Deadline.after(WORK_MAX_S, self._clock)
        answered = _Answered(work.delivery.stored)
        try:
            await self._look(replace(work, delivery=answered, deadline=deadline))
        except Exception:
            # One message that breaks us must not stop the others; the engine delivers it again.
            log.exception("dispatch.failed", subject=work.delivery.stored.subject)


class _Answered:
    """A delivery that the engine has its answer to. Implements `Delivery`."""

    __slots__ = ("stored",)

    def __init__(self, stored: Stored) -> None:
        self.stored = stored

    async def ack(self) -> None:
        """It has been put back, and its next delivery finds that it is done."""

    async def nak(self, delay_s: float) -> None:
        """It has been put back."""
