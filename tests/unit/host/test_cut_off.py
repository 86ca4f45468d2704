"""An engine whose host is cut off is stopped, and another one started when the cut is over."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.unit.host.host_network import MemoryBus

from trunkline.host import cut_off
from trunkline.host.cut_off import HOLD_AFTER_S, CutOff, reaches
from trunkline.host.listen import Address
from trunkline.host.members import Members
from trunkline.host.membership import Membership
from trunkline.kernel.virtual import VirtualClock, run_in_virtual_time

NAMES = ("a", "b", "c")
ENGINE = 4711
ELECTION_S = 3.0
"""The earliest moment after a cut at which an engine asks for votes."""


@dataclass
class World:
    """Host a, of which the others are heard over the bus and reached by TCP, or not."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    reachable: bool = True
    engine: int | None = ENGINE
    signals: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.buses = MemoryBus.joined(len(NAMES))
        self.members = [
            Members(bus, Membership(NAMES, name, now=0.0), clock=self.clock, rng=random.Random(7))
            for name, bus in zip(NAMES, self.buses, strict=True)
        ]
        self.cut_off = CutOff(
            self.members[0],
            {name: Address("127.0.0.1", port) for port, name in enumerate(NAMES, start=1)},
            engine_pid=Path("engine.pid"),
            clock=self.clock,
            reach=self._reach,
        )

    async def _reach(self, address: Address) -> bool:
        del address
        if not self.reachable:
            await asyncio.sleep(0.4)
        return self.reachable

    def kill(self, pid: int, number: int) -> None:
        assert pid == self.engine
        self.signals.append((self.clock.monotonic(), number))

    @property
    def sent(self) -> list[int]:
        return [number for _, number in self.signals]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    def run(test: Callable[[World], Awaitable[None]]) -> None:
        async def main() -> None:
            world = World()
            monkeypatch.setattr(cut_off, "engine_at", lambda _: world.engine)
            monkeypatch.setattr("os.kill", world.kill)
            async with asyncio.TaskGroup() as tasks:
                running = []
                for name, each in zip(NAMES, world.members, strict=True):
                    each.begin(f"{name}1")
                    each.set_ready()
                    running.append(tasks.create_task(each.run()))
                running.append(tasks.create_task(world.cut_off.run()))
                await asyncio.sleep(5.0)
                assert world.signals == []
                await test(world)
                for task in running:
                    task.cancel()

        run_in_virtual_time(main())

    return run


Play = Callable[[Callable[[World], Awaitable[None]]], None]


def test_it_is_stopped_before_it_can_ask_for_votes_and_killed_when_others_are_reached(
    play: Play,
) -> None:
    async def test(world: World) -> None:
        world.buses[0].is_cut, world.reachable = True, False
        cut_at = world.clock.monotonic()
        await asyncio.sleep(60.0)
        ((stopped_at, number),) = world.signals
        assert number == signal.SIGSTOP
        assert cut_at + HOLD_AFTER_S <= stopped_at < cut_at + ELECTION_S

        world.reachable = True
        healed_at = world.clock.monotonic()
        await asyncio.sleep(1.0)
        assert world.sent == [signal.SIGSTOP, signal.SIGKILL]
        assert world.signals[1][0] <= healed_at + 0.6
        world.engine = ENGINE + 1
        world.buses[0].is_cut = False
        await asyncio.sleep(60.0)
        assert len(world.signals) == 2

    play(test)


def test_a_machine_that_is_only_slow_stops_nobody(play: Play) -> None:
    async def test(world: World) -> None:
        world.buses[0].is_cut = True
        await asyncio.sleep(60.0)
        assert world.signals == []

    play(test)


def test_who_hears_the_others_again_does_not_wait_to_reach_them(play: Play) -> None:
    async def test(world: World) -> None:
        world.buses[0].is_cut, world.reachable = True, False
        await asyncio.sleep(5.0)
        world.buses[0].is_cut = False
        await asyncio.sleep(1.0)
        assert world.sent == [signal.SIGSTOP, signal.SIGKILL]

    play(test)


def test_one_that_ended_meanwhile_is_left_alone(play: Play) -> None:
    async def test(world: World) -> None:
        world.buses[0].is_cut, world.reachable = True, False
        await asyncio.sleep(5.0)
        world.engine = None
        world.reachable = True
        await asyncio.sleep(5.0)
        assert world.sent == [signal.SIGSTOP]

    play(test)


def test_a_host_that_ends_leaves_no_stopped_engine(play: Play) -> None:
    async def test(world: World) -> None:
        world.buses[0].is_cut, world.reachable = True, False
        await asyncio.sleep(5.0)
        assert world.sent == [signal.SIGSTOP]

    worlds: list[World] = []

    async def remember(world: World) -> None:
        worlds.append(world)
        await test(world)

    play(remember)
    assert worlds[0].sent == [signal.SIGSTOP, signal.SIGKILL]


@pytest.mark.skipif(sys.platform != "linux", reason="what a process does stands in /proc (Linux)")
def test_an_engine_that_a_killed_process_left_stopped_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = subprocess.Popen(["sleep", "600"])
    engine.send_signal(signal.SIGSTOP)
    os.waitpid(engine.pid, os.WUNTRACED)
    monkeypatch.setattr(cut_off, "engine_at", lambda _: engine.pid)

    async def main() -> None:
        world = World()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(world.cut_off.run())
            await asyncio.sleep(1.0)
            running.cancel()

    try:
        run_in_virtual_time(main())
        assert engine.wait(5.0) == -signal.SIGKILL
    finally:
        engine.kill()
        engine.wait()


@pytest.mark.anyio
async def test_reached_is_who_takes_a_connection_or_refuses_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert await reaches(Address("127.0.0.1", port))
    assert await reaches(Address("127.0.0.1", port))
