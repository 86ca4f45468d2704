"""Three hosts to be hurt: who leads which shard, what is done to one of them, and what they cost.

They are run as the drills run them. A fault begins when the first signal is sent, or the first
direction cut.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from bench.processes import Cost
from bench.processes import tree as costs_below
from trunkline.drills.cluster import LOG_SERVER, Cluster, Host, UpCluster
from trunkline.drills.faults.freeze import freeze, thaw
from trunkline.drills.faults.kill import kill_host
from trunkline.drills.faults.network import Cut, Direction, Network, deaf, mute
from trunkline.drills.namespaced import NamespacedCluster
from trunkline.drills.phones import phones
from trunkline.drills.processes import until
from trunkline.drills.refusal import DrillError
from trunkline.drills.stage import LOOPBACK
from trunkline.host import status
from trunkline.host.layout import Layout
from trunkline.host.status import ShardLine
from trunkline.kernel import Clock

KILL: Final = "kill"
FREEZE: Final = "freeze"
PARTITION: Final = "partition"
ONE_WAY: Final = "partition-one-way"
FAULTS: Final = (KILL, FREEZE, PARTITION, ONE_WAY)
NETWORKED: Final = frozenset({PARTITION, ONE_WAY})

HOSTS: Final = 3
MOST: Final = "most"
RANDOM: Final = "random"
SHARD_STREAM: Final = "EV_"
BALANCED_MAX_S: Final = 60.0
"""Leaders are moved one shard a second, and there are sixteen streams."""
ENGINES: Final = "engines"
HOST_PROCESSES: Final = "hosts"


@dataclass(frozen=True, slots=True)
class Leaders:
    """What the hosts say of the log: for each stream its owner, its leader and its consumers'."""

    lines: tuple[ShardLine, ...]

    @property
    def is_balanced(self) -> bool:
        """Each stream is led, and each of its consumers, by the host whose it is."""
        return bool(self.lines) and all(
            line.owner and {line.leader, *line.consumers.values()} == {line.owner}
            for line in self.lines
        )

    def most(self, hosts: Sequence[str]) -> str:
        """Which of `hosts` leads the most shards; of equals the first by name, which is also the one
        that moves the leaders."""
        return max(sorted(hosts), key=lambda host: len(self.of_stream(host)))

    def of_stream(self, host: str) -> frozenset[int]:
        """The shards that `host` leads."""
        return frozenset(n for n, line in self._shards() if line.leader == host)

    def by_shard(self) -> dict[int, frozenset[str]]:
        """Who leads each shard and its consumers; empty where one of them is not known."""
        return {
            n: frozenset({line.leader, *line.consumers.values()})
            if _is_known(line)
            else frozenset()
            for n, line in self._shards()
        }

    def hurt_without(self, host: str) -> frozenset[int]:
        """The shards of which `host` leads the stream or a consumer."""
        return frozenset(
            n for n, line in self._shards() if host in (line.leader, *line.consumers.values())
        )

    def _shards(self) -> Sequence[tuple[int, ShardLine]]:
        return [
            (int(line.stream.removeprefix(SHARD_STREAM)), line)
            for line in self.lines
            if line.stream.startswith(SHARD_STREAM)
        ]


def _is_known(line: ShardLine) -> bool:
    return bool(line.leader) and all(line.consumers.values())


