"""The pool: another replica next, only for what may be repeated, and never past the deadline."""

import asyncio
import random
from collections.abc import Callable

import pytest

from trunkline.kernel import Deadline, Failed, FakeClock, Pool, PoolLimits

pytestmark = pytest.mark.anyio


def dice() -> random.Random:
    return random.Random(7)


class LongestWait(random.Random):
    """Dice for which every jittered wait is as long as it can be."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


class Service:
    """Three replicas, of which those in `down` refuse the connection; `on_act` sees every try."""

    def __init__(self, *down: str) -> None:
        self.down = set(down)
        self.asked: list[str] = []
        self.bounds: list[float] = []
        self.on_act: Callable[[], None] = lambda: None

    async def act(self, replica: str, bound_s: float) -> str:
        self.asked.append(replica)
        self.bounds.append(bound_s)
        self.on_act()
        if replica in self.down:
            raise ConnectionRefusedError(f"{replica} is down")
        return f"answer of {replica}"


def pool(
    clock: FakeClock, *, rng: random.Random | None = None, try_timeout_s: float = 5.0
) -> Pool[str]:
    limits = PoolLimits(try_timeout_s, backoff_base_s=0.1, backoff_cap_s=10.0)
    return Pool("test", ["a", "b", "c"], limits=limits, clock=clock, rng=rng or dice())


class Caller:
    """One call under way, in virtual time."""

    def __init__(self) -> None:
        self.answer: str | Failed | None = None

    async def call(
        self, pool: Pool[str], service: Service, *, deadline: Deadline, is_repeatable: bool = True
    ) -> None:
        self.answer = await pool.call(service.act, deadline=deadline, is_repeatable=is_repeatable)


async def test_the_first_replica_that_answers_is_enough() -> None:
    clock, service = FakeClock(), Service()

    answer = await pool(clock).call(
        service.act, deadline=Deadline.after(1.0, clock), is_repeatable=True
    )

    assert answer == f"answer of {service.asked[0]}"
    assert len(service.asked) == 1


async def test_every_replica_gets_its_share() -> None:
    clock, service = FakeClock(), Service()
    calls = pool(clock)

    for _ in range(300):
        await calls.call(service.act, deadline=Deadline.after(1.0, clock), is_repeatable=True)

    assert all(80 < service.asked.count(replica) < 120 for replica in "abc")


async def test_what_may_be_repeated_is_tried_on_another_replica() -> None:
    clock, service, caller = FakeClock(), Service("a", "b"), Caller()

    async with asyncio.TaskGroup() as tasks:
        deadline = Deadline.after(5.0, clock)
        tasks.create_task(caller.call(pool(clock), service, deadline=deadline))
        await clock.advance(1.0)

    assert caller.answer == "answer of c"
    assert len(service.asked) == len(set(service.asked))


async def test_what_may_not_be_repeated_is_tried_once_and_said_to_have_been_sent() -> None:
    clock, service = FakeClock(), Service("a", "b", "c")

    answer = await pool(clock).call(
        service.act, deadline=Deadline.after(5.0, clock), is_repeatable=False
    )

    assert isinstance(answer, Failed)
    assert (answer.tries, answer.sent) == (1, True)
    assert "is down" in answer.reason


async def test_tries_are_counted_and_end() -> None:
    clock, service, caller = FakeClock(), Service("a", "b", "c"), Caller()
    calls = pool(clock)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(caller.call(calls, service, deadline=Deadline.after(60.0, clock)))
        await clock.advance(60.0)

    assert isinstance(caller.answer, Failed)
    assert (caller.answer.tries, caller.answer.sent) == (3, True)
    assert (calls.calls, calls.failures) == (1, 3)


async def test_a_replica_that_failed_is_passed_over_while_another_answers() -> None:
    clock, service, caller = FakeClock(), Service("b"), Caller()
    calls = pool(clock)
    await clock.advance(1.0)

    for _ in range(6):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(caller.call(calls, service, deadline=Deadline.after(5.0, clock)))
            await clock.advance(1.0)

    assert service.asked.count("b") == 1
    assert caller.answer in {"answer of a", "answer of c"}


async def test_a_silent_replica_is_given_up_after_the_bound_of_one_try() -> None:
    clock, silence = FakeClock(), asyncio.Event()

    async def act(replica: str, bound_s: float) -> str:
        del replica, bound_s
        await silence.wait()
        return "too late"

    answer = await pool(clock, try_timeout_s=0.001).call(
        act, deadline=Deadline.after(5.0, clock), is_repeatable=False
    )

    assert isinstance(answer, Failed)
    assert answer.reason == "no answer in 0.001 s"


async def test_a_deadline_that_has_passed_sends_nothing() -> None:
    clock, service = FakeClock(), Service()

    answer = await pool(clock).call(
        service.act, deadline=Deadline.after(0.0, clock), is_repeatable=True
    )

    assert isinstance(answer, Failed)
    assert (answer.tries, answer.sent) == (0, False)
    assert service.asked == []


async def test_one_try_is_never_given_longer_than_the_deadline_leaves() -> None:
    clock, service = FakeClock(), Service()

    await pool(clock, try_timeout_s=5.0).call(
        service.act, deadline=Deadline.after(0.5, clock), is_repeatable=True
    )

    assert service.bounds == [0.5]


async def test_a_wait_that_reached_the_deadline_is_followed_by_no_try() -> None:
    clock, service, caller = FakeClock(), Service("a", "b", "c"), Caller()

    async with asyncio.TaskGroup() as tasks:
        deadline = Deadline.after(0.05, clock)
        calls = pool(clock, rng=LongestWait(7))
        tasks.create_task(caller.call(calls, service, deadline=deadline))
        await clock.advance(1.0)

    assert isinstance(caller.answer, Failed)
    assert (caller.answer.tries, len(service.asked)) == (1, 1)


async def test_each_wait_between_tries_may_be_twice_as_long_as_the_one_before() -> None:
    clock, service, caller = FakeClock(), Service("a", "b", "c"), Caller()
    moments: list[float] = []
    service.on_act = lambda: moments.append(clock.monotonic())

    async with asyncio.TaskGroup() as tasks:
        calls = pool(clock, rng=LongestWait(7))
        tasks.create_task(caller.call(calls, service, deadline=Deadline.after(9.0, clock)))
        await clock.advance(5.0)

    assert moments == pytest.approx([0.0, 0.1, 0.3])


def test_a_pool_of_nothing_is_a_mistake() -> None:
    limits = PoolLimits(try_timeout_s=1.0)

    with pytest.raises(ValueError, match="'empty' has no replicas"):
        Pool[str]("empty", [], limits=limits, clock=FakeClock(), rng=dice())
