"""Which shards are this process's to read from, where several hosts serve the same ones.

A share saves work, and decides nothing: two who read from one shard at once are told apart by the
chain of each message.
"""

import asyncio
from typing import Final, Protocol


class Share(Protocol):
    """One service's share of the shards. Every process knows its own; views may differ for a moment."""

    def has(self, shard: int) -> bool:
        """Whether this process is to read from the shard now."""

    def redeliver_in_s(self, shard: int) -> float | None:
        """In how many seconds the engine is to be asked for what was delivered to a host that is
        gone; `None` where nothing was, or that is done."""

    def redelivered(self, shard: int, *, is_done: bool) -> None:
        """The engine was asked; if it is not done, it is to be asked again."""

    async def wait(self, wait_s: float) -> None:
        """Return when the share may have changed, or after `wait_s`."""


class WholeShare:
    """Everything, always: of a host that is alone."""

    def has(self, shard: int) -> bool:
        del shard
        return True

    def redeliver_in_s(self, shard: int) -> float | None:
        del shard
        return None

    def redelivered(self, shard: int, *, is_done: bool) -> None:
        del shard, is_done

    async def wait(self, wait_s: float) -> None:
        await asyncio.sleep(wait_s)


WHOLE: Final = WholeShare()
