"""What a call through a pool costs beside a bare await, and beside libraries that only retry.

Real time on a shared machine: each way is measured in several rounds, in turn, and the best counts.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import stamina
import tenacity

from bench.kernel_model import dice
from trunkline.kernel import Deadline, Pool, PoolLimits, SystemClock

CALLS: Final = 10_000
ROUNDS: Final = 7

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Cost:
    """`call_us`: microseconds for one call, act included."""

    through: str
    call_us: float


async def measure() -> list[Cost]:
    """The bare await first."""
    ways = _ways()
    best_s = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, call in ways.items():
            began = time.perf_counter()
            for _ in range(CALLS):
                await call()
            best_s[name] = min(best_s[name], time.perf_counter() - began)
    return [Cost(name, taken_s / CALLS * 1e6) for name, taken_s in best_s.items()]


async def _act(replica: str, bound_s: float) -> str:
    del bound_s
    await asyncio.sleep(0)
    return replica


def _ways() -> dict[str, Call]:
    clock = SystemClock()
    deadline = Deadline.after(3600.0, clock)
    one = _pool(1, PoolLimits(try_timeout_s=5.0))
    one_adaptive = _pool(1, PoolLimits(try_timeout_cap_s=5.0))
    three = _pool(3, PoolLimits(try_timeout_cap_s=0.25))

    async def timed() -> str:
        async with asyncio.timeout(5.0):
            return await _act("a", 5.0)

    @tenacity.retry(stop=tenacity.stop_after_attempt(3), reraise=True)
    async def with_tenacity() -> str:
        return await _act("a", 5.0)

    @stamina.retry(on=OSError, attempts=3)
    async def with_stamina() -> str:
        return await _act("a", 5.0)

    return {
        "a bare await": lambda: _act("a", 5.0),
        "asyncio.timeout": timed,
        "Pool of 1, fixed bound, tried once": lambda: one.call(
            _act, deadline=deadline, is_repeatable=False
        ),
        "Pool of 1, fixed bound, repeatable": lambda: one.call(
            _act, deadline=deadline, is_repeatable=True
        ),
        "Pool of 1, adaptive bound, repeatable": lambda: one_adaptive.call(
            _act, deadline=deadline, is_repeatable=True
        ),
        "Pool of 3, adaptive bound, repeatable": lambda: three.call(
            _act, deadline=deadline, is_repeatable=True
        ),
        "Pool of 3, the same, hedged": lambda: three.call(
            _act, deadline=deadline, is_repeatable=True, may_hedge=True
        ),
        "tenacity (retries only)": with_tenacity,
        "stamina (retries only)": with_stamina,
    }


def _pool(replicas: int, limits: PoolLimits) -> Pool[str]:
    return Pool(
        "cost", list("abc"[:replicas]), limits=limits, clock=SystemClock(), rng=dice("cost")
    )
