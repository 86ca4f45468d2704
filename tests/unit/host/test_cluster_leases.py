"""Leases over hosts: valid while a majority hears the host, dead when a majority surely does not."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.host.host_network import MemoryBus

from trunkline.host.cluster_leases import ClusterLeases, host_of, incarnation_of
from trunkline.host.leases import FileLeases
from trunkline.host.members import Members
from trunkline.host.membership import QUIET_MIN_S, TAKEOVER_S, Membership
from trunkline.host.standing import MUTE_S
from trunkline.kernel.virtual import VirtualClock, run_in_virtual_time
from trunkline.messaging.lease import Leases

NAMES = ("far-host-1", "host-2", "host-3")
LONG_ENOUGH_S = TAKEOVER_S + 0.3


@dataclass
class Hosts:
    """Three hosts with a lease each, and a folder of leases each."""

    members: list[Members]
    buses: list[MemoryBus]
    leases: list[ClusterLeases]
    new_leases: list[Callable[[], ClusterLeases]]

    def part(self, number: int) -> None:
        self.buses[number].is_cut = True

    def join(self, number: int) -> None:
        self.buses[number].is_cut = False


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Hosts], Awaitable[None]]], None]:
    numbers = itertools.count(1)

    def maker(members: Members) -> Callable[[], ClusterLeases]:
        folder = tmp_path / members.own / "leases"
        folder.mkdir(parents=True)

        def make() -> ClusterLeases:
            file = FileLeases(
                folder,
                host=members.own,
                entropy=lambda count: next(numbers).to_bytes(count, "big"),
            )
            return ClusterLeases(file, members)

        return make

    async def main(test: Callable[[Hosts], Awaitable[None]]) -> None:
        clock, buses = VirtualClock(), MemoryBus.joined(len(NAMES))
        members = [
            Members(
                bus,
                Membership(NAMES, name, now=clock.monotonic()),
                clock=clock,
                rng=random.Random(name),
            )
            for name, bus in zip(NAMES, buses, strict=True)
        ]
        new_leases = [maker(each) for each in members]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each.run()) for each in members]
            hosts = Hosts(members, buses, [make() for make in new_leases], new_leases)
            await asyncio.sleep(1.0)
            await test(hosts)
            for task in running:
                task.cancel()
        for leases in hosts.leases:
            leases.close()

    return lambda test: run_in_virtual_time(main(test))


def test_every_host_sees_every_lease_live(run: Callable[..., None]) -> None:
    async def test(hosts: Hosts) -> None:
        for one in hosts.leases:
            checked: Leases = one
            assert checked.is_own_valid()
            assert all(checked.is_live(other.own) for other in hosts.leases)

    run(test)


def test_a_name_says_whose_lease_it_is() -> None:
    assert host_of("far-host-1-4711-0011aabb") == "far-host-1"
    assert incarnation_of("far-host-1-4711-0011aabb") == "0011aabb"


def test_a_host_that_is_cut_off_stops_before_anybody_takes_over_from_it(
    run: Callable[..., None],
) -> None:
    async def test(hosts: Hosts) -> None:
        cut_off, other = hosts.leases[0], hosts.leases[1]
        hosts.part(0)

        stopped_at = dead_at = 0.0
        for tick in range(int(LONG_ENOUGH_S * 100)):
            await asyncio.sleep(0.01)
            stopped_at = stopped_at or (0.0 if cut_off.is_own_valid() else tick / 100)
            dead_at = dead_at or (0.0 if other.is_live(cut_off.own) else tick / 100)

        assert MUTE_S - 0.25 <= stopped_at <= MUTE_S
        assert stopped_at < dead_at <= LONG_ENOUGH_S
        assert cut_off.is_live(other.own), "who hears no majority calls nobody dead"
        assert cut_off.is_live(cut_off.own) is True, "its process is there, whoever hears it"

    run(test)


def test_a_host_that_comes_back_goes_on_under_another_lease(run: Callable[..., None]) -> None:
    async def test(hosts: Hosts) -> None:
        lost, other = hosts.leases[0], hosts.leases[1]
        hosts.part(0)
        await asyncio.sleep(MUTE_S + 1.0)
        hosts.join(0)
        await asyncio.sleep(2.0)

        assert lost.has_lapsed
        assert not lost.is_own_valid()
        assert other.is_live(lost.own), "its dispatcher may be writing down what it did"

        lost.close()
        hosts.leases[0] = hosts.new_leases[0]()
        assert not hosts.leases[0].is_own_valid(), "nobody has heard it yet"
        await asyncio.sleep(LONG_ENOUGH_S)
        assert hosts.leases[0].is_own_valid()
        assert other.is_live(hosts.leases[0].own)
        assert not other.is_live(lost.own)
        assert not hosts.leases[0].is_live(lost.own)

    run(test)


def test_a_short_gap_costs_no_lease(run: Callable[..., None]) -> None:
    async def test(hosts: Hosts) -> None:
        hosts.part(0)
        await asyncio.sleep(MUTE_S - 0.25)
        hosts.join(0)
        await asyncio.sleep(1.0)

        assert hosts.leases[0].is_own_valid()

    run(test)


def test_a_lease_of_nobody_is_dead_once_it_is_sure_that_nobody_holds_it(
    run: Callable[..., None],
) -> None:
    async def test(hosts: Hosts) -> None:
        one = hosts.leases[0]
        assert not one.is_live("../lease")
        assert not one.is_live("far-host-1-1-00ff"), "of its own host it knows at once"
        assert one.is_live("host-2-1-00ff"), "it may have been heard elsewhere"

        await asyncio.sleep(QUIET_MIN_S + 0.3)

        assert not one.is_live("host-2-1-00ff")
        assert one.is_live(hosts.leases[1].own)

    run(test)
