"""Leases over all hosts of a cluster: the locked file on the own host, heartbeats for the others.

A lease's name is `<host>-<process>-<incarnation>`, as `host/leases` makes it, and the host speaks as
that incarnation. So whoever meets a lease knows whose heartbeats to ask about.
"""

from trunkline.host.leases import LEASE, FileLeases
from trunkline.host.members import Members


class ClusterLeases:
    """One incarnation's lease, held until `close`. Implements `trunkline.messaging.lease.Leases`.

    From construction on, the host speaks as this incarnation; it is valid once a majority has heard
    it, and never again after it was mute.
    """

    def __init__(self, file: FileLeases, members: Members) -> None:
        self._file = file
        self._members = members
        self._incarnation = incarnation_of(file.own)
        members.begin(self._incarnation)

    @property
    def own(self) -> str:
        return self._file.own

    def is_own_valid(self) -> bool:
        return self._file.is_own_valid() and self._members.may_act(self._incarnation)

    @property
    def has_lapsed(self) -> bool:
        """Whether it is not valid, and will not be."""
        return not self._file.is_own_valid() or self._members.has_lapsed(self._incarnation)

    def is_live(self, lease: str) -> bool:
        if LEASE.match(lease) is None:
            return False
        host = host_of(lease)
        if host == self._members.own:
            # Of our own host the kernel knows it at once, and also while nobody hears us.
            return self._file.is_live(lease)
        return not self._members.is_dead(host, incarnation_of(lease))

    def close(self) -> None:
        """Give it up for good. A second call does nothing."""
        self._file.close()


def host_of(lease: str) -> str:
    """The host whose lease it is; names of hosts may have hyphens."""
    return lease.rsplit("-", 2)[0]


def incarnation_of(lease: str) -> str:
    """The incarnation that holds it."""
    return lease.rpartition("-")[2]
