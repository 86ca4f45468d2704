"""This host's share of the shards: who reads from each, as the members that are present divide them.

All services of a host read from the same shards, and the balancer gives it their leaders: so what
comes into a shard is written, read and worked on by one host, and its death stalls nobody else.
"""

from collections.abc import Mapping
from typing import Final

from trunkline.host.assignment import assign
from trunkline.host.members import Members
from trunkline.host.membership import View
from trunkline.kernel import Clock

ASK_AGAIN_S: Final = 0.3
"""A host that froze had asked the engine for messages, and may have been given one more since the
first time; by now its request has expired. Also how long after a failure it is tried again."""

TIMER_READERS: Final = ("schedule",)
"""The durable consumers of each stream of timers."""

ASKED_MAX: Final = 2
"""How often the engine is asked for what a gone host has in hand."""


class HostShares:
    """Who has which of `shards` shards of `what`. Make one `HostShare` for each service."""

    def __init__(self, members: Members, *, what: str, shards: int, clock: Clock) -> None:
        self._members = members
        self._what = what
        self._clock = clock
        self._owners: tuple[str | None, ...] = (None,) * shards
        self._incarnations: dict[str, str] = {}
        self._shares: list[HostShare] = []
        members.on_change(self._divide)

    @property
    def shards(self) -> int:
        return len(self._owners)

    @property
    def owners(self) -> tuple[str | None, ...]:
        """The host of each shard, as of the last change."""
        return self._owners

    def is_own(self, shard: int) -> bool:
        """Whether the shard is this host's, which may be draining."""
        return self._owners[shard] == self._members.own

    def has(self, shard: int) -> bool:
        """Whether the shard is this host's, and this host may act."""
        return self._owners[shard] == self._members.own and self._members.view().is_working

    def new_share(self) -> "HostShare":
        """For one service of this process, which may have died with something in hand before."""
        share = HostShare(self, self._members, self._clock)
        for shard, owner in enumerate(self._owners):
            if owner == self._members.own:
                share.gained(shard, is_orphan=True)
        self._shares.append(share)
        return share

    def _divide(self, view: View) -> None:
        present = view.present if view.is_connected else ()
        was, owners = (
            self._owners,
            assign(self._what, self.shards, self._members.hosts, present, view.zones),
        )
        for shard, owner in enumerate(owners):
            if owner == self._members.own != was[shard]:
                for share in self._shares:
                    share.gained(shard, is_orphan=not self._is_still_there(was[shard], view))
        self._owners = owners
        self._incarnations = {
            host: view.members[host].incarnation for host in owners if host is not None
        }

    def _is_still_there(self, owner: str | None, view: View) -> bool:
        """Whether the process that had the shard is heard, and so answers for what it has in hand."""
        if owner is None:
            return False
        member = view.members[owner]
        return member.is_heard and member.incarnation == self._incarnations.get(owner)


class HostShare:
    """One service's. Implements `trunkline.log.share.Share`."""

    def __init__(self, shares: HostShares, members: Members, clock: Clock) -> None:
        self._shares = shares
        self._members = members
        self._clock = clock
        self._ask_at: dict[int, float] = {}
        self._asked: dict[int, int] = {}

    def has(self, shard: int) -> bool:
        return self._shares.has(shard)

    def redeliver_in_s(self, shard: int) -> float | None:
        at = self._ask_at.get(shard)
        return None if at is None else at - self._clock.monotonic()

    def redelivered(self, shard: int, *, is_done: bool) -> None:
        asked = self._asked.get(shard, 0) + is_done
        self._asked[shard] = asked
        if asked >= ASKED_MAX:
            self._ask_at.pop(shard, None)
        else:
            self._ask_at[shard] = self._clock.monotonic() + ASK_AGAIN_S

    async def wait(self, wait_s: float) -> None:
        await self._members.until_changed(wait_s)

    def gained(self, shard: int, *, is_orphan: bool) -> None:
        """The shard is ours from now on; an orphan's last owner may have had some of it in hand."""
        if is_orphan:
            self._asked[shard] = 0
            self._ask_at[shard] = self._clock.monotonic()


def wanted_leaders(shards: HostShares, timers: HostShares) -> Mapping[str, str | None]:
    """Which host is to lead each stream of the log, and each consumer of those of timers."""
    wanted = {f"EV_{shard}": owner for shard, owner in enumerate(shards.owners)}
    for shard, owner in enumerate(timers.owners):
        wanted[f"TIMER_{shard}"] = owner
        wanted.update({f"TIMER_{shard}.{service}": owner for service in TIMER_READERS})
    return wanted