@dataclass(frozen=True, slots=True)
class Stage:
    """A cluster that runs, with the carrier outside it."""

    cluster: Cluster
    carrier_file: Path
    clock: Clock

    def leaders(self, *but: str) -> Leaders:
        """What any of the hosts says that knows it, all `but` some; at most some seconds old."""
        known: dict[str, ShardLine] = {}
        for host in self.cluster.hosts():
            if host.name in but:
                continue
            for each in status.read(Layout(host.data).run, wall=self.clock.wall()):
                for line in each.shards:
                    if line.stream not in known or not _is_known(known[line.stream]):
                        known[line.stream] = line
        return Leaders(tuple(known.values()))

    async def until_balanced(self) -> bool:
        """Until each host leads what is its own; whether that came about."""
        return await until(lambda: self.leaders().is_balanced, self.clock, within_s=BALANCED_MAX_S)

    def victim(self, wanted: str, rng: random.Random) -> Host:
        """Raises `DrillError` for a name that no host has."""
        hosts = {host.name: host for host in self.cluster.hosts()}
        if wanted == RANDOM:
            return rng.choice(list(hosts.values()))
        if wanted == MOST:
            return hosts[self.leaders().most(tuple(hosts))]
        if wanted not in hosts:
            raise DrillError(f"no host is called {wanted!r}", f"one of: {', '.join(hosts)}")
        return hosts[wanted]

    def costs(self) -> dict[int, Cost]:
        """CPU of all hosts and their engines up to now, by process."""
        return {
            pid: cost
            for host in self.cluster.hosts()
            if host.pid
            for pid, cost in costs_below(host.pid).items()
        }


@contextlib.asynccontextmanager
async def running(
    folder: Path, *, is_networked: bool, settings: Mapping[str, str], clock: Clock, seed: int
) -> AsyncIterator[Stage]:
    """Three hosts and a carrier, until the block is left; each host in a network of its own if they
    are to be cut off. Raises `DrillError` if they do not start."""
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        network = None
        if is_networked:
            network = Network.made(HOSTS, number=os.getpid())
            stack.callback(network.remove)
        address = LOOPBACK if network is None else network.address
        carrier = await stack.enter_async_context(
            phones(folder / "simulator", session, clock=clock, seed=seed, address=address)
        )
        place = folder / "hosts"
        cluster: Cluster
        if network is None:
            cluster = UpCluster(
                place, hosts=HOSTS, carrier_url=carrier.url, clock=clock, settings=settings
            )
        else:
            cluster = NamespacedCluster(
                place, network, carrier_url=carrier.url, clock=clock, settings=settings
            )
        stack.push_async_callback(cluster.stop)
        await cluster.start()
        yield Stage(cluster, carrier.file, clock)


async def hurt(
    stage: Stage,
    fault: str,
    victim: Host,
    *,
    seconds: float,
    is_mute: bool,
    on_begin: Callable[[], None],
) -> None:
    """Do it, and undo what can be undone after `seconds`. `on_begin` is called right before;
    `is_mute` says which way is cut where only one is: the victim is not heard, or does not hear."""
    if fault == KILL:
        on_begin()
        await asyncio.to_thread(kill_host, victim)
    elif fault == FREEZE:
        on_begin()
        frozen = await asyncio.to_thread(freeze, victim)
        try:
            await asyncio.sleep(seconds)
        finally:
            thaw(frozen)
    else:
        cut = Cut(_directions(stage.cluster, fault, victim, is_mute=is_mute))
        on_begin()
        await asyncio.to_thread(cut.make)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(cut.heal)


def _directions(
    cluster: Cluster, fault: str, victim: Host, *, is_mute: bool
) -> Sequence[Direction]:
    """Who is no longer heard by whom."""
    if not isinstance(cluster, NamespacedCluster):
        raise DrillError("these hosts share a network", "run them in namespaces")
    seat = cluster.seat(victim)
    others = [each for each in cluster.network.seats if each != seat]
    if fault == PARTITION:
        return [*mute(seat, others), *deaf(seat, others)]
    return mute(seat, others) if is_mute else deaf(seat, others)


def spent_s(before: Mapping[int, Cost], after: Mapping[int, Cost]) -> dict[str, float]:
    """CPU seconds from one look to the next, of engines and of all else that is hosts. What a
    process used that ended in between is missing."""
    spent = {HOST_PROCESSES: 0.0, ENGINES: 0.0}
    for pid, cost in after.items():
        group = ENGINES if cost.name == LOG_SERVER else HOST_PROCESSES
        spent[group] += cost.cpu_s - (before[pid].cpu_s if pid in before else 0.0)
    return spent
