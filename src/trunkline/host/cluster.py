"""One process's part in a cluster: who the others are, what is ours, and who leads what.

Made by `assemble` where the settings name a cluster. A host that is alone has none of it, and every
part below goes without: its lease is a file, its share is everything.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from trunkline.host.balance import Balancer
from trunkline.host.cluster_leases import ClusterLeases
from trunkline.host.config import Settings
from trunkline.host.context import Context
from trunkline.host.cut_off import CutOff
from trunkline.host.leased_dispatch import LeasedDispatch
from trunkline.host.leases import FileLeases
from trunkline.host.members import Members
from trunkline.host.membership import Membership
from trunkline.host.put_down import PutDown
from trunkline.host.shares import HostShares, wanted_leaders
from trunkline.kernel import Clock
from trunkline.log.interface import Bus, ClusteredLog
from trunkline.log.shards import SHARDS
from trunkline.log.timers import TIMER_SHARDS
from trunkline.messaging.dispatch import Dispatcher
from trunkline.messaging.lease import Leases

SPEAKER: Final = "dispatch"
"""The service whose process speaks for the host: its lease is what the others ask about."""

FIRST_HEARD_S: Final = 0.3
"""How long a host that starts listens for the others; each is heard ten times a second."""

LEAVE_S: Final = 0.3
"""How long a host that stops is still there after it has said so: its clients see that it is not
ready, and the others take its shares and leaders, before it stops anything."""


def cluster_hosts(settings: Settings) -> tuple[str, ...]:
    """The names of all members, this host included; none for a host that is alone."""
    return tuple(member.name for member in settings.cluster.hosts)


@dataclass(frozen=True, slots=True)
class ClusterPart:
    """`shards` and `timers` say what is ours. `balancer` is there in the process that speaks."""

    members: Members
    shards: HostShares
    timers: HostShares
    balancer: Balancer | None
    bus: Bus
    cut_off: CutOff | None = None
    put_down: PutDown | None = None
    """These two are there where the balancer is."""

    @property
    def is_connected(self) -> bool:
        """Whether a majority of the hosts is heard, this one included."""
        return self.members.view().is_connected

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """The heartbeats are sent and heard for as long as this is open. It is entered when a
        majority is heard, or after a while without."""
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.members.run())
            try:
                if not self.is_connected:
                    await self.members.until_changed(FIRST_HEARD_S)
                yield
            finally:
                running.cancel()

    def base_urls(self) -> tuple[str, ...]:
        """The APIs of the other hosts that are there now."""
        return tuple(
            member.base_url
            for host, member in self.members.view().members.items()
            if host != self.members.own and member.is_heard and member.base_url
        )

    async def leave(self, clock: Clock) -> None:
        """Say that this host stops, and hand over what it leads; a while later everybody has seen
        it."""
        self.members.set_draining()
        async with asyncio.TaskGroup() as tasks:
            if self.balancer is not None:
                tasks.create_task(self.balancer.hand_over())
            tasks.create_task(clock.sleep(LEAVE_S))


def join(context: Context, names: Sequence[str]) -> ClusterPart | None:
    """The part of a process with the services `names`; `None` where there is no cluster."""
    settings, clock = context.settings, context.clock
    hosts = cluster_hosts(settings)
    if not hosts:
        return None
    log = cast(ClusteredLog, context.log)  # what the hosts of a cluster share is no other one
    membership = Membership(hosts, settings.host.name, now=clock.monotonic())
    membership.introduce(base_url=settings.host.http.url, zone=settings.host.zone)
    members = Members(log.bus, membership, clock=clock, rng=context.rng)
    shards = HostShares(members, what="shard", shards=SHARDS, clock=clock)
    timers = HostShares(members, what="timer", shards=TIMER_SHARDS, clock=clock)
    balancer = cut_off = put_down = None
    if SPEAKER in names:
        balancer = Balancer(
            log, members, wanted=lambda: wanted_leaders(shards, timers), clock=clock
        )
        cut_off = CutOff(
            members,
            {member.name: member.log for member in settings.cluster.hosts},
            engine_pid=context.layout.engine_pid,
            clock=clock,
        )
        put_down = PutDown(
            members,
            {member.name: member.route for member in settings.cluster.hosts},
            secret=context.peer_token or "",
            engine_pid=context.layout.engine_pid,
            clock=clock,
        )
    return ClusterPart(members, shards, timers, balancer, log.bus, cut_off, put_down)


def leased_dispatch(
    part: ClusterPart, context: Context, new_dispatcher: Callable[[Leases], Dispatcher]
) -> LeasedDispatch:
    """Dispatch as a host of a cluster does it."""

    def new_leases() -> ClusterLeases:
        file = FileLeases(
            context.layout.leases, host=context.settings.host.name, entropy=context.entropy
        )
        return ClusterLeases(file, part.members)

    return LeasedDispatch(part.members, new_leases=new_leases, new_dispatcher=new_dispatcher)
