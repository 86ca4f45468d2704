"""Alarms and bounds: many on one timer, each at its own moment."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.kernel import Alarms, Bound, VirtualClock, run_in_virtual_time


def test_each_alarm_rings_at_its_own_moment_and_cleared_ones_never() -> None:
    async def main() -> list[tuple[str, float]]:
        alarms, clock, rung = Alarms(), VirtualClock(), list[tuple[str, float]]()

        def ring(name: str) -> None:
            rung.append((name, clock.monotonic()))

        alarms.set(3.0, lambda: ring("third"))
        cleared = alarms.set(0.5, lambda: ring("cleared"))
        alarms.set(1.0, lambda: ring("first"))
        alarms.set(2.0, lambda: ring("second"))
        alarms.clear(cleared)
        await clock.sleep(10.0)
        alarms.clear(cleared)
        return rung

    assert run_in_virtual_time(main()) == [("first", 1.0), ("second", 2.0), ("third", 3.0)]


@given(st.lists(st.floats(0.0, 20.0), min_size=1, max_size=30))
def test_no_alarm_rings_early_nor_more_than_a_millisecond_late(delays_s: list[float]) -> None:
    async def main() -> dict[float, float]:
        alarms, clock, rung = Alarms(), VirtualClock(), dict[float, float]()

        def ring(delay_s: float) -> Callable[[], None]:
            return lambda: rung.update({delay_s: clock.monotonic()})

        for delay_s in delays_s:
            alarms.set(delay_s, ring(delay_s))
        await clock.sleep(21.0)
        return rung

    rung = run_in_virtual_time(main())

    assert rung.keys() == set(delays_s)
    assert all(-1e-6 <= at - delay_s <= 0.001 + 1e-6 for delay_s, at in rung.items())


def test_an_alarm_may_be_set_while_another_rings() -> None:
    async def main() -> list[float]:
        alarms, clock, rung = Alarms(), VirtualClock(), list[float]()

        def ring() -> None:
            rung.append(clock.monotonic())
            if len(rung) < 3:
                alarms.set(1.0, ring)

        alarms.set(1.0, ring)
        await clock.sleep(10.0)
        return rung

    assert run_in_virtual_time(main()) == [1.0, 2.0, 3.0]


def test_alarms_work_again_on_the_next_loop() -> None:
    alarms = Alarms()

    async def main() -> float:
        with pytest.raises(TimeoutError), Bound(alarms, 1.0):
            await asyncio.Event().wait()
        alarms.set(5.0, lambda: None)  # left behind when the loop ends
        return asyncio.get_running_loop().time()

    assert [run_in_virtual_time(main()), run_in_virtual_time(main())] == [1.0, 1.0]


def test_what_ends_in_time_is_left_alone() -> None:
    async def main() -> bool:
        with Bound(Alarms(), 1.0) as bound:
            await asyncio.sleep(0.5)
        await asyncio.sleep(2.0)
        return bound.has_expired

    assert run_in_virtual_time(main()) is False


def test_inner_and_outer_bounds_each_end_what_is_theirs() -> None:
    async def main() -> list[str]:
        alarms, seen = Alarms(), list[str]()
        try:
            with Bound(alarms, 2.0):
                try:
                    with Bound(alarms, 1.0):
                        await asyncio.Event().wait()
                except TimeoutError:
                    seen.append("inner")
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("outer")
        return seen

    assert run_in_virtual_time(main()) == ["inner", "outer"]


def test_a_bound_does_not_hide_that_somebody_else_wants_the_task_to_end() -> None:
    async def bounded(alarms: Alarms) -> None:
        with Bound(alarms, 1.0):
            await asyncio.Event().wait()

    async def main() -> bool:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(bounded(Alarms()))
            # At the same moment as the bound, and before it.
            asyncio.get_running_loop().call_at(1.0, task.cancel)
        return task.cancelled()

    assert run_in_virtual_time(main())
