"""The pool in virtual time: whom it asks, how long it waits, what it hedges and what it spends."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from trunkline.kernel import (
    BudgetLimits,
    Deadline,
    Failed,
    Fault,
    Pool,
    PoolLimits,
    VirtualClock,
    is_retried_above,
    retried_above,
    run_in_virtual_time,
)

ADAPTIVE = PoolLimits(try_timeout_cap_s=0.25)
NORMAL_S = 0.02


class World:
    """Replicas named by letters, with a way to behave for each, asked through one pool."""

    def __init__(self, replicas: str = "abcde", limits: PoolLimits = ADAPTIVE) -> None:
        self.clock = VirtualClock()
        self.asked: Counter[str] = Counter()
        self.bounds: list[float] = []
        self.behave: dict[str, Callable[[], Coroutine[Any, Any, str]]] = {}
        self.limits = limits
        self.replicas = list(replicas)

    def pool(self) -> Pool[str]:
        return Pool(
            "test", self.replicas, limits=self.limits, clock=self.clock, rng=random.Random(3)
        )

    async def act(self, replica: str, bound_s: float) -> str:
        self.asked[replica] += 1
        self.bounds.append(bound_s)
        if replica in self.behave:
            return await self.behave[replica]()
        await asyncio.sleep(NORMAL_S)
        return f"answer of {replica}"

    async def ask(
        self,
        pool: Pool[str],
        *,
        times: int = 1,
        is_repeatable: bool = True,
        may_hedge: bool = False,
        classify: Callable[[str], Fault | None] | None = None,
    ) -> list[str | Failed]:
        """So many calls, one after the other."""
        answers: list[str | Failed] = []
        for _ in range(times):
            answer = await pool.call(
                self.act,
                deadline=Deadline.after(2.0, self.clock),
                is_repeatable=is_repeatable,
                may_hedge=may_hedge,
                classify=classify,
            )
            answers.append(answer)
        return answers


async def freeze() -> str:
    await asyncio.Event().wait()
    return ""


async def refuse() -> str:
    raise ConnectionRefusedError("down")


def test_a_replica_that_fails_fast_is_left_alone() -> None:
    world = World()
    world.behave["a"] = refuse

    async def main() -> list[str | Failed]:
        return await world.ask(world.pool(), times=500)

    answers = run_in_virtual_time(main())

    assert not any(isinstance(answer, Failed) for answer in answers)
    assert world.asked["a"] <= 5


def test_a_slow_replica_gets_little() -> None:
    world = World()

    async def slowly() -> str:
        await asyncio.sleep(10 * NORMAL_S)
        return "slow"

    world.behave["a"] = slowly

    async def main() -> None:
        await world.ask(world.pool(), times=500)

    run_in_virtual_time(main())

    assert world.asked["a"] <= 5


def test_the_bound_of_a_try_follows_what_was_observed() -> None:
    world = World()

    async def main() -> None:
        await world.ask(world.pool(), times=200)

    run_in_virtual_time(main())

    assert world.bounds[0] == 0.25
    assert world.bounds[-1] == pytest.approx(3 * NORMAL_S)


def test_a_fixed_bound_is_not_shortened_by_past_speed() -> None:
    world = World("a", PoolLimits(try_timeout_s=1.5))

    async def main() -> None:
        await world.ask(world.pool(), times=200)

    run_in_virtual_time(main())

    assert set(world.bounds) == {1.5}


def test_a_service_that_became_slow_for_good_gets_longer_bounds_again() -> None:
    world = World("ab", PoolLimits(try_timeout_cap_s=5.0))

    async def main() -> list[str | Failed]:
        pool = world.pool()
        await world.ask(pool, times=1000)

        async def slowly() -> str:
            await asyncio.sleep(0.3)
            return "slow"

        world.behave = {"a": slowly, "b": slowly}
        await world.ask(pool, times=300)
        return await world.ask(pool)

    answers = run_in_virtual_time(main())

    assert answers == ["slow"]


def test_a_frozen_replica_costs_one_bound_and_then_another_one_answers() -> None:
    world = World("ab")

    async def main() -> tuple[list[str | Failed], float]:
        pool = world.pool()
        await world.ask(pool, times=100)
        world.behave = {"a": freeze}
        began = world.clock.monotonic()
        answers = await world.ask(pool, times=20)
        return answers, world.clock.monotonic() - began

    answers, took_s = run_in_virtual_time(main())

    assert set(answers) == {"answer of b"}
    assert took_s < 20 * NORMAL_S + 0.1


def test_callers_in_a_hurry_do_not_spoil_the_name_of_a_replica() -> None:
    world = World("ab")

    async def main() -> str:
        pool = world.pool()
        for _ in range(50):
            await pool.call(
                world.act, deadline=Deadline.after(0.001, world.clock), is_repeatable=False
            )
        await world.ask(pool, times=50)
        return repr(pool)

    text = run_in_virtual_time(main())

    assert "0 ejected" in text
    assert "50 timeouts" in text
    assert min(world.asked.values()) > 30


def test_a_hedge_answers_for_a_frozen_replica_before_its_bound() -> None:
    generous = BudgetLimits(ratio=1.0, per_s=1.0)
    world = World("ab", PoolLimits(try_timeout_cap_s=0.25, hedge_budget=generous))

    async def main() -> tuple[Pool[str], float]:
        pool = world.pool()
        await world.ask(pool, times=100)
        world.behave = {"a": freeze}
        slowest_s = 0.0
        for _ in range(10):
            began = world.clock.monotonic()
            await world.ask(pool, may_hedge=True)
            slowest_s = max(slowest_s, world.clock.monotonic() - began)
        return pool, slowest_s

    pool, slowest_s = run_in_virtual_time(main())

    assert slowest_s == pytest.approx(2 * NORMAL_S, abs=0.0011)
    assert (pool.hedges_won, pool.timeouts) == (1, 0)


def test_hedges_stay_within_their_budget() -> None:
    world = World(limits=PoolLimits(try_timeout_cap_s=5.0))
    dice = random.Random(9)

    async def erratic() -> str:
        await asyncio.sleep(dice.choice([NORMAL_S, 1.0]))
        return "at last"

    async def main() -> Pool[str]:
        pool = world.pool()
        await world.ask(pool, times=100, may_hedge=True)
        world.behave = dict.fromkeys("abcde", erratic)
        await world.ask(pool, times=300, may_hedge=True)
        return pool

    pool = run_in_virtual_time(main())

    assert 0 < pool.hedges <= 0.05 * pool.calls
    assert pool.unaffordable > 0


def test_an_act_that_may_not_be_repeated_may_not_be_hedged() -> None:
    world = World()

    async def main() -> None:
        await world.ask(world.pool(), is_repeatable=False, may_hedge=True)

    with pytest.raises(ValueError, match="must be repeatable"):
        run_in_virtual_time(main())


def test_when_everything_fails_retries_stay_within_their_budget() -> None:
    world = World(limits=PoolLimits(try_timeout_cap_s=0.25, retry_budget=BudgetLimits(0.1, 0.0)))
    world.behave = dict.fromkeys("abcde", refuse)

    async def main() -> tuple[Pool[str], list[str | Failed]]:
        pool = world.pool()
        return pool, await world.ask(pool, times=300)

    pool, answers = run_in_virtual_time(main())

    assert all(isinstance(answer, Failed) for answer in answers)
    assert 320 <= world.asked.total() <= 330
    assert pool.retries == world.asked.total() - 300
    assert pool.unaffordable > 0


def test_only_the_outermost_layer_retries() -> None:
    world = World()
    world.behave = dict.fromkeys("abcde", refuse)

    async def main() -> list[str | Failed]:
        inner, outer = world.pool(), Pool(
            "outer", ["x", "y", "z"], limits=ADAPTIVE, clock=world.clock, rng=random.Random(1)
        )  # fmt: skip

        async def through(replica: str, bound_s: float) -> str:
            del replica, bound_s
            assert is_retried_above()
            answer = (await world.ask(inner))[0]
            if isinstance(answer, Failed):
                raise OSError(answer.reason)
            return answer

        failed = await outer.call(
            through, deadline=Deadline.after(2.0, world.clock), is_repeatable=True
        )
        assert not is_retried_above()
        with retried_above():
            return [failed, *await world.ask(inner)]

    outer_failed, inner_failed = run_in_virtual_time(main())

    assert isinstance(outer_failed, Failed)
    assert outer_failed.tries == 3
    assert isinstance(inner_failed, Failed)
    assert inner_failed.tries == 1
    assert world.asked.total() == 3 + 1


def busy(answer: str) -> Fault | None:
    return Fault("busy", retry_after_s=20.0) if answer == "busy" else None


def test_a_faulty_answer_is_retried_elsewhere_and_its_sender_left_alone() -> None:
    world = World("ab")

    async def say_busy() -> str:
        return "busy"

    world.behave["a"] = say_busy

    async def main() -> list[str | Failed]:
        return await world.ask(world.pool(), times=100, classify=busy)

    answers = run_in_virtual_time(main())

    assert set(answers) == {"answer of b"}
    assert world.asked["a"] == 1


def test_if_nothing_better_comes_the_caller_gets_the_faulty_answer_itself() -> None:
    world = World("ab")

    async def say_busy() -> str:
        return "busy"

    world.behave = {"a": say_busy, "b": say_busy}

    async def main() -> list[str | Failed]:
        pool = world.pool()
        return [
            *await world.ask(pool, classify=busy),
            *await world.ask(pool, is_repeatable=False, classify=busy),
        ]

    assert run_in_virtual_time(main()) == ["busy", "busy"]
    assert world.asked.total() == 3 + 1


def test_a_new_replica_starts_like_the_others_and_old_ones_keep_their_record() -> None:
    world = World("ab")
    world.behave["a"] = refuse

    async def main() -> None:
        pool = world.pool()
        await world.ask(pool, times=50)
        world.asked.clear()
        pool.replace(["a", "b", "c"])
        await world.ask(pool, times=100)

    run_in_virtual_time(main())

    assert world.asked["a"] <= 2
    assert world.asked["c"] > 20


def test_a_bug_in_an_act_passes_through_and_says_nothing_about_the_replica() -> None:
    world = World("a")

    async def bug() -> str:
        raise LookupError("a bug")

    world.behave["a"] = bug

    async def main() -> Pool[str]:
        pool = world.pool()
        with pytest.raises(LookupError):
            await world.ask(pool)
        return pool

    pool = run_in_virtual_time(main())

    assert (pool.calls, pool.failures) == (1, 0)


def test_whoever_cancels_a_call_ends_its_try() -> None:
    world = World("ab")
    world.behave = {"a": freeze, "b": freeze}

    async def main() -> Pool[str]:
        pool = world.pool()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await world.ask(pool)
        return pool

    assert " 0 under way" in repr(run_in_virtual_time(main()))


def test_a_pool_says_how_it_is() -> None:
    world = World("abc")
    world.behave["a"] = refuse

    async def main() -> str:
        pool = world.pool()
        for _ in range(30):  # all at once, so that the failing one is asked often enough
            async with asyncio.TaskGroup() as tasks:
                for _ in range(10):
                    tasks.create_task(world.ask(pool))
        return repr(pool)

    text = run_in_virtual_time(main())

    assert text.startswith("<Pool 'test': 3 replicas, ")
    assert "300 calls" in text
    assert "a try may take 0.06 s" in text


@pytest.mark.parametrize("bounds", [{}, {"try_timeout_s": 1.0, "try_timeout_cap_s": 1.0}])
def test_the_bound_of_a_try_is_either_fixed_or_adaptive(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="either"):
        PoolLimits(**bounds)  # type: ignore[arg-type] # floats for floats, by name


def test_a_pool_without_a_single_try_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="one try at least"):
        PoolLimits(try_timeout_s=1.0, tries_max=0)
