"""Leaders are where the work is: one step a second, nothing while anything elects."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

from tests.unit.host.host_network import MemoryBus

from trunkline.host.balance import HAND_OVER_MAX_S, LOOK_EVERY_S, STEADY_S, Balancer
from trunkline.host.members import Members
from trunkline.host.membership import Membership
from trunkline.host.shares import HostShares, wanted_leaders
from trunkline.kernel.virtual import VirtualClock, run_in_virtual_time
from trunkline.log.shards import SHARDS
from trunkline.log.timers import TIMER_SHARDS

NAMES = ("a", "b", "c")
ELECTION_S = 0.1


class Leaders:
    """Streams and consumers with a leader each, as the engine has them: whoever is preferred leads,
    after an election. Implements `Led`."""

    def __init__(self, clock: VirtualClock, first: str) -> None:
        self.clock = clock
        self.steps: list[tuple[float, str, str]] = []
        self.silent: set[str] = set()
        self.is_stuck = False
        self._first = first
        self._led: dict[str, str] = {}
        self._elects_until: dict[str, float] = {}

    def leader(self, name: str) -> str | None:
        if name in self.silent or self.clock.monotonic() < self._elects_until.get(name, 0.0):
            return None
        return self._led.get(name, self._first)

    async def leaders(self, *, timeout_s: float) -> Mapping[str, str | None]:
        del timeout_s
        streams = [f"EV_{shard}" for shard in range(SHARDS)]
        streams += [f"TIMER_{shard}" for shard in range(TIMER_SHARDS)]
        return {name: self.leader(name) for name in streams}

    async def consumer_leaders(
        self, consumers: Sequence[str], *, timeout_s: float
    ) -> Mapping[str, str | None]:
        del timeout_s
        return {name: self.leader(name) for name in consumers}

    async def step_down(self, stream: str, *, prefer: str, timeout_s: float) -> bool:
        if self.is_stuck:
            await self.clock.sleep(timeout_s)
            return False
        self.steps.append((self.clock.monotonic(), stream, prefer))
        self._led[stream] = prefer
        self._elects_until[stream] = self.clock.monotonic() + ELECTION_S
        return True


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.led = Leaders(self.clock, "a")
        self.buses = MemoryBus.joined(len(NAMES))
        self.members = [
            Members(
                bus,
                Membership(NAMES, name, now=0.0),
                clock=self.clock,
                rng=random.Random(name),
            )
            for name, bus in zip(NAMES, self.buses, strict=True)
        ]
        self.wanted = [self._wanted(each) for each in self.members]
        self.balancers = [
            Balancer(self.led, each, wanted=wanted, clock=self.clock)
            for each, wanted in zip(self.members, self.wanted, strict=True)
        ]

    def _wanted(self, members: Members) -> Callable[[], Mapping[str, str | None]]:
        shards = HostShares(members, what="shard", shards=SHARDS, clock=self.clock)
        timers = HostShares(members, what="timer", shards=TIMER_SHARDS, clock=self.clock)
        return lambda: wanted_leaders(shards, timers)

    def amiss(self) -> list[str]:
        return [n for n, host in self.wanted[0]().items() if self.led.leader(n) != host]


def play(test: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each.run()) for each in world.members]
            running += [tasks.create_task(each.run()) for each in world.balancers]
            for each in world.members:
                each.begin(f"{each.own}1")
                each.set_ready()
            await test(world)
            for task in running:
                task.cancel()

    run_in_virtual_time(main())


def test_everything_comes_to_be_led_where_the_work_is_a_shard_a_second() -> None:
    async def test(world: World) -> None:
        await asyncio.sleep(STEADY_S + 1.5 * (SHARDS + TIMER_SHARDS))

        assert world.amiss() == []
        moved = {name for _, name, _ in world.led.steps}
        assert len(world.led.steps) == len(moved), "nothing moves twice"
        times = sorted({at for at, _, _ in world.led.steps})
        assert min(later - at for at, later in itertools.pairwise(times)) >= LOOK_EVERY_S
        assert times[0] >= STEADY_S

    play(test)


def test_nothing_is_moved_while_anything_elects() -> None:
    async def test(world: World) -> None:
        world.led.silent.add("EV_3")
        await asyncio.sleep(20.0)
        assert world.led.steps == []

        world.led.silent.clear()
        await asyncio.sleep(3.0)
        assert world.led.steps

    play(test)


def test_what_never_gets_a_leader_does_not_stop_the_others() -> None:
    async def test(world: World) -> None:
        world.led.silent.add("TIMER_3.schedule")
        await asyncio.sleep(80.0)

        assert world.amiss() == ["TIMER_3.schedule"]

    play(test)


def test_a_host_that_has_just_come_is_given_no_leaders_at_once() -> None:
    async def test(world: World) -> None:
        world.buses[2].is_cut = True
        await asyncio.sleep(30.0)
        world.buses[2].is_cut = False
        await asyncio.sleep(0.5)
        world.members[2].begin("c2")
        before = len(world.led.steps)
        back_at = world.clock.monotonic()

        await asyncio.sleep(10.0)

        late = world.led.steps[before:]
        assert {host for _, _, host in late} == {"c"}
        assert min(at for at, _, _ in late) >= back_at - 0.6 + STEADY_S

    play(test)


def test_a_draining_host_hands_all_its_leaders_over_itself() -> None:
    async def test(world: World) -> None:
        await asyncio.sleep(40.0)
        draining = world.balancers[1]
        world.members[1].set_draining()
        await asyncio.sleep(0.2)
        began = world.clock.monotonic()

        await draining.hand_over()

        assert world.clock.monotonic() - began < 1.0
        await asyncio.sleep(ELECTION_S)
        assert [n for n in world.wanted[0]() if world.led.leader(n) == "b"] == []
        assert world.amiss() == []

    play(test)


def test_handing_over_is_bounded_when_nobody_answers() -> None:
    async def test(world: World) -> None:
        await asyncio.sleep(40.0)
        world.members[1].set_draining()
        await asyncio.sleep(0.2)
        world.led.is_stuck = True
        began = world.clock.monotonic()

        await world.balancers[1].hand_over()

        assert world.clock.monotonic() - began <= HAND_OVER_MAX_S

    play(test)
