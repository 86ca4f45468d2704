"""A second try beside the first, when that has taken longer than nineteen in twenty do.

It is armed as an alarm: until that rings there is no task, and nineteen in twenty calls never pay
for one. Only acts that may be repeated may be hedged, because both tries may take effect.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from trunkline.kernel.alarms import Alarms, Bound
from trunkline.kernel.latency import RecentLatencies

HEDGE_PERCENTILE: Final = 0.95
"""Dean and Barroso, "The Tail at Scale": about 5 % more load, and the tail is gone."""
HEDGE_DELAY_LEAST_S: Final = 0.001
"""Under the resolution of timers a hedge would be a second request each time."""

Outcome = TypeVar("Outcome")


def hedge_delay_s(recent: RecentLatencies) -> float | None:
    """How long to wait for the first try alone; `None` while too little is known."""
    p95_s = recent.percentile_s(HEDGE_PERCENTILE)
    return None if p95_s is None else max(HEDGE_DELAY_LEAST_S, p95_s)


@dataclass(frozen=True, slots=True)
class Raced(Generic[Outcome]):
    """`is_overtaken`: the second try answered first, and the first was cancelled."""

    outcome: Outcome
    is_overtaken: bool


async def race(
    first: Callable[[], Awaitable[Outcome]],
    second: Callable[[], Awaitable[Outcome]],
    *,
    delay_s: float,
    may_start: Callable[[], bool],
    is_good: Callable[[Outcome], bool],
    alarms: Alarms,
) -> Raced[Outcome]:
    """The first good outcome of `first` and, if that takes longer than `delay_s`, of `second`.

    `may_start` is asked when the time for `second` has come. A bad outcome waits for the other try,
    if there is one under way. The loser is cancelled and has ended on return; what either raises is
    raised here.
    """
    return await _Race(second, may_start, is_good, alarms).run(first, delay_s)


class _Race(Generic[Outcome]):
    """One race. `first` runs in the caller's own task, `second` in a task that ends with it."""

    __slots__ = (
        "_alarms", "_error", "_hedge", "_hedge_outcomes", "_is_good", "_may_start", "_scope",
        "_second", "_tasks",
    )  # fmt: skip

    def __init__(
        self,
        second: Callable[[], Awaitable[Outcome]],
        may_start: Callable[[], bool],
        is_good: Callable[[Outcome], bool],
        alarms: Alarms,
    ) -> None:
        self._alarms = alarms
        self._second = second
        self._may_start = may_start
        self._is_good = is_good
        self._tasks = asyncio.TaskGroup()
        # Ends the first try when the second has won; `None` while no try runs under it.
        self._scope: Bound | None = None
        self._hedge: asyncio.Task[None] | None = None
        self._hedge_outcomes: list[Outcome] = []
        self._error: Exception | None = None

    async def run(self, first: Callable[[], Awaitable[Outcome]], delay_s: float) -> Raced[Outcome]:
        outcomes: list[Outcome] = []
        async with self._tasks:
            alarm = self._alarms.set(delay_s, self._start)
            try:
                with Bound(self._alarms, None) as self._scope:
                    outcomes.append(await first())
            except TimeoutError as error:
                if not self._is_decided():
                    self._error = error
            except Exception as error:  # noqa: BLE001 - raised below, alone and not in a group
                self._error = error
            finally:
                self._scope = None
                self._alarms.clear(alarm)
            is_over = self._error is not None or any(map(self._is_good, outcomes))
            if is_over and self._hedge is not None:
                self._hedge.cancel()
        if self._error is not None:
            raise self._error
        if outcomes and (self._is_good(outcomes[0]) or not self._hedge_outcomes):
            return Raced(outcomes[0], is_overtaken=False)
        return Raced(self._hedge_outcomes[0], is_overtaken=not outcomes)

    def _start(self) -> None:
        if self._may_start():
            self._hedge = self._tasks.create_task(self._run_hedge())

    async def _run_hedge(self) -> None:
        try:
            self._hedge_outcomes.append(await self._second())
        except Exception as error:  # noqa: BLE001 - raised where the race was started
            self._error = error
        if self._is_decided() and self._scope is not None:
            self._scope.expire()

    def _is_decided(self) -> bool:
        """Whether the second try leaves nothing to wait for."""
        return self._error is not None or any(map(self._is_good, self._hedge_outcomes))
