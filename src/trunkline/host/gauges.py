"""The host's own metrics: counters made when first asked for, and what is read when scraped."""

from collections.abc import Callable, Iterable

import prometheus_client
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

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


def watch(registry: prometheus_client.CollectorRegistry, replica: Replica) -> None:
    """Show how far behind the read copy is."""
    registry.register(_ReplicaLag(replica))


class _ReplicaLag(Collector):
    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def collect(self) -> Iterable[GaugeMetricFamily]:
        yield GaugeMetricFamily(
            "trunkline_replica_lag_seconds",
            "How long ago the read copy was last known to be complete.",
            value=self._replica.lag_ms() / 1000.0,
        )
