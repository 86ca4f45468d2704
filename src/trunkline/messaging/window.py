"""A link's window: how many messages may be between their claim and its outcome at once."""

import asyncio
import contextlib
from collections import deque


class Window:
    """`places` of them, given in the order in which they were asked for."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, wanted: int = 1) -> int:
        """Wait for a place, and take up to `wanted` that are free then: how many were taken. Who
        needs many and waited for all of them could wait for ever for another who does the same."""
        if self._waiting or not self._free:
            await self._turn(is_first=False)
        while not self._free:
            await self._turn(is_first=True)
        taken = min(wanted, self._free)
        self._free -= taken
        self._wake()
        return taken

    def give_back(self) -> None:
        """One place is free again."""
        self._free += 1
        self._wake()

    async def _turn(self, *, is_first: bool) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if is_first else self._waiting.append)(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):  # it was passed over already
                    self._waiting.remove(turn)
            else:
                self._wake()  # the place it was woken for is for the next one
            raise

    def _wake(self) -> None:
        while self._free and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
