"""`partition`: one host and the others do not hear each other, while customers and carrier reach all."""

import asyncio
from collections.abc import Sequence
from typing import Final

from trunkline.drills.faults.network import (
    Cut,
    Direction,
    Seat,
    deaf,
    mute,
    reason_against_namespaces,
)
from trunkline.drills.namespaced import NamespacedCluster
from trunkline.drills.refusal import DrillError
from trunkline.drills.stage import Options, Scenario, Stage, links_lost

SECONDS: Final = 10.0


def needs(_: Options) -> str:
    return reason_against_namespaces()


async def act(stage: Stage) -> None:
    victim, others = await _sides(stage)
    await _cut_for_a_while(stage, [*mute(victim, others), *deaf(victim, others)], "both ways")


async def act_one_way(stage: Stage) -> None:
    victim, others = await _sides(stage)
    is_mute = stage.rng.random() < 0.5
    if is_mute:
        await _cut_for_a_while(stage, mute(victim, others), "it is not heard")
    else:
        await _cut_for_a_while(stage, deaf(victim, others), "it does not hear")


async def _sides(stage: Stage) -> tuple[Seat, list[Seat]]:
    if not isinstance(stage.cluster, NamespacedCluster):
        raise DrillError("these hosts share a network", "run them in namespaces")
    victim = stage.pick_host()
    stage.mark(f"{victim.name} is cut off from the others")
    seat = stage.cluster.seat(victim)
    return seat, [each for each in stage.cluster.network.seats if each != seat]


async def _cut_for_a_while(stage: Stage, directions: Sequence[Direction], what: str) -> None:
    cut = Cut(directions)
    await asyncio.to_thread(cut.make)
    stage.mark(f"cut: {what}")
    await stage.wait(SCENARIO.seconds(stage.options))
    await asyncio.to_thread(cut.heal)
    stage.mark("healed")
    for host in stage.cluster.hosts():
        await stage.until_ready(host.name)
    await stage.until_accepting()
    stage.mark("every host is ready")


SCENARIO: Final = Scenario(
    "partition",
    "one host and the others hear nothing of each other, for --seconds",
    act,
    hosts_min=3,
    fault_s=SECONDS,
    is_deep=True,
    terms=links_lost(1),
    needs=needs,
    is_networked=True,
)
ONE_WAY: Final = Scenario(
    "partition-one-way",
    "one host is not heard by the others, or does not hear them, for --seconds",
    act_one_way,
    hosts_min=3,
    fault_s=SECONDS,
    is_deep=True,
    terms=links_lost(1),
    needs=needs,
    is_networked=True,
    is_quick=False,
)
