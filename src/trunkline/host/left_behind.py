"""Copies of shards that do not follow their leader are given another leader.

An engine that comes back asks each shard's leader for what it missed. Seen with version 2.15.1 after
some cuts: it refuses what one leader sends, asks again every few seconds, and never gets on; what its
host reads stands still then, for as long as that leader leads. Another leader reckons anew what the
follower lacks. To have the leader make way costs the shard some milliseconds.
"""

from collections.abc import Awaitable, Mapping
from typing import Final, Protocol

import structlog

from trunkline.host.balance import balancer_of
from trunkline.host.members import Members
from trunkline.kernel import Clock

log: Final = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 1.0
ASK_TIMEOUT_S: Final = 0.5

STUCK_AFTER_S: Final = 6.0
"""A copy that follows is behind by less at one of so many looks, however much there is to do."""

AGAIN_AFTER_S: Final = 20.0
"""Between two changes of leader for the sake of one shard."""


class Followed(Protocol):
    """What is asked of the log; see `trunkline.log.interface.ClusteredLog`."""

    def behind(self, *, timeout_s: float) -> Awaitable[Mapping[str, Mapping[str, int]]]: ...

    def step_down(self, stream: str, *, prefer: str, timeout_s: float) -> Awaitable[bool]: ...


class LeftBehind:
    """Use as a support: `run` until cancelled, on every host; one of them acts."""

    name = "left_behind"

    def __init__(self, followed: Followed, members: Members, *, clock: Clock) -> None:
        self._followed = followed
        self._members = members
        self._clock = clock
        self._least: dict[tuple[str, str], tuple[int, float]] = {}
        """How far a copy was behind at best, and since when it has not come nearer."""
        self._not_before: dict[str, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            view = self._members.view()
            if view.is_working and balancer_of(view) == self._members.own:
                await self._look()
            else:
                self._least.clear()
            await self._clock.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        behind = await self._followed.behind(timeout_s=ASK_TIMEOUT_S)
        now = self._clock.monotonic()
        seen: dict[tuple[str, str], tuple[int, float]] = {}
        for stream, copies in behind.items():
            for host, distance in copies.items():
                if distance == 0:
                    continue
                least, since = self._least.get((stream, host), (distance, now))
                seen[stream, host] = (distance, now) if distance < least else (least, since)
        self._least = seen
        for (stream, host), (_, since) in seen.items():
            is_due = now >= self._not_before.get(stream, now)
            if is_due and now - since >= STUCK_AFTER_S:
                await self._help(stream, host, behind[stream])

    async def _help(self, stream: str, host: str, copies: Mapping[str, int]) -> None:
        """Have it led by a host that is there and has all of it."""
        present = self._members.view().present
        able = sorted(each for each, distance in copies.items() if distance == 0)
        able = [each for each in able if each in present]
        if not able:
            return
        now = self._clock.monotonic()
        self._not_before[stream] = now + AGAIN_AFTER_S
        self._least = {key: (each, now) for key, (each, _) in self._least.items()}
        is_asked = await self._followed.step_down(stream, prefer=able[0], timeout_s=ASK_TIMEOUT_S)
        log.warning("log.left_behind", led=stream, member=host, to=able[0], is_asked=is_asked)
