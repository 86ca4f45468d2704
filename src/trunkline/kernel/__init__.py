"""The resilience kernel: time, deadlines, backoff and pools. It knows nothing of telephony."""

from trunkline.kernel.backoff import Backoff
from trunkline.kernel.clock import Clock, FakeClock, SystemClock
from trunkline.kernel.deadline import Deadline
from trunkline.kernel.pool import Failed, Pool, PoolLimits

__all__ = [
    "Backoff",
    "Clock",
    "Deadline",
    "Failed",
    "FakeClock",
    "Pool",
    "PoolLimits",
    "SystemClock",
]
