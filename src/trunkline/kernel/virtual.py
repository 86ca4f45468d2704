"""An event loop whose time passes only when nobody has anything to do: hours in milliseconds.

Whatever waits by the loop (sleeps, timeouts, timers, the whole kernel) runs unchanged, in the same
order every time. Sockets, threads and subprocesses do not belong on it: they take real time.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class StandStill(Exception):
    """Every task waits for something, and no timer is left that could bring it."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at 0. Also a loop factory, for `asyncio.Runner` or a test runner."""

    def __init__(self) -> None:
        self._jumps = _JumpingSelector()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now


class VirtualClock:
    """The `Clock` of the running `VirtualLoop`."""

    __slots__ = ("_wall_offset",)

    def __init__(self, *, wall: float = 1_700_000_000.0) -> None:
        self._wall_offset = wall

    def wall(self) -> float:
        return self._wall_offset + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run_in_virtual_time(main: Coroutine[Any, Any, Result]) -> Result:
    """Like `asyncio.run`, on a `VirtualLoop`. Raises `StandStill` rather than wait for ever."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class _JumpingSelector(selectors.SelectSelector):
    """Where the loop would wait, it moves the time on instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise StandStill("every task waits, and no timer is left")
        self.now += max(0.0, timeout)
        return []
