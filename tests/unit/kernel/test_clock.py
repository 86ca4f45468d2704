"""Virtual time: it stands still, moves when told, and wakes each sleeper at its own moment."""

import asyncio

import pytest

from trunkline.kernel import Clock, Deadline, FakeClock, SystemClock

pytestmark = pytest.mark.anyio


async def _sleep(clock: Clock, seconds: float, woken: list[tuple[float, float]]) -> None:
    await clock.sleep(seconds)
    woken.append((seconds, clock.monotonic()))


async def test_sleepers_are_woken_in_the_order_of_their_moments() -> None:
    clock = FakeClock()
    woken: list[tuple[float, float]] = []

    async with asyncio.TaskGroup() as tasks:
        for seconds in (3.0, 1.0, 2.0, 1.0):
            tasks.create_task(_sleep(clock, seconds, woken))
        await clock.advance(2.5)
        assert woken == [(1.0, 1.0), (1.0, 1.0), (2.0, 2.0)]
        await clock.advance(0.5)

    assert woken[3:] == [(3.0, 3.0)]


async def test_a_sleeper_that_sleeps_again_is_woken_again_within_one_advance() -> None:
    clock = FakeClock()
    woken: list[tuple[float, float]] = []

    async def twice() -> None:
        await _sleep(clock, 1.0, woken)
        await _sleep(clock, 1.0, woken)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(twice())
        await clock.advance(2.0)

        assert woken == [(1.0, 1.0), (1.0, 2.0)]


async def test_time_stands_still_until_it_is_moved() -> None:
    clock = FakeClock(wall=100.0)

    await clock.sleep(0.0)
    assert (clock.wall(), clock.monotonic()) == (100.0, 0.0)

    await clock.advance(5.0)
    assert (clock.wall(), clock.monotonic()) == (105.0, 5.0)


async def test_time_never_goes_back_even_when_two_move_it_at_once() -> None:
    clock = FakeClock()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(clock.advance(5.0))
        tasks.create_task(clock.advance(0.0))

    assert clock.monotonic() == 5.0


async def test_a_step_of_the_wall_clock_does_not_move_the_other_one() -> None:
    clock = FakeClock(wall=100.0)

    clock.jump_wall(-50.0)

    assert (clock.wall(), clock.monotonic()) == (50.0, 0.0)


async def test_the_clock_of_the_machine_never_goes_back() -> None:
    clock = SystemClock()

    before = clock.monotonic()
    await clock.sleep(0.0)

    assert clock.monotonic() >= before
    assert clock.wall() > 1_600_000_000.0


async def test_a_deadline_passes_when_its_moment_comes_and_never_owes_time() -> None:
    clock = FakeClock()
    deadline = Deadline.after(2.0, clock)

    await clock.advance(1.5)
    assert (deadline.remaining_s(), deadline.has_passed()) == (0.5, False)

    await clock.advance(0.5)
    assert (deadline.remaining_s(), deadline.has_passed()) == (0.0, True)

    await clock.advance(9.0)
    assert deadline.remaining_s() == 0.0


async def test_a_deadline_is_deaf_to_steps_of_the_wall_clock() -> None:
    clock = FakeClock()
    deadline = Deadline.after(2.0, clock)

    clock.jump_wall(3600.0)

    assert deadline.remaining_s() == 2.0
