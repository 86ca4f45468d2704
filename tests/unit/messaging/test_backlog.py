"""What could not be told at once, in virtual time: for a day, over deaths, and to nobody's harm."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.unit.messaging.callback_bench import (
    ACCOUNT,
    CLAIM,
    DAY_S,
    DELIVERED,
    OTHER_ACCOUNT,
    TAKEN,
    Heard,
    Internet,
    World,
    always,
    telling,
)

from trunkline.kernel.virtual import run_in_virtual_time
from trunkline.messaging.backlog import PAUSE_MOST_S
from trunkline.webhooks.receivers import IN_HAND_MAX

DEAD = "http://dead.example/status"
WELL = "http://well.example/status"
STEPS = ["sending", "sent", "delivered"]


def play(path: Path, act: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        await act(World(path / "copy.sqlite3", Internet(always(500))))

    run_in_virtual_time(main())


def test_what_waits_is_told_in_order_when_its_receiver_is_back(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        sid = world.create(DEAD)
        world.go(sid, CLAIM, TAKEN, DELIVERED)
        async with telling(world) as host:
            assert host.backlog.oldest_s() == 0.0
            await world.clock.sleep(3600.0)
            assert set(world.internet.statuses(sid)) == {"sending"}
            assert host.backlog.oldest_s() == pytest.approx(3600.0, abs=5.0)
            (state,) = host.backlog.states()
            assert state.receiver == f"{ACCOUNT} http://dead.example:80"
            assert state.last_error == "answered 500"
            assert state.failures > 100
            assert state.tried_in_s <= PAUSE_MOST_S
            world.internet.heard.clear()
            world.internet.answer = always(200)
            await world.clock.sleep(PAUSE_MOST_S + 1.0)

        assert world.internet.statuses(sid) == STEPS
        assert world.notices(sid) == []

    play(tmp_path, act)


def test_the_day_is_counted_over_hosts_that_die_and_every_step_ends_in_one_alert(
    tmp_path: Path,
) -> None:
    async def act(world: World) -> None:
        sid = world.create("http://u:secret@dead.example/status")
        world.go(sid, CLAIM, TAKEN, DELIVERED)
        for _ in range(4):  # each dies after almost six hours
            async with telling(world):
                await world.clock.sleep(DAY_S / 4 - 30.0)
        assert world.told(sid) == []

        async with telling(world):
            await world.clock.sleep(60.0)
            assert world.told(sid) == []
            await world.clock.sleep(60.0 + 2 * PAUSE_MOST_S)

        told = world.told(sid)
        assert [(each.status, each.is_given_up, each.http_status) for each in told] == [
            (step, True, None if step != "sending" else told[0].http_status) for step in STEPS
        ]
        notices = world.notices(sid)
        assert [(each.code, each.url) for each in notices] == [
            (11200, "http://dead.example/status")
        ] * 3
        assert [each.reason.split(":")[0] for each in notices] == STEPS

    play(tmp_path, act)


def test_a_clock_that_is_stepped_a_day_on_gives_nothing_up(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        sid = world.create(DEAD)
        world.go(sid, CLAIM)
        async with telling(world):
            await world.clock.sleep(60.0)
            world.clock.stepped_s = DAY_S
            await world.clock.sleep(3600.0)

        assert world.told(sid) == []

    play(tmp_path, act)


@pytest.mark.parametrize("waiting", [10, 300])
def test_a_dead_receiver_costs_the_same_few_tries_however_many_wait_for_it(
    tmp_path: Path, waiting: int
) -> None:
    async def act(world: World) -> None:
        for _ in range(waiting):
            world.go(world.create(DEAD), CLAIM)
        async with telling(world):
            await world.clock.sleep(1200.0)
            begun = len(world.internet.heard)
            await world.clock.sleep(3600.0)
            assert len(world.internet.heard) - begun <= 3600.0 / (PAUSE_MOST_S / 2)
            # Each time it is another one's turn.
            asked = {sid for _, (_, sid, _) in world.internet.heard}
            assert len(asked) >= min(waiting, 120)

            world.internet.answer = always(200)
            await world.clock.sleep(PAUSE_MOST_S + 30.0)

        told = {sid for _, (_, sid, _) in world.internet.heard}
        assert len(told) == waiting
        assert world.replica.receivers_waited_for(behind="", items_max=10) == []

    play(tmp_path, act)


def test_a_message_that_is_refused_rests_longer_and_longer_and_holds_up_no_other(
    tmp_path: Path,
) -> None:
    async def act(world: World) -> None:
        bad = [world.create(WELL) for _ in range(40)]
        good = [world.create(WELL) for _ in range(40)]

        async def answer(heard: Heard) -> int:
            return 500 if heard[1] in bad else 200

        world.internet.answer = answer
        for sid in (*bad, *good):
            world.go(sid, CLAIM)
        async with telling(world):
            await world.clock.sleep(900.0)
            assert all(world.internet.statuses(sid) == ["sending"] for sid in good)
            await world.clock.sleep(6 * 3600.0)
            begun = len(world.internet.heard)
            fresh = world.create(WELL)
            world.go(fresh, CLAIM)
            await world.clock.sleep(3600.0)

        assert world.internet.statuses(fresh) == ["sending"]
        assert len(world.internet.heard) - begun <= len(bad) * 3600.0 / 450.0 + 10

    play(tmp_path, act)


async def hang_where_named_so(heard: Heard) -> int:
    """An internet in which receivers called `hangs-...` take an hour."""
    if heard[0].startswith("hangs"):
        await asyncio.sleep(3600.0)
    return 200


def test_one_account_s_thousand_hanging_receivers_do_not_hold_up_another_account(
    tmp_path: Path,
) -> None:
    async def act(world: World) -> None:
        world.internet.answer = hang_where_named_so
        hanging = [world.create(f"http://hangs-{number}.example/") for number in range(1_000)]
        for sid in hanging:
            world.go(sid, CLAIM)
        async with telling(world) as host, asyncio.TaskGroup() as tasks:
            hung = [tasks.create_task(host.deliverer.notify(sid)) for sid in hanging]
            await world.clock.sleep(10.0)
            assert len(world.internet.heard) > IN_HAND_MAX // 2
            sids = [world.create(WELL, account=OTHER_ACCOUNT) for _ in range(50)]
            for sid in sids:
                world.go(sid, CLAIM, account=OTHER_ACCOUNT)
            began = world.clock.monotonic()
            async with asyncio.TaskGroup() as all_of_them:
                for sid in sids:
                    all_of_them.create_task(host.deliverer.notify(sid))
            assert world.clock.monotonic() - began < 1.0
            for task in hung:
                task.cancel()

        assert all(world.internet.statuses(sid) == ["sending"] for sid in sids)

    play(tmp_path, act)


def test_what_waits_for_one_account_s_hanging_receivers_does_not_hold_up_what_waits_for_another(
    tmp_path: Path,
) -> None:
    async def act(world: World) -> None:
        world.internet.answer = hang_where_named_so
        for number in range(1_000):
            world.go(world.create(f"http://hangs-{number}.example/"), CLAIM)
        async with telling(world):
            await world.clock.sleep(60.0)
            sids = [world.create(WELL, account=OTHER_ACCOUNT) for _ in range(50)]
            for sid in sids:
                world.go(sid, CLAIM, account=OTHER_ACCOUNT)
            await world.clock.sleep(7.0)  # a look finds that there is somebody new

        assert all(world.internet.statuses(sid) == ["sending"] for sid in sids)

    play(tmp_path, act)


def test_each_message_is_told_by_the_host_whose_shard_is_its_home(tmp_path: Path) -> None:
    class Odd:
        def __init__(self, rest: int) -> None:
            self.rest = rest

        def has(self, shard: int) -> bool:
            return shard % 2 == self.rest

        def redeliver_in_s(self, shard: int) -> None:
            del shard

        def redelivered(self, shard: int, *, is_done: bool) -> None:
            del shard, is_done

        async def wait(self, wait_s: float) -> None:
            await asyncio.sleep(wait_s)

    async def act(world: World) -> None:
        world.internet.answer = always(200)
        sids = [world.create(WELL) for _ in range(40)]
        for sid in sids:
            world.go(sid, CLAIM)
        async with telling(world, share=Odd(0)):
            await world.clock.sleep(60.0)
            half = len(world.internet.heard)
            assert 0 < half < 40
        async with telling(world, share=Odd(1)):
            await world.clock.sleep(60.0)

        assert sorted(sid for _, (_, sid, _) in world.internet.heard) == sorted(sids)

    play(tmp_path, act)


def test_a_copy_that_is_far_behind_is_not_told_from(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        world.internet.answer = always(200)
        sid = world.create(WELL)
        world.go(sid, CLAIM)
        world.is_healthy = False
        world.tell_of_copy(lag_s=120.0)
        async with telling(world):
            await world.clock.sleep(60.0)
            assert world.internet.heard == []
            world.is_healthy = True
            await world.clock.sleep(10.0)

        assert world.internet.statuses(sid) == ["sending"]

    play(tmp_path, act)


def test_what_was_told_and_could_not_be_written_down_is_not_told_again_and_written_later(
    tmp_path: Path,
) -> None:
    async def act(world: World) -> None:
        world.internet.answer = always(200)
        sid = world.create(WELL)
        world.go(sid, CLAIM)
        world.is_recording = False
        async with telling(world):
            await world.clock.sleep(60.0)
            assert world.told(sid) == []
            world.is_recording = True
            await world.clock.sleep(60.0)

        assert world.internet.statuses(sid) == ["sending"]
        assert [each.status for each in world.told(sid)] == ["sending"]

    play(tmp_path, act)


def test_an_answer_that_is_an_error_leaves_one_alert_and_the_steps_behind_it_are_told(
    tmp_path: Path,
) -> None:
    async def act(world: World) -> None:
        async def answer(heard: Heard) -> int:
            return 404 if heard[2] == "sending" else 200

        world.internet.answer = answer
        sid = world.create(WELL)
        world.go(sid, CLAIM, TAKEN, DELIVERED)
        async with telling(world):
            await world.clock.sleep(60.0)

        assert world.internet.statuses(sid) == STEPS
        assert [(each.code, each.reason) for each in world.notices(sid)] == [
            (11200, "sending: answered 404")
        ]
        assert ACCOUNT in {each.account for each in world.events if each.sid == sid}

    play(tmp_path, act)
