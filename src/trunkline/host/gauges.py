"""The host's own metrics: counters made when first asked for, and what is read when scraped."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from trunkline.host import retain
from trunkline.host.queues import QueueLine
from trunkline.kernel import Clock, Pool
from trunkline.replica.queries import Replica


def counters(
    registry: prometheus_client.CollectorRegistry,
) -> Callable[[str, str], prometheus_client.Counter]:
    """`make(name, help)` gives the counter `trunkline_messages_<name>_total`."""

    def make(name: str, documentation: str) -> prometheus_client.Counter:
        return prometheus_client.Counter(
            f"trunkline_messages_{name}", documentation, registry=registry
        )

    return make


def watch(
    registry: prometheus_client.CollectorRegistry,
    replica: Replica,
    retention: Path,
    *,
    clock: Clock,
) -> None:
    """Show how far behind the read copy is, and what the log holds."""
    registry.register(_ReplicaLag(replica))
    registry.register(_Kept(retention, clock))


class _ReplicaLag(Collector):
    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def collect(self) -> Iterable[GaugeMetricFamily]:
        yield GaugeMetricFamily(
            "trunkline_replica_lag_seconds",
            "How long ago the read copy was last known to be complete.",
            value=self._replica.lag_ms() / 1000.0,
        )


class _Kept(Collector):
    """From the file of the retention, which may run in another process of this host."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def collect(self) -> Iterable[GaugeMetricFamily]:
        found = retain.read(self._path)
        if found is None:
            return
        yield GaugeMetricFamily(
            "trunkline_log_fill_ratio",
            "The share of its room that the fullest shard of the log has taken.",
            value=found.fullest,
        )
        yield GaugeMetricFamily("trunkline_log_bytes", "What the log holds.", value=found.bytes)
        yield GaugeMetricFamily(
            "trunkline_log_resources", "Subjects the log holds in memory.", value=found.resources
        )
        if found.oldest_at is not None:
            yield GaugeMetricFamily(
                "trunkline_log_oldest_seconds",
                "How old the oldest part of the log is.",
                value=max(0.0, self._clock.wall() - found.oldest_at),
            )


@runtime_checkable
class HasPools(Protocol):
    """Something that asks others through pools, however many and since whenever."""

    def pools(self) -> Iterable[Pool[Any]]: ...


def watch_pools(
    registry: prometheus_client.CollectorRegistry, owners: Callable[[], Iterable[object]]
) -> None:
    """Show what the pools of all `owners` have counted; those without pools show nothing.

    Who owns pools is asked at each scrape, because some are made when they are first needed. Pools
    of one name are shown as one.
    """
    registry.register(_PoolCounts(owners))


def watch_queues(
    registry: prometheus_client.CollectorRegistry, queues: Callable[[], Iterable[QueueLine]]
) -> None:
    """Show for each service how long the oldest thing has waited for it."""
    registry.register(_Queues(queues))


class _Queues(Collector):
    def __init__(self, queues: Callable[[], Iterable[QueueLine]]) -> None:
        self._queues: Final = queues

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "trunkline_queue_oldest_seconds",
            "How long the oldest thing has waited that the service is not through with.",
            labels=["service"],
        )
        for line in self._queues():
            family.add_metric([line.service], line.oldest_s)
        yield family


class _PoolCounts(Collector):
    def __init__(self, owners: Callable[[], Iterable[object]]) -> None:
        self._owners: Final = owners

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        families = _pool_families()
        counted: dict[str, dict[str, int]] = {}
        ejected: dict[tuple[str, str], float] = {}
        for pool in self._pools():
            for out in pool.out():
                place = pool.name, str(out.replica)
                ejected[place] = max(out.out_for_s, ejected.get(place, 0.0))
            counts = counted.setdefault(pool.name, dict.fromkeys(families, 0))
            for field in counts:
                counts[field] += getattr(pool, field)
        for name, counts in counted.items():
            for field, count in counts.items():
                families[field].add_metric([name], count)
        yield from families.values()
        out_for = GaugeMetricFamily(
            "trunkline_pool_ejected_seconds",
            "For how long a replica has been out of rotation.",
            labels=["pool", "replica"],
        )
        for place, out_for_s in ejected.items():
            out_for.add_metric(place, out_for_s)
        yield out_for

    def _pools(self) -> Iterable[Pool[Any]]:
        for owner in self._owners():
            if isinstance(owner, HasPools):
                yield from owner.pools()


def _pool_families() -> dict[str, CounterMetricFamily]:
    """By the name of what a `Pool` counts."""
    by_pool = ["pool"]
    return {
        "calls": CounterMetricFamily(
            "trunkline_pool_calls", "Calls, each of one try or more.", labels=by_pool
        ),
        "failures": CounterMetricFamily(
            "trunkline_pool_failures", "Tries without a good answer.", labels=by_pool
        ),
        "timeouts": CounterMetricFamily(
            "trunkline_pool_timeouts", "Tries that ran into their bound.", labels=by_pool
        ),
        "retries": CounterMetricFamily(
            "trunkline_pool_retries", "Tries after the first.", labels=by_pool
        ),
        "hedges": CounterMetricFamily(
            "trunkline_pool_hedges", "Second tries beside a slow first.", labels=by_pool
        ),
        "hedges_won": CounterMetricFamily(
            "trunkline_pool_hedges_won", "Hedges that answered first.", labels=by_pool
        ),
        "unaffordable": CounterMetricFamily(
            "trunkline_pool_unaffordable", "Retries and hedges without a budget.", labels=by_pool
        ),
        "ejections": CounterMetricFamily(
            "trunkline_pool_ejections", "Replicas put out of rotation, or kept out.", labels=by_pool
        ),
    }
