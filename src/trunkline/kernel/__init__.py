"""The resilience kernel: what to do about peers that are slow, silent, failing or overrun.

It knows nothing of telephony and imports nothing but the standard library. Each policy is a
decision that takes the time and the dice as arguments, with a thin shell for asyncio where it needs
one; so all of it runs in virtual time, the same way every time.
"""

from trunkline.kernel.alarms import Alarm, Alarms, Bound
from trunkline.kernel.backoff import Backoff
from trunkline.kernel.breaker import Breaker, BreakerLimits, Open, guarded
from trunkline.kernel.budget import HEDGE_BUDGET, RETRY_BUDGET, Budget, BudgetLimits
from trunkline.kernel.caller import CALLER_STATE, WAITING, Caller, Seen, TcpCaller
from trunkline.kernel.clock import Clock, FakeClock, SystemClock
from trunkline.kernel.deadline import (
    DEADLINE_HEADER,
    Deadline,
    DeadlinePassed,
    ambient_deadline,
    check_deadline,
    deadline_scope,
)
from trunkline.kernel.ejection import EJECTION, Ejection, EjectionLimits, Health, Standing
from trunkline.kernel.gradient import Gradient, GradientLimits
from trunkline.kernel.hedge import Raced, hedge_delay_s, race
from trunkline.kernel.latency import (
    CENSORED_FACTOR,
    PeakEwma,
    RecentLatencies,
    failure_cost_s,
    try_timeout_s,
)
from trunkline.kernel.limits import (
    Admission,
    Admitted,
    Limiter,
    Priority,
    ServerLimits,
    Shed,
    ShedReason,
    Waiting,
)
from trunkline.kernel.outermost import RETRIED_HEADER, is_retried_above, retried_above
from trunkline.kernel.pool import Failed, Fault, Out, Pool, PoolLimits
from trunkline.kernel.rolling import RollingCount
from trunkline.kernel.virtual import StandStill, VirtualClock, VirtualLoop, run_in_virtual_time

__all__ = [
    "CALLER_STATE",
    "CENSORED_FACTOR",
    "DEADLINE_HEADER",
    "EJECTION",
    "HEDGE_BUDGET",
    "RETRIED_HEADER",
    "RETRY_BUDGET",
    "WAITING",
    "Admission",
    "Admitted",
    "Alarm",
    "Alarms",
    "Backoff",
    "Bound",
    "Breaker",
    "BreakerLimits",
    "Budget",
    "BudgetLimits",
    "Caller",
    "Clock",
    "Deadline",
    "DeadlinePassed",
    "Ejection",
    "EjectionLimits",
    "Failed",
    "FakeClock",
    "Fault",
    "Gradient",
    "GradientLimits",
    "Health",
    "Limiter",
    "Open",
    "Out",
    "PeakEwma",
    "Pool",
    "PoolLimits",
    "Priority",
    "Raced",
    "RecentLatencies",
    "RollingCount",
    "Seen",
    "ServerLimits",
    "Shed",
    "ShedReason",
    "StandStill",
    "Standing",
    "SystemClock",
    "TcpCaller",
    "VirtualClock",
    "VirtualLoop",
    "Waiting",
    "ambient_deadline",
    "check_deadline",
    "deadline_scope",
    "failure_cost_s",
    "guarded",
    "hedge_delay_s",
    "is_retried_above",
    "race",
    "retried_above",
    "run_in_virtual_time",
    "try_timeout_s",
]
