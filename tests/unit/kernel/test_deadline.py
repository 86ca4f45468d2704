"""The deadline: between processes as milliseconds left, inside one as a context variable."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.kernel import (
    Deadline,
    DeadlinePassed,
    FakeClock,
    ambient_deadline,
    check_deadline,
    deadline_scope,
)


def test_the_next_hop_has_as_long_as_is_left_and_no_longer() -> None:
    clock = FakeClock()

    header = Deadline.after(1.2345, clock).header()

    assert header == "1234"
    assert Deadline.from_header(header, clock, cap_s=10.0).remaining_s() == 1.234


@pytest.mark.parametrize("text", [None, "", "soon", "-5", "1.5", "١٢", "9999999999", " 5"])
def test_a_header_that_says_nothing_leaves_the_cap(text: str | None) -> None:
    assert Deadline.from_header(text, FakeClock(), cap_s=2.0).remaining_s() == 2.0


def test_a_caller_cannot_ask_for_longer_than_the_cap() -> None:
    assert Deadline.from_header("60000", FakeClock(), cap_s=2.0).remaining_s() == 2.0


@pytest.mark.parametrize(("text", "left_s"), [("1500", 1.0), (None, 1.5), ("400", 0.0)])
def test_a_deadline_counts_from_when_the_request_came(text: str | None, left_s: float) -> None:
    deadline = Deadline.from_header(text, FakeClock(), cap_s=2.0, waited_s=0.5)

    assert deadline.remaining_s() == left_s
    assert deadline.has_passed() == (left_s == 0.0)


@given(st.text(max_size=20))
def test_no_header_is_too_strange_to_be_read(text: str) -> None:
    assert 0.0 <= Deadline.from_header(text, FakeClock(), cap_s=2.0).remaining_s() <= 2.0


@pytest.mark.anyio
async def test_a_deadline_that_has_passed_stops_the_work() -> None:
    clock = FakeClock()
    deadline = Deadline.after(1.0, clock)
    deadline.check()
    assert deadline.header() == "1000"

    await clock.advance(1.5)

    assert deadline.header() == "0"
    with pytest.raises(DeadlinePassed, match=r"0\.500 s ago"):
        deadline.check()


@pytest.mark.anyio
async def test_what_is_called_inside_sees_the_deadline_and_what_is_outside_does_not() -> None:
    clock = FakeClock()
    seen: list[Deadline | None] = []

    async def look() -> None:
        seen.append(ambient_deadline())

    with deadline_scope(Deadline.after(1.0, clock)) as deadline:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(look())
        check_deadline()
        await clock.advance(2.0)
        with pytest.raises(DeadlinePassed):
            check_deadline()

    assert seen == [deadline]
    assert ambient_deadline() is None
    check_deadline()


def test_an_inner_deadline_can_only_be_earlier() -> None:
    clock = FakeClock()

    with deadline_scope(Deadline.after(1.0, clock)) as outer:
        with deadline_scope(Deadline.after(5.0, clock)) as inner:
            assert inner is outer
        with deadline_scope(Deadline.after(0.5, clock)) as inner:
            assert ambient_deadline() is inner
            assert inner.remaining_s() == 0.5
