"""What a host shows of its pools when its metrics are read."""

import random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from trunkline.host.gauges import watch_pools, watch_queues
from trunkline.host.queues import QueueLine
from trunkline.kernel import Deadline, FakeClock, Pool, PoolLimits

pytestmark = pytest.mark.anyio


class Owner:
    """Something that makes its pools when it needs them."""

    def __init__(self) -> None:
        self.made: list[Pool[Any]] = []

    def pools(self) -> list[Pool[Any]]:
        return self.made


def a_pool(name: str, clock: FakeClock) -> Pool[str]:
    limits = PoolLimits(try_timeout_s=1.0, tries_max=1)
    return Pool(name, ["there"], limits=limits, clock=clock, rng=random.Random(1))


async def answer(replica: str, bound_s: float) -> str:
    return f"{replica} within {bound_s}"


async def refuse(replica: str, bound_s: float) -> str:
    raise ConnectionRefusedError(f"{replica} within {bound_s}")


async def test_a_pool_made_after_the_start_is_shown_and_those_of_one_name_are_one() -> None:
    clock, owner, registry = FakeClock(), Owner(), CollectorRegistry()
    watch_pools(registry, lambda: [owner, None, "no owner of pools"])
    assert 'pool="' not in generate_latest(registry).decode()

    one, same, other = a_pool("log", clock), a_pool("log", clock), a_pool("webhooks", clock)
    owner.made += [one, same, other]
    for pool in (one, same):
        await pool.call(answer, deadline=Deadline.after(9.0, clock), is_repeatable=False)
    await other.call(refuse, deadline=Deadline.after(9.0, clock), is_repeatable=False)

    shown = generate_latest(registry).decode().splitlines()
    assert 'trunkline_pool_calls_total{pool="log"} 2.0' in shown
    assert 'trunkline_pool_failures_total{pool="log"} 0.0' in shown
    assert 'trunkline_pool_failures_total{pool="webhooks"} 1.0' in shown
    assert 'trunkline_pool_unaffordable_total{pool="webhooks"} 0.0' in shown


async def test_a_replica_that_is_out_is_shown_with_how_long_it_is() -> None:
    clock, owner, registry = FakeClock(), Owner(), CollectorRegistry()
    watch_pools(registry, lambda: [owner])
    limits = PoolLimits(try_timeout_s=1.0, tries_max=1)
    pool = Pool("log", ["there", "gone"], limits=limits, clock=clock, rng=random.Random(1))
    owner.made.append(pool)

    async def act(replica: str, bound_s: float) -> str:
        return await (refuse if replica == "gone" else answer)(replica, bound_s)

    for _ in range(1_000):
        await pool.call(act, deadline=Deadline.after(9.0, clock), is_repeatable=False)
        if any(pool.out()):
            break
        await clock.advance(10.0)
    await clock.advance(2.0)

    shown = generate_latest(registry).decode().splitlines()
    assert 'trunkline_pool_ejections_total{pool="log"} 1.0' in shown
    assert 'trunkline_pool_ejected_seconds{pool="log",replica="gone"} 2.0' in shown


def test_what_waits_is_shown_by_service() -> None:
    registry = CollectorRegistry()
    watch_queues(registry, lambda: [QueueLine(service="dispatch", oldest_s=7.5)])

    shown = generate_latest(registry).decode().splitlines()

    assert 'trunkline_queue_oldest_seconds{service="dispatch"} 7.5' in shown
