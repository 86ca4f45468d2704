"""A host that starts in a cluster waits here for a majority, and says every few seconds for whom.

It waits for as long as it takes: a host must come up by itself whenever the others do. The one thing
it does not wait for is that others change their mind: where so many engines refuse this host's
token that there can be no majority with the rest, it is this host that is wrong.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final, assert_never

import structlog

from trunkline.host.engine_cluster import EngineCluster
from trunkline.host.engine_probe import Answers, Probed, Refuses, Silent, probe
from trunkline.host.refusal import EngineError
from trunkline.host.roster import REPLICAS, Member, quorum_of
from trunkline.kernel import Clock

log: Final = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 0.1
SAY_EVERY_S: Final = 5.0
FIRST_SAID_AFTER_S: Final = 4.0
"""Hosts that start together find each other sooner than this, and nobody needs to read of it."""


class Stopped(Exception):
    """A stop was asked for while the host still waited for others."""


class Waiting:
    """What a host waits for before its log can be used, and when it last said so."""

    def __init__(self, cluster: EngineCluster, clock: Clock, stop: asyncio.Event) -> None:
        self._cluster = cluster
        self._clock = clock
        self._stop = stop
        self._say_at = clock.monotonic() + FIRST_SAID_AFTER_S
        self._has_said = False

    async def until_led(self, tls: ssl.SSLContext | None) -> None:
        """Return once the cluster has a leader, which takes a majority. Raises `Stopped`, or
        `EngineError` where this host's secret is not that of the others."""
        while True:
            found = await self._look(tls)
            own = found[self._cluster.own]
            if isinstance(own, Answers) and own.has_meta_leader:
                return
            self._require_no_other_cluster(found)
            await self._pause(_said_of(found, self._cluster))

    async def for_log(self, reason: str, tls: ssl.SSLContext | None, *, is_born: bool) -> None:
        """A moment, until the log is tried again, which was not there for `reason`. At the birth of a
        cluster that is so until there are as many hosts as each shard has copies."""
        found = await self._look(tls)
        there = _said_of(found, self._cluster)
        if not is_born:
            reason = (
                f"{reason}. To make a log for the first time takes {REPLICAS} hosts at once, because "
                f"every shard is made with {REPLICAS} copies; it goes on when they are there"
            )
        await self._pause(f"{there}; {reason}")

    async def _pause(self, reason: str) -> None:
        """Until the next look; `reason` is said when it is time. Raises `Stopped`."""
        now = self._clock.monotonic()
        if now >= self._say_at:
            self._say_at, self._has_said = now + SAY_EVERY_S, True
            log.warning("cluster.waiting", reason=reason)
        if self._stop.is_set():
            raise Stopped
        await self._clock.sleep(LOOK_EVERY_S)

    def done(self) -> None:
        """Say that the waiting is over, if it was ever said."""
        if self._has_said:
            log.info("cluster.joined")

    async def _look(self, tls: ssl.SSLContext | None) -> Mapping[Member, Probed]:
        cluster = self._cluster
        async with asyncio.TaskGroup() as tasks:
            asked = {
                member: tasks.create_task(self._probe(member, tls))
                for member in (cluster.own, *cluster.peers)
            }
        return {member: task.result() for member, task in asked.items()}

    async def _probe(self, member: Member, tls: ssl.SSLContext | None) -> Probed:
        """With each token that this host has: while the secret is changed, others accept another."""
        cluster = self._cluster
        found: Probed = Refuses()
        for token in (cluster.client_token, *cluster.former_tokens):
            found = await probe(member.log, token, tls=tls, ask_leader=member == cluster.own)
            if not isinstance(found, Refuses):
                break
        return found

    def _require_no_other_cluster(self, found: Mapping[Member, Probed]) -> None:
        cluster = self._cluster
        refusing = [member for member in cluster.peers if _is_of_another(found[member], cluster)]
        if cluster.hosts - len(refusing) >= quorum_of(cluster.hosts):
            return
        where = ", ".join(f"{member.name} at {member.log}" for member in refusing)
        raise EngineError(
            f"the hosts of cluster.hosts refuse this host's cluster token ({where})",
            "copy cluster.token_file of one of them to this host; if it is this host's own cluster, "
            "correct the addresses in cluster.hosts",
        )


def _is_of_another(found: Probed, cluster: EngineCluster) -> bool:
    return isinstance(found, Refuses) or (
        isinstance(found, Answers) and found.cluster != cluster.name
    )


def _said_of(found: Mapping[Member, Probed], cluster: EngineCluster) -> str:
    """For whom this host waits, and why each of them is not there."""
    missing = [
        f"{member.name} at {member.log}: {_trouble(member, found[member], cluster)}"
        for member in cluster.peers
        if _trouble(member, found[member], cluster)
    ]
    there = cluster.hosts - len(missing)
    return "; ".join([f"{there} of {cluster.hosts} hosts are there", *missing])


def _trouble(member: Member, found: Probed, cluster: EngineCluster) -> str:
    match found:
        case Silent(reason=reason):
            return reason
        case Refuses():
            return "it refuses this host's cluster token"
        case Answers(server=server, cluster=name):
            if name != cluster.name:
                return f"it is of another cluster ({name or 'a host alone'})"
            return "" if server == member.name else f"it calls itself {server!r}"
        case other:
            assert_never(other)
