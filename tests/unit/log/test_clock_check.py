"""Wall clocks that are wrong or that jump: nothing answered 201 is closed, and nothing ages by it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.log.conftest import Host
from tests.unit.log.scripted_log import Fate, Publish, ScriptedLog, walk

from trunkline.kernel import FakeClock
from trunkline.log.append import CLOCK_OFF, Appended, Found, NotStored, Uncertain
from trunkline.log.clock_check import CLOCK_OFF_MAX_S, Ages, apart_s
from trunkline.log.limits import ANSWER_MAX_S, LATE_MAX_S

pytestmark = pytest.mark.anyio

NAME = "3" * 32
FIRST, SECOND, *_ = walk(NAME)
HOURS_3 = 3 * 3600.0
DAY = 24 * 3600.0


async def test_the_bounds_leave_room_for_two_wrong_clocks_and_a_slow_answer() -> None:
    assert 2 * CLOCK_OFF_MAX_S + ANSWER_MAX_S < LATE_MAX_S


@pytest.mark.parametrize("jump_s", [HOURS_3, -HOURS_3])
async def test_a_clock_that_jumps_ages_nothing(jump_s: float) -> None:
    clock = FakeClock()
    ages = Ages(clock)
    stamp = clock.wall()
    await clock.advance(60.0)

    clock.jump_wall(jump_s)
    await clock.advance(60.0)

    assert ages.age_s(stamp) <= 120.0
    later = clock.wall()
    await clock.advance(5.0)
    assert ages.age_s(later) == pytest.approx(5.0)


async def test_a_clock_that_jumps_and_is_put_right_again_ages_nothing() -> None:
    clock = FakeClock()
    ages = Ages(clock)
    stamp = clock.wall()
    for jump_s in (HOURS_3, -HOURS_3):
        clock.jump_wall(jump_s)
        await clock.advance(60.0)
        ages.age_s(clock.wall())

    assert ages.age_s(stamp) == pytest.approx(120.0)


async def test_what_another_run_stamped_is_as_old_as_the_clock_says() -> None:
    clock = FakeClock()
    ages = Ages(clock)

    assert ages.age_s(clock.wall() - DAY) == pytest.approx(DAY)
    assert ages.age_s(clock.wall() + DAY) == 0.0


@given(
    st.lists(
        st.tuples(st.floats(0.0, 600.0), st.floats(-DAY, DAY).filter(lambda jump: abs(jump) > 2.0)),
        max_size=8,
    ),
    st.integers(0, 8),
)
async def test_nothing_is_ever_older_than_it_is(
    steps: list[tuple[float, float]], stamped_behind: int
) -> None:
    clock = FakeClock()
    ages = Ages(clock)
    stamp, stamped_at = clock.wall(), clock.monotonic()
    for number, (waited_s, jump_s) in enumerate(steps):
        if number == stamped_behind:
            stamp, stamped_at = clock.wall(), clock.monotonic()
        await clock.advance(waited_s)
        clock.jump_wall(jump_s)

        assert 0.0 <= ages.age_s(stamp) <= clock.monotonic() - stamped_at + 1e-3


def test_an_answer_that_took_long_blames_no_clock() -> None:
    assert apart_s(asked_at=100.0, said=103.0, answered_at=105.0) == 0.0
    assert apart_s(asked_at=100.0, said=108.0, answered_at=105.0) == 3.0
    assert apart_s(asked_at=100.0, said=98.0, answered_at=105.0) == -2.0


async def test_a_host_whose_clock_is_wrong_creates_nothing_until_it_is_right_again(
    host: Host, log: ScriptedLog
) -> None:
    log.clocks_off_s = dict.fromkeys(range(log.shards), CLOCK_OFF_MAX_S + 1.0)

    assert await host.create(NAME) == NotStored(CLOCK_OFF)
    assert log.published == []

    log.clocks_off_s.clear()
    assert isinstance(await host.create(NAME), Appended)


@pytest.mark.parametrize("off_s", [HOURS_3, -HOURS_3])
async def test_one_shard_whose_clock_is_wrong_is_passed_over(
    host: Host, log: ScriptedLog, off_s: float
) -> None:
    log.clocks_off_s[FIRST] = off_s

    created = await host.created(NAME)

    assert (created.shard, created.event.position) == (SECOND, 1)


@pytest.mark.parametrize("jump_s", [HOURS_3, -HOURS_3])
async def test_a_create_during_which_the_clock_jumps_is_not_answered_as_accepted(
    host: Host, log: ScriptedLog, clock: FakeClock, jump_s: float
) -> None:
    async def jump(_: Publish) -> None:
        log.on_publish = None
        clock.jump_wall(jump_s)

    log.on_publish = jump

    answer = await host.create(NAME)
    assert answer == Uncertain("the clock was set while it was stored")

    # Its repeat is accepted behind it, and found by whoever repeats it once more.
    again = await host.created(NAME)
    assert (again.shard, again.event.position) == (SECOND, 1)
    found = await host.create(NAME)
    assert isinstance(found, Found)
    assert found.event == again.event


async def test_an_engine_away_for_a_while_during_a_jump_answers_nothing_wrong(
    host: Host, log: ScriptedLog, clock: FakeClock
) -> None:
    log.always(Fate.LOST)

    async def come_back(_: Publish) -> None:
        if clock.monotonic() > 2.0:
            log.always(Fate.WELL)
            log.on_publish = None
            clock.jump_wall(HOURS_3)

    log.on_publish = come_back

    assert isinstance(await host.create(NAME), Uncertain)
