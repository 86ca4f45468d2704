"""What a type checker knows about the kernel: each answer keeps its type, and misuse is refused.

`make types` is the test: a suppression that is not needed fails there. Running it only shows that
what is written here also happens.
"""

import random
from typing import assert_type

import pytest

from trunkline.kernel import (
    Alarms,
    Breaker,
    Deadline,
    Failed,
    FakeClock,
    Fault,
    Limiter,
    Open,
    Pool,
    PoolLimits,
    Priority,
    Raced,
    ServerLimits,
    Shed,
    guarded,
    race,
    run_in_virtual_time,
)

pytestmark = pytest.mark.anyio


async def length(replica: str, bound_s: float) -> int:
    del bound_s
    return len(replica)


async def count() -> int:
    return 7


def small(answer: int) -> Fault | None:
    return Fault("too small") if answer < 0 else None


def wordless(answer: str) -> Fault | None:
    return None if answer else Fault("no words")


def pool(clock: FakeClock) -> Pool[str]:
    return Pool(
        "typed", ["one"], limits=PoolLimits(try_timeout_s=1.0), clock=clock, rng=random.Random(1)
    )


async def test_a_call_has_the_type_of_its_act_or_failed() -> None:
    clock = FakeClock()
    deadline = Deadline.after(1.0, clock)

    answer = await pool(clock).call(
        length, deadline=deadline, is_repeatable=True, may_hedge=True, classify=small
    )

    assert_type(answer, int | Failed)
    assert answer == 3


async def test_what_a_pool_must_be_told_cannot_be_left_out() -> None:
    clock = FakeClock()
    deadline = Deadline.after(1.0, clock)

    with pytest.raises(TypeError):
        await pool(clock).call(length, is_repeatable=True)  # type: ignore[call-arg] # no deadline
    with pytest.raises(TypeError):
        await pool(clock).call(length, deadline=deadline)  # type: ignore[call-arg] # repeatable?


async def test_an_act_must_take_the_pools_replicas_and_classify_its_answers() -> None:
    clock = FakeClock()
    deadline = Deadline.after(1.0, clock)
    numbers: Pool[int] = Pool(
        "typed", [1], limits=PoolLimits(try_timeout_s=1.0), clock=clock, rng=random.Random(1)
    )

    with pytest.raises(TypeError):
        await numbers.call(length, deadline=deadline, is_repeatable=True)  # type: ignore[arg-type] # of strings
    await pool(clock).call(  # type: ignore[misc] # it classifies another type of answer
        length, deadline=deadline, is_repeatable=True, classify=wordless
    )


async def test_refusals_are_part_of_the_type() -> None:
    clock = FakeClock()
    deadline = Deadline.after(1.0, clock)
    limiter = Limiter(ServerLimits(1), clock=clock)

    assert_type(await guarded(Breaker(), count, clock=clock), int | Open)
    assert_type(
        await limiter.run(count, priority=Priority.READ, deadline=deadline),
        int | Shed,
    )
    raced = await race(
        count,
        count,
        delay_s=1.0,
        may_start=lambda: True,
        is_good=lambda number: number > 0,
        alarms=Alarms(),
    )
    assert_type(raced, Raced[int])


def test_virtual_time_keeps_the_type_of_the_result() -> None:
    assert_type(run_in_virtual_time(count()), int)
