"""Virtual time: an hour passes when nobody has anything to do, and at no other time."""

import asyncio

import pytest

from trunkline.kernel import StandStill, VirtualClock, run_in_virtual_time


def test_a_day_of_waiting_takes_no_time() -> None:
    async def main() -> tuple[float, float]:
        clock = VirtualClock(wall=100.0)
        await clock.sleep(86_400.0)
        return clock.monotonic(), clock.wall()

    assert run_in_virtual_time(main()) == (86_400.0, 86_500.0)


def test_timers_and_timeouts_of_asyncio_run_in_it() -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        asyncio.get_running_loop().call_later(2.0, seen.append, "timer")
        try:
            async with asyncio.timeout(3.0):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append(f"timeout at {VirtualClock().monotonic():.3f}")
        return seen

    assert run_in_virtual_time(main()) == ["timer", "timeout at 3.000"]


def test_waiting_for_what_never_comes_is_told_and_not_waited_for() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StandStill):
        run_in_virtual_time(main())
