"""What the API counts. Children of labelled metrics are kept, because finding one costs more than
counting with it."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from trunkline.kernel import Limiter, Priority

ACCEPT_OPERATION: Final = "CreateMessage"
_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_WAIT_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Nothing that may be shed waits for longer than `QUEUE_WAIT_S` of the kernel."""


class ApiMetrics:
    """The API's metrics in one registry; a second API needs a registry of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "trunkline_api_requests",
            "Requests answered, by operation of the catalogue and HTTP status.",
            ["operation", "status"],
            registry=registry,
        )
        self._accept: Final = Histogram(
            "trunkline_api_accept_seconds",
            "From the arrival of a create to its 201, which means flushed storage.",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        # Bounded: the operations of the catalogue, times the statuses of the error table.
        self._children: dict[tuple[str, int], Counter] = {}

    def answered(self, operation: str, http_status: int, duration_s: float) -> None:
        """One request was answered."""
        child = self._children.get((operation, http_status))
        if child is None:
            child = self._requests.labels(operation, str(http_status))
            self._children[operation, http_status] = child
        child.inc()
        if operation == ACCEPT_OPERATION and http_status == 201:
            self._accept.observe(duration_s)


class AdmissionMetrics:
    """What the API took on, let wait and turned away."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._in_flight: Final = Gauge(
            "trunkline_api_in_flight",
            "Requests whose handler is running.",
            registry=registry,
        )
        self._queued: Final = Gauge(
            "trunkline_api_queued",
            "Requests that wait for their turn.",
            registry=registry,
        )
        self._wait: Final = Histogram(
            "trunkline_api_queue_wait_seconds",
            "How long a request waited for its turn, of those that had to wait and got it.",
            buckets=_WAIT_BUCKETS_S,
            registry=registry,
        )
        self._shed: Final = Counter(
            "trunkline_api_shed",
            "Requests turned away before anything was done, by reason and priority.",
            ["reason", "priority"],
            registry=registry,
        )

    def watch(self, limiter: Limiter) -> None:
        """Show what `limiter` holds whenever the metrics are read."""
        self._in_flight.set_function(lambda: limiter.in_flight)
        self._queued.set_function(lambda: limiter.queued)

    def waited(self, seconds: float) -> None:
        """A request that had to wait has its turn."""
        self._wait.observe(seconds)

    def shed(self, reason: str, priority: Priority) -> None:
        """A request was turned away."""
        self._shed.labels(reason, priority.name.lower()).inc()
