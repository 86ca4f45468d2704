"""A copy that does not follow its leader is given another one; one that follows is left alone."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from tests.unit.host.host_network import MemoryBus

from trunkline.host.left_behind import AGAIN_AFTER_S, LOOK_EVERY_S, STUCK_AFTER_S, LeftBehind
from trunkline.host.members import Members
from trunkline.host.membership import Membership
from trunkline.kernel.virtual import VirtualClock, run_in_virtual_time

NAMES = ("a", "b", "c")
LED_BY_B = "EV_3"


@dataclass
class Shards:
    """Implements `Followed`. `lag` says how far each copy is behind at a moment."""

    clock: VirtualClock
    lag: Callable[[float], Mapping[str, int]] = lambda _: {"a": 0, "c": 0}
    asked: list[tuple[float, str, str]] = field(default_factory=list)

    async def behind(self, *, timeout_s: float) -> Mapping[str, Mapping[str, int]]:
        del timeout_s
        return {LED_BY_B: self.lag(self.clock.monotonic()), "EV_4": {"b": 0, "c": 0}}

    async def step_down(self, stream: str, *, prefer: str, timeout_s: float) -> bool:
        del timeout_s
        self.asked.append((self.clock.monotonic(), stream, prefer))
        return True


def play(
    lag: Callable[[float], Mapping[str, int]], test: Callable[[Shards], Awaitable[None]]
) -> None:
    async def main() -> None:
        clock = VirtualClock()
        shards = Shards(clock, lag)
        buses = MemoryBus.joined(len(NAMES))
        members = [
            Members(bus, Membership(NAMES, name, now=0.0), clock=clock, rng=random.Random(name))
            for name, bus in zip(NAMES, buses, strict=True)
        ]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each.run()) for each in members]
            for each in members:
                running.append(tasks.create_task(LeftBehind(shards, each, clock=clock).run()))
                each.begin(f"{each.own}1")
                each.set_ready()
            await test(shards)
            for task in running:
                task.cancel()

    run_in_virtual_time(main())


def test_a_copy_that_comes_no_nearer_is_given_another_leader_once_in_a_while() -> None:
    async def test(shards: Shards) -> None:
        await asyncio.sleep(STUCK_AFTER_S + 3 * LOOK_EVERY_S)
        assert [(stream, to) for _, stream, to in shards.asked] == [(LED_BY_B, "c")]
        assert shards.asked[0][0] >= STUCK_AFTER_S
        await asyncio.sleep(AGAIN_AFTER_S + 2 * LOOK_EVERY_S)
        assert len(shards.asked) == 2

    play(lambda now: {"a": 20 + int(now), "c": 0}, test)


def test_one_that_follows_is_left_alone_however_far_behind_it_is() -> None:
    async def test(shards: Shards) -> None:
        await asyncio.sleep(5 * STUCK_AFTER_S)
        assert shards.asked == []

    play(lambda now: {"a": 100_000 - int(10 * now), "c": 3 if int(now) % 5 else 0}, test)


def test_nobody_makes_way_where_no_other_host_has_all_of_the_shard() -> None:
    async def test(shards: Shards) -> None:
        await asyncio.sleep(3 * STUCK_AFTER_S)
        assert shards.asked == []

    play(lambda _: {"a": 20, "c": 5}, test)
