"""Second looks: at messages whose last step nobody is sure of, by the process that took that step.

The engine delivers such a message again, but in a cluster perhaps to another host; and that one leaves
alone what a live process has claimed. So whoever may have claimed it looks again itself, as if it had
been delivered here once more, until it is sure.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from msgspec.structs import replace

from trunkline.kernel import Clock, Deadline
from trunkline.log.interface import Stored
from trunkline.log.limits import WORK_MAX_S
from trunkline.messaging.work import Work

LOOKS_AT_ONCE_MAX: Final = 2
"""Of one shard: while it does not answer, each look holds a place of the window for a second."""

AGAIN_MAX_S: Final = 30.0
"""Between two looks at the same message, which are ever further apart."""

STEP_S: Final = 1.0
"""The longest wait of a process that is being drained, and so how soon it notices that it is."""

log: Final = structlog.get_logger(__name__)


class SecondLooks:
    """`look` handles a message as if it had just come. Without `tasks`, nobody looks: then what is
    not sure waits for its next delivery. Once `is_over`, others mark what this process has claimed."""

    def __init__(
        self, look: Callable[[Work], Awaitable[None]], is_over: Callable[[], bool], clock: Clock
    ) -> None:
        self.tasks: asyncio.TaskGroup | None = None
        self._look = look
        self._is_over = is_over
        self._is_hurried = False
        self._clock = clock
        self._wanted: dict[str, bool] = {}
        """By SID, for as long as somebody looks: whether it is to be looked at once more."""
        self._free: dict[int, asyncio.Semaphore] = {}

    def want(self, work: Work, after_s: float) -> None:
        """Have it looked at after `after_s`; once, however often it is asked for."""
        sid = work.event.sid
        if sid in self._wanted:
            self._wanted[sid] = True
        elif self.tasks is not None:
            self._wanted[sid] = True
            self.tasks.create_task(self._look_until_sure(work, after_s))

    def hurry(self) -> None:
        """From now on no wait is longer than a step: the process is to end."""
        self._is_hurried = True

    async def _look_until_sure(self, work: Work, after_s: float) -> None:
        sid, stored = work.event.sid, work.delivery.stored
        free = self._free.setdefault(stored.shard, asyncio.Semaphore(LOOKS_AT_ONCE_MAX))
        try:
            while self._wanted[sid]:
                await self._wait(after_s)
                after_s = min(AGAIN_MAX_S, after_s * 2.0)
                async with free:
                    if self._is_over():
                        return
                    self._wanted[sid] = False
                    deadline = Deadline.after(WORK_MAX_S, self._clock)
                    await self._look(replace(work, delivery=_Answered(stored), deadline=deadline))
        except Exception:
            # One message that breaks us must not stop the others; the engine delivers it again.
            log.exception("dispatch.failed", subject=stored.subject)
        finally:
            del self._wanted[sid]

    async def _wait(self, after_s: float) -> None:
        while after_s > 0.0:
            step_s = min(after_s, STEP_S)
            await self._clock.sleep(step_s)
            after_s = 0.0 if self._is_hurried else after_s - step_s


class _Answered:
    """A delivery that the engine has its answer to. Implements `Delivery`."""

    __slots__ = ("stored",)

    def __init__(self, stored: Stored) -> None:
        self.stored = stored

    async def ack(self) -> None:
        """It has been put back, and its next delivery finds that it is done."""

    async def nak(self, delay_s: float) -> None:
        """It has been put back."""
