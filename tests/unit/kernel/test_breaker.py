"""The breaker: opens when half fails, lets one probe pass a term, and terms double."""

import asyncio

import pytest

from trunkline.kernel import Breaker, FakeClock, Open, guarded


def opened(*, now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(20):
        breaker.fail(began=now, now=now)
    return breaker


def test_half_of_twenty_opens_it_and_nineteen_failures_do_not() -> None:
    breaker = Breaker()
    for _ in range(19):
        breaker.fail(began=0.0, now=0.0)
    assert breaker.ask(0.0) is None

    breaker.succeed(began=0.0, now=0.0)
    assert breaker.ask(0.0) is None

    breaker.fail(began=0.0, now=0.0)
    assert breaker.ask(0.0) == Open(retry_after_s=5.0)


def test_failures_of_long_ago_do_not_open_it() -> None:
    breaker = Breaker()

    for number in range(60):
        breaker.fail(began=0.0, now=float(number))

    assert breaker.ask(60.0) is None


def test_after_its_term_one_caller_passes_and_the_others_do_not() -> None:
    breaker = opened()

    assert isinstance(breaker.ask(4.9), Open)
    assert breaker.ask(5.0) is None
    assert breaker.ask(5.0) == Open(retry_after_s=5.0)


def test_a_good_probe_closes_it() -> None:
    breaker = opened()
    assert breaker.ask(5.0) is None

    breaker.succeed(began=5.0, now=5.1)

    assert breaker.ask(5.1) is None
    assert breaker.ask(5.1) is None
    assert repr(breaker) == "<Breaker closed>"


def test_bad_probes_double_the_term_up_to_a_minute() -> None:
    breaker = opened()
    terms_s: list[float] = []
    now = 0.0

    for _ in range(6):
        refusal = breaker.ask(now)
        assert refusal is not None
        terms_s.append(refusal.retry_after_s)
        now += refusal.retry_after_s
        assert breaker.ask(now) is None
        breaker.fail(began=now, now=now)

    assert terms_s == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_late_news_of_calls_from_before_it_opened_changes_nothing() -> None:
    breaker = opened()

    breaker.succeed(began=-1.0, now=5.5)
    breaker.fail(began=-1.0, now=5.5)

    assert breaker.ask(5.5) is None


@pytest.mark.anyio
async def test_a_failing_act_is_refused_in_the_end_and_its_errors_pass_through() -> None:
    clock, breaker = FakeClock(), Breaker()

    async def act() -> str:
        raise ConnectionRefusedError("nobody listens")

    for _ in range(20):
        with pytest.raises(ConnectionRefusedError):
            await guarded(breaker, act, clock=clock)

    assert await guarded(breaker, act, clock=clock) == Open(5.0)


@pytest.mark.anyio
async def test_a_cancelled_probe_leaves_room_for_the_next() -> None:
    clock, breaker = FakeClock(), opened()
    await clock.advance(5.0)

    async def hang() -> str:
        await asyncio.Event().wait()
        return ""

    async def answer() -> str:
        return "well"

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await guarded(breaker, hang, clock=clock)

    assert await guarded(breaker, answer, clock=clock) == "well"
