"""The hedge: a second try after a while, the first good answer wins, the other one is ended."""

import asyncio

import pytest

from trunkline.kernel import (
    Alarms,
    Raced,
    RecentLatencies,
    VirtualClock,
    hedge_delay_s,
    race,
    run_in_virtual_time,
)

DELAY_S = 0.1


class Attempts:
    """Tries that take their time, and a record of those that were begun and those cancelled."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []

    async def attempt(self, outcome: str, after_s: float) -> str:
        self.begun.append(outcome)
        try:
            await asyncio.sleep(after_s)
        except asyncio.CancelledError:
            self.cancelled.append(outcome)
            raise
        if outcome == "bug":
            raise LookupError("a bug in the act")
        return outcome

    async def race(
        self, first: tuple[str, float], second: tuple[str, float] | None
    ) -> tuple[Raced[str], float]:
        raced = await race(
            lambda: self.attempt(*first),
            lambda: self.attempt(*(second or first)),
            delay_s=DELAY_S,
            may_start=lambda: second is not None,
            is_good=lambda outcome: not outcome.startswith("bad"),
            alarms=Alarms(),
        )
        return raced, round(VirtualClock().monotonic(), 6)


@pytest.mark.parametrize(
    ("first", "second", "raced", "at_s"),
    [
        (("fast", 0.05), ("unneeded", 1.0), Raced("fast", is_overtaken=False), 0.05),
        (("slow", 0.2), ("slower", 1.0), Raced("slow", is_overtaken=False), 0.2),
        (("frozen", 60.0), ("quick", 0.05), Raced("quick", is_overtaken=True), 0.15),
        (("slow", 0.2), None, Raced("slow", is_overtaken=False), 0.2),
        (("bad", 0.05), ("unneeded", 1.0), Raced("bad", is_overtaken=False), 0.05),
        (("bad", 0.2), ("good", 0.5), Raced("good", is_overtaken=False), 0.6),
        (("good", 0.5), ("bad", 0.1), Raced("good", is_overtaken=False), 0.5),
        (("bad first", 0.2), ("bad second", 0.2), Raced("bad second", is_overtaken=False), 0.3),
    ],
)
def test_the_first_good_outcome_counts(
    first: tuple[str, float], second: tuple[str, float] | None, raced: Raced[str], at_s: float
) -> None:
    assert run_in_virtual_time(Attempts().race(first, second)) == (raced, at_s)


def test_the_loser_has_ended_when_the_race_is_over() -> None:
    attempts = Attempts()

    run_in_virtual_time(attempts.race(("frozen", 60.0), ("quick", 0.05)))
    run_in_virtual_time(attempts.race(("slow", 0.2), ("slower", 60.0)))

    assert attempts.cancelled == ["frozen", "slower"]


def test_no_second_try_begins_before_its_time() -> None:
    attempts = Attempts()

    run_in_virtual_time(attempts.race(("fast", 0.099), ("unneeded", 1.0)))

    assert attempts.begun == ["fast"]


def test_a_second_try_that_is_needless_the_moment_it_may_begin_does_not() -> None:
    attempts, allowed = Attempts(), list[float]()

    async def main() -> Raced[str]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        loop.call_later(DELAY_S, answer.set_result, "in time")

        async def first() -> str:
            return await answer

        def may_start() -> bool:
            allowed.append(loop.time())
            return True

        return await race(
            first,
            lambda: attempts.attempt("needless", 1.0),
            delay_s=DELAY_S,
            may_start=may_start,
            is_good=bool,
            alarms=Alarms(),
        )

    assert run_in_virtual_time(main()) == Raced("in time", is_overtaken=False)
    assert allowed == [DELAY_S]
    assert attempts.begun == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("bug", 0.01), ("unneeded", 1.0)),
        (("bug", 0.2), ("running", 1.0)),
        (("running", 1.0), ("bug", 0.1)),
    ],
)
def test_a_bug_in_either_try_is_raised_as_it_is(
    first: tuple[str, float], second: tuple[str, float]
) -> None:
    attempts = Attempts()

    with pytest.raises(LookupError, match="a bug in the act"):
        run_in_virtual_time(attempts.race(first, second))


def test_whoever_ends_the_race_ends_both_tries() -> None:
    attempts = Attempts()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await attempts.race(("first", 60.0), ("second", 60.0))

    run_in_virtual_time(main())

    assert sorted(attempts.cancelled) == ["first", "second"]


def test_the_delay_is_what_nineteen_in_twenty_stay_under() -> None:
    latencies = RecentLatencies()
    assert hedge_delay_s(latencies) is None

    for number in range(100):
        latencies.record(number / 1000.0)

    assert hedge_delay_s(latencies) == 0.095


def test_the_delay_is_never_shorter_than_a_timer_can_tell() -> None:
    latencies = RecentLatencies()
    for _ in range(100):
        latencies.record(0.00001)

    assert hedge_delay_s(latencies) == 0.001
