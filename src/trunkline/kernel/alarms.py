"""Many alarms on one timer of the event loop: what bounds a try without costing a timer a try.

Nearly every alarm is cleared before its moment. So the loop's timer is left where it is: it may
ring for nobody, and is then set anew for the next alarm that is left. That happens about once in the
length of a bound, and not once a call. Alarms ring on whole milliseconds, at most one late, and
however many are pending only those that are due are looked at.
"""

import asyncio
import heapq
import math
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

TICKS_PER_S: Final = 1000


class Alarm:
    """One moment of the loop's clock, and what happens then unless it is cleared before."""

    __slots__ = ("ring", "tick")

    def __init__(self, tick: int, ring: Callable[[], None]) -> None:
        self.tick = tick
        self.ring = ring


class Alarms:
    """The alarms of whoever owns this, for one event loop at a time."""

    __slots__ = ("_loop", "_pending", "_ticks", "_timer", "_timer_tick")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        # By tick, and in it in the order they were set, so that each run rings in the same order.
        self._pending: dict[int, dict[Alarm, None]] = {}
        self._ticks: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_tick: float = math.inf

    def set(self, delay_s: float, ring: Callable[[], None]) -> Alarm:
        """Call `ring` in `delay_s` seconds, once. It must not raise."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin(loop)
        tick = math.ceil((loop.time() + delay_s) * TICKS_PER_S)
        alarm = Alarm(tick, ring)
        together = self._pending.get(tick)
        if together is None:
            together = self._pending[tick] = {}
            heapq.heappush(self._ticks, tick)
            if tick < self._timer_tick:
                self._set_timer(loop, tick)
        together[alarm] = None
        return alarm

    def clear(self, alarm: Alarm) -> None:
        """It will not ring. Harmless if it has."""
        together = self._pending.get(alarm.tick)
        if together is not None:
            together.pop(alarm, None)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        # Timers of a loop that has ended never ring, and neither must its alarms.
        self._loop, self._timer, self._timer_tick = loop, None, math.inf
        self._pending.clear()
        self._ticks.clear()

    def _set_timer(self, loop: asyncio.AbstractEventLoop, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_tick = tick
        self._timer = loop.call_at(tick / TICKS_PER_S, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        # The loop may call a hair early, by its clock's resolution.
        now = max(int(loop.time() * TICKS_PER_S), self._timer_tick)
        self._timer, self._timer_tick = None, math.inf
        due: list[Alarm] = []
        while self._ticks and (self._ticks[0] <= now or not self._pending[self._ticks[0]]):
            due.extend(self._pending.pop(heapq.heappop(self._ticks)))
        if self._ticks:
            self._set_timer(loop, self._ticks[0])
        for alarm in due:
            alarm.ring()


class Bound:
    """`with Bound(alarms, seconds):` is `async with asyncio.timeout(seconds):`, by an alarm.

    What runs inside is cancelled at the bound, or by `expire`, and then `TimeoutError` is raised.
    """

    __slots__ = ("_alarm", "_alarms", "_cancelling", "_seconds", "_task", "has_expired")

    def __init__(self, alarms: Alarms, seconds: float | None) -> None:
        self._alarms = alarms
        self._seconds = seconds
        self._alarm: Alarm | None = None
        self.has_expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a bound needs a task to cancel")
        self._task = task
        self._cancelling = task.cancelling()
        if self._seconds is not None:
            self._alarm = self._alarms.set(self._seconds, self.expire)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The alarm rings for us, and we know the alarm: that cycle would be left for the collector, one
        # for each bound there ever was.
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            self._alarms.clear(alarm)
        if not self.has_expired:
            return
        # As asyncio.Timeout does: our cancellation is taken back, and only if nobody else wants
        # the task to end does it become a timeout.
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """End it now. Only while it is entered; a second time does nothing."""
        if not self.has_expired:
            self.has_expired = True
            self._task.cancel()
