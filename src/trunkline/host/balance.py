"""Keeps the leaders of the log's streams on the hosts that work on them, one step a second.

Without it one server ends up leading them all. Each stream is to be led by the host that has its
shard, and so are its consumers: they are led apart from it, and nothing is delivered from a shard
whose consumer has lost its leader. Then the death of a host stalls its own shards and no other's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from trunkline.host.members import Members
from trunkline.host.membership import View
from trunkline.kernel import Clock

log: Final = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 1.0
"""Also the least time between two steps of a cluster: each costs its shard some milliseconds."""

ASK_TIMEOUT_S: Final = 0.5

STEADY_S: Final = 5.0
"""A host is given leaders only when it was heard for so long: one that comes and goes would take
them along."""

ELECTION_MAX_S: Final = 30.0
"""While anything elects, nothing is moved; but one that has no leader for this long is not electing."""

AGAIN_AFTER_S: Final = 30.0
"""What was asked for and is not so, is asked for again after this long, and not before the others:
with more hosts than copies of a stream, some of them cannot lead it."""

HAND_OVER_MAX_S: Final = 3.0
"""How long a host that drains asks others to lead, before it goes without that."""


class Led(Protocol):
    """What the balancer asks of the log; see `trunkline.log.interface.ClusteredLog`."""

    def leaders(self, *, timeout_s: float) -> Awaitable[Mapping[str, str | None]]: ...

    def consumer_leaders(
        self, consumers: Sequence[str], *, timeout_s: float
    ) -> Awaitable[Mapping[str, str | None]]: ...

    def step_down(self, stream: str, *, prefer: str, timeout_s: float) -> Awaitable[bool]: ...


@dataclass(frozen=True, slots=True)
class Step:
    """Have a stream, or those of its consumers that are not, led by `to`: all that is named, so that
    a shard is disturbed once and not four times."""

    names: tuple[str, ...]
    to: str


def balancer_of(view: View) -> str | None:
    """The one host that takes the steps: every host finds the same, but for a moment."""
    return min(view.present, default=None) if view.is_connected else None


def next_step(
    wanted: Mapping[str, str | None], leaders: Mapping[str, str | None], view: View
) -> Step | None:
    """For the first stream that is led, or served, by another host than it should be, if that one is
    there to stay. Names are `<stream>` and `<stream>.<service>`."""
    amiss: dict[str, list[str]] = {}
    for name, host in wanted.items():
        if host not in (None, leaders.get(name)) and leaders.get(name) is not None:
            amiss.setdefault(name.partition(".")[0], []).append(name)
    for names in amiss.values():
        host = wanted[names[0]]
        if host is not None and _is_steady(host, view):
            return Step(tuple(name for name in names if wanted[name] == host), host)
    return None


def _is_steady(host: str, view: View) -> bool:
    return host in view.present and view.members[host].heard_for_s >= STEADY_S


class Balancer:
    """Use as a support: `run` until cancelled, on every host. `wanted` says which host is to lead
    each stream and each consumer; `leaders` is what was seen last."""

    name = "balancer"

    def __init__(
        self,
        led: Led,
        members: Members,
        *,
        wanted: Callable[[], Mapping[str, str | None]],
        clock: Clock,
    ) -> None:
        self.leaders: Mapping[str, str | None] = {}
        self._led = led
        self._members = members
        self._wanted = wanted
        self._clock = clock
        self._leaderless_since: dict[str, float] = {}
        self._not_before: dict[str, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            view = self._members.view()
            await self._look()
            if view.is_working and balancer_of(view) == self._members.own:
                await self._take_a_step()
            await self._clock.sleep(LOOK_EVERY_S)

    async def hand_over(self) -> None:
        """Have everything that this host leads led by those that are to lead it now."""
        try:
            async with asyncio.timeout(HAND_OVER_MAX_S):
                await self._look()
                for name, host in self._wanted().items():
                    if host not in (None, self._members.own) and self._leads(name):
                        await self._ask(Step((name,), host or ""))
        except TimeoutError:
            log.warning("balance.hand_over_late", after_s=HAND_OVER_MAX_S)

    def _leads(self, name: str) -> bool:
        return self.leaders.get(name) == self._members.own

    async def _take_a_step(self) -> None:
        if self._is_electing():
            return
        now = self._clock.monotonic()
        wanted = {
            name: host
            for name, host in self._wanted().items()
            if now >= self._not_before.get(name, now)
        }
        step = next_step(wanted, self.leaders, self._members.view())
        if step is not None:
            self._not_before.update(dict.fromkeys(step.names, now + AGAIN_AFTER_S))
            await self._ask(step)

    async def _ask(self, step: Step) -> None:
        for name in step.names:
            was = self.leaders.get(name)
            if await self._led.step_down(name, prefer=step.to, timeout_s=ASK_TIMEOUT_S):
                log.info("balance.moved", led=name, member=step.to, was=was)
            else:
                log.info("balance.not_moved", led=name, member=step.to, was=was)

    async def _look(self) -> None:
        names = tuple(self._wanted())
        consumers = [name for name in names if "." in name]
        of_streams = await self._led.leaders(timeout_s=ASK_TIMEOUT_S)
        of_consumers = await self._led.consumer_leaders(consumers, timeout_s=ASK_TIMEOUT_S)
        self.leaders = {**of_streams, **of_consumers}
        now = self._clock.monotonic()
        self._leaderless_since = {
            name: self._leaderless_since.get(name, now)
            for name in names
            if self.leaders.get(name) is None
        }

    def _is_electing(self) -> bool:
        now = self._clock.monotonic()
        return any(now - since < ELECTION_MAX_S for since in self._leaderless_since.values())
