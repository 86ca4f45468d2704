"""The host's own metrics: counters made when first asked for, and what is read when scraped."""

from collections.abc import Callable, Iterable
from pathlib import Path

import prometheus_client
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from trunkline.host import retain
from trunkline.kernel import Clock
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
