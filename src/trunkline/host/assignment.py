"""Who does what: shards over hosts, evenly, and the same on every host that sees the same hosts."""

import hashlib
from collections.abc import Collection, Mapping, Sequence


def assign(
    what: str,
    shards: int,
    hosts: Sequence[str],
    present: Collection[str],
    zones: Mapping[str, str] | None = None,
) -> tuple[str | None, ...]:
    """The host for each of `shards` shards of `what`; `None` for all where nobody is present.

    Every member in `hosts` has shards of its own, the same number but for one. Where a member is not
    present, each of its shards goes to the one of those present that has the fewest, in a zone that
    has the fewest. So no shard moves between two that stay, but for those of a third that is away.
    """
    own = _own(what, shards, hosts)
    loads = dict.fromkeys(present, 0)
    for host in own:
        if host in loads:
            loads[host] += 1
    owners: list[str | None] = [host if host in loads else None for host in own]
    if not loads:
        return tuple(owners)
    zone_of = zones or {}
    for shard, owner in enumerate(owners):
        if owner is None:
            in_zone = {
                host: sum(loads[other] for other in loads if _zone(other, zone_of) == zone)
                for host in loads
                for zone in (_zone(host, zone_of),)
            }
            chosen = min(
                loads,
                key=lambda host: (loads[host], in_zone[host], -_weight(what, shard, host), host),
            )
            owners[shard] = chosen
            loads[chosen] += 1
    return tuple(owners)


def _own(what: str, shards: int, hosts: Sequence[str]) -> list[str]:
    """Rendezvous hashing with room for as many as are due to each: the best pairs first."""
    few, more = divmod(shards, len(hosts))
    loads = dict.fromkeys(hosts, 0)
    found: dict[int, str] = {}
    pairs = [(_weight(what, shard, host), host, shard) for host in hosts for shard in range(shards)]
    for _, host, shard in sorted(pairs, reverse=True):
        if shard in found or loads[host] > few or (loads[host] == few and not more):
            continue
        more -= loads[host] == few
        loads[host] += 1
        found[shard] = host
    return [found[shard] for shard in range(shards)]


def _zone(host: str, zones: Mapping[str, str]) -> str:
    """A host of which no zone is known is one by itself."""
    return zones.get(host) or f"host {host}"


def _weight(what: str, shard: int, host: str) -> int:
    digest = hashlib.blake2b(f"{what} {shard} {host}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
