"""Who belongs to the cluster, as every host of it is told: names, and where their engines are reached.

The list is the same on every host. It decides the quorum, so what is wrong in it is refused before
anything is opened; and an engine keeps its place in the log's Raft groups by its host's name alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.host.listen import WILDCARDS, Address
from trunkline.host.refusal import ConfigError

LOG_PORT: Final = 4222
ROUTE_PORT: Final = 6222

HOSTS_LEAST: Final = 3
HOSTS_MAX: Final = 9
"""Every host keeps a connection to every other, and more than nine hosts outvote no more failures
at once than an operator can look after."""

REPLICAS: Final = 3
"""Copies of every shard, with five hosts too: a fourth copy costs a write and outvotes no second
loss in a shard, and a fifth one doubles the writes of every message."""


@dataclass(frozen=True, slots=True)
class Member:
    """One host of the cluster: where its engine serves clients, and where other engines join it."""

    name: str
    log: Address
    route: Address

    @classmethod
    def parse(cls, text: str) -> "Member":
        """From `name@address[:log_port[:route_port]]`, an IPv6 address in brackets; raises
        `ValueError`. Whether the name can be one is for the caller."""
        name, at, where = text.strip().partition("@")
        if where.startswith("["):
            host, _, ports = where[1:].partition("]")
            if ports and not ports.startswith(":"):
                raise ValueError(text)
            ports = ports[1:]
        else:
            host, _, ports = where.partition(":")
        words = ports.split(":") if ports else []
        if not (at and name and host) or len(words) > 2:
            raise ValueError(text)
        log_port = _port(words[0]) if words else LOG_PORT
        route_port = _port(words[1]) if len(words) == 2 else ROUTE_PORT
        return cls(name, Address(host, log_port), Address(host, route_port))

    def __str__(self) -> str:
        return f"{self.name}@{self.log}:{self.route.port}"


def _port(word: str) -> int:
    if not (word.isascii() and word.isdigit() and 0 < int(word) < 65_536):
        raise ValueError(word)
    return int(word)


def quorum_of(hosts: int) -> int:
    """How many of them must be there for the log to take anything."""
    return hosts // 2 + 1


def check(
    members: Sequence[Member],
    *,
    name: str,
    token_file: Path | None,
    tls: Sequence[Path | None],
) -> None:
    """Raises `ConfigError` for a list that no cluster can be made of. `tls` are its three files.

    Without members there is nothing to check but that nothing of a cluster is set.
    """
    if not members:
        if token_file is not None or any(path is not None for path in tls):
            raise ConfigError(
                "cluster.token_file or cluster.tls_* is set, but cluster.hosts names nobody",
                "name all hosts in cluster.hosts, or remove the section [cluster]",
            )
        return
    _check_count(members)
    _check_doubles(members)
    if name not in {member.name for member in members}:
        named = ", ".join(member.name for member in members)
        raise ConfigError(
            f"host.name is {name!r}, which is not one of cluster.hosts ({named})",
            "set host.name to this host's own entry, or add it to the list on every host",
        )
    if token_file is None:
        raise ConfigError(
            "cluster.hosts is set without cluster.token_file",
            "put one secret of 32 or more characters into a file of mode 0600, the same on every "
            "host, and name it with cluster.token_file",
        )
    if any(path is None for path in tls) and any(path is not None for path in tls):
        raise ConfigError(
            "cluster.tls_cert, cluster.tls_key and cluster.tls_ca belong together, and one is "
            "missing",
            "set all three, or none",
        )


def _check_count(members: Sequence[Member]) -> None:
    count = len(members)
    if count == 1:
        raise ConfigError(
            "cluster.hosts names one host only, and a cluster needs three",
            "leave cluster.hosts out for one host alone, or name three",
        )
    if count < HOSTS_LEAST:
        raise ConfigError(
            "cluster.hosts names two hosts, and two have no quorum: losing either one stops both",
            "run one, or three",
        )
    if count > HOSTS_MAX:
        raise ConfigError(
            f"cluster.hosts names {count} hosts, more than {HOSTS_MAX}",
            f"name at most {HOSTS_MAX}",
        )


def _check_doubles(members: Sequence[Member]) -> None:
    for what, values in (
        ("the name", [member.name for member in members]),
        ("the address", [str(each) for member in members for each in (member.log, member.route)]),
    ):
        doubled = [value for value, count in Counter(values).items() if count > 1]
        if doubled:
            raise ConfigError(
                f"cluster.hosts has {what} {doubled[0]} twice",
                "give every host a name and addresses of its own, its two ports different",
            )
    for member in members:
        if member.log.host in WILDCARDS:
            raise ConfigError(
                f"cluster.hosts has {member.log.host} for {member.name}, which says no host's place",
                "give the address at which the other hosts reach it",
            )
