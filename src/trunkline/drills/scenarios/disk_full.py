"""`disk-full`: something else takes all the room that the hosts' disk had."""

import asyncio
from typing import Final

from trunkline.drills.faults import disks
from trunkline.drills.stage import Options, Scenario, Stage

SECONDS: Final = 6.0


def needs(_: Options) -> str:
    return disks.reason_against_mounts()


async def act(stage: Stage) -> None:
    ballast = stage.cluster.folder / "ballast"
    taken = await asyncio.to_thread(disks.fill, ballast)
    stage.mark(f"the disk is full, with {taken // disks.MIB} MiB of something else")
    try:
        await stage.wait(SCENARIO.seconds(stage.options))
    finally:
        ballast.unlink()
        stage.mark("there is room again")
    for host in stage.cluster.hosts():
        await stage.until_ready(host.name)
    await stage.until_accepting()
    stage.mark("every host is ready")


SCENARIO: Final = Scenario(
    "disk-full",
    "a small disk filled up by something else, for --seconds",
    act,
    fault_s=SECONDS,
    needs=needs,
    ground=disks.in_memory,
    is_quick=False,
)
