"""The part with tasks: heartbeats leave and are heard, and changes are told at once."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import structlog
from structlog.testing import capture_logs
from tests.unit.host.host_network import MemoryBus

from trunkline.host.members import Members
from trunkline.host.membership import ABSENT_S, TAKEOVER_S, Membership, State, View
from trunkline.host.standing import MUTE_S
from trunkline.kernel.virtual import VirtualClock, run_in_virtual_time

NAMES = ("a", "b", "c")


@dataclass
class Cluster:
    """Three processes on one bus; `views` of the first are kept as they are told."""

    members: list[Members]
    buses: list[MemoryBus]
    running: list[asyncio.Task[None]]
    views: list[View] = field(default_factory=list)


def in_a_cluster(test: Callable[[Cluster], Awaitable[None]]) -> None:
    async def main() -> None:
        clock, buses = VirtualClock(), MemoryBus.joined(len(NAMES))
        members = []
        for name, bus in zip(NAMES, buses, strict=True):
            membership = Membership(NAMES, name, now=clock.monotonic())
            members.append(Members(bus, membership, clock=clock, rng=random.Random(name)))
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each.run()) for each in members]
            cluster = Cluster(members, buses, running)
            members[0].on_change(cluster.views.append)
            for each in members:
                each.begin(f"{each.own}1")
                each.set_ready()
            await asyncio.sleep(0.5)
            await test(cluster)
            for task in running:
                task.cancel()

    run_in_virtual_time(main())


def test_hosts_hear_each_other_and_the_change_is_told_once() -> None:
    async def test(cluster: Cluster) -> None:
        assert cluster.members[0].view().present == NAMES
        assert cluster.members[0].may_act("a1")
        told = len(cluster.views)

        await asyncio.sleep(10.0)

        assert len(cluster.views) == told, "what did not change is not told"

    in_a_cluster(test)


def test_a_host_that_goes_silent_is_told_of_when_its_time_is_over_and_not_with_a_heartbeat() -> (
    None
):
    async def test(cluster: Cluster) -> None:
        cluster.running[2].cancel()
        began = asyncio.get_running_loop().time()

        await cluster.members[0].until_changed(5.0)
        took_s = asyncio.get_running_loop().time() - began

        assert cluster.views[-1].present == ("a", "b")
        assert ABSENT_S - 0.11 <= took_s <= ABSENT_S + 0.001

    in_a_cluster(test)


def test_draining_is_told_at_once() -> None:
    async def test(cluster: Cluster) -> None:
        began = asyncio.get_running_loop().time()
        cluster.members[2].set_draining()

        await cluster.members[0].until_changed(5.0)

        assert asyncio.get_running_loop().time() - began < 0.01
        assert cluster.views[-1].members["c"].state is State.DRAINING
        assert cluster.views[-1].present == ("a", "b")

    in_a_cluster(test)


def test_a_process_cut_off_may_not_act_and_lapses_for_good() -> None:
    async def test(cluster: Cluster) -> None:
        cluster.buses[0].is_cut = True
        await asyncio.sleep(MUTE_S)
        assert not cluster.members[0].may_act("a1")
        assert cluster.views[-1].may_act is False

        cluster.buses[0].is_cut = False
        await asyncio.sleep(1.0)
        assert not cluster.members[0].may_act("a1")
        assert cluster.members[0].has_lapsed("a1")

        cluster.members[0].begin("a2")
        await asyncio.sleep(0.3)
        assert cluster.members[0].may_act("a2")
        assert cluster.members[0].has_lapsed("a1")

    in_a_cluster(test)


def test_what_is_no_heartbeat_or_another_hosts_is_passed_over() -> None:
    async def test(cluster: Cluster) -> None:
        view = cluster.members[0].view()
        cluster.buses[1].send("hb.b", b"\xff")
        cluster.buses[1].send("hb.b", b'{"host":"c","incarnation":"x","number":1000000}')

        assert cluster.members[0].view().members["c"].incarnation == "c1"
        assert cluster.members[0].view().present == view.present

    in_a_cluster(test)


@pytest.mark.usefixtures("plain_logs")
def test_an_operator_is_told_who_went_and_who_came() -> None:
    async def test(cluster: Cluster) -> None:
        with capture_logs() as logs:
            cluster.buses[1].is_cut = cluster.buses[2].is_cut = True
            await asyncio.sleep(TAKEOVER_S + 0.1)
            cluster.buses[1].is_cut = cluster.buses[2].is_cut = False
            await asyncio.sleep(0.3)

        events = [entry["event"] for entry in logs]
        assert events.count("cluster.majority_lost") == 3
        assert events.count("cluster.majority_heard") == 3
        assert events.count("member.gone") == 6
        assert events.count("member.heard") == 6

    in_a_cluster(test)


@pytest.fixture
def plain_logs() -> None:
    structlog.reset_defaults()
