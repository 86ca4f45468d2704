"""`power-loss`: the power of all hosts fails at once; what was not flushed is gone.

Each host gets a disk of its own in a file. All processes are stopped at one moment, the files are
copied as they are, the processes killed, and the hosts started on the copies. The carrier is in
another building.
"""

import asyncio
from typing import Final

from trunkline.drills import processes
from trunkline.drills.checker import Terms
from trunkline.drills.faults.disks import FileDisk, reason_against_mounts
from trunkline.drills.faults.freeze import freeze
from trunkline.drills.refusal import DrillError, NotRecovered
from trunkline.drills.stage import WINDOW, Options, Scenario, Stage

GONE_S: Final = 10.0


def needs(_: Options) -> str:
    return reason_against_mounts()


def terms(options: Options) -> Terms:
    """Every host's link is lost."""
    return Terms(ambiguous_max=options.hosts * WINDOW)


async def prepare(stage: Stage) -> None:
    """Stop the hosts once, and start them on disks of their own."""
    hosts = stage.cluster.hosts()
    await stage.cluster.stop()
    for host in hosts:
        image = stage.folder / f"{host.name}.image"
        await asyncio.to_thread(FileDisk.made, image, host.data)
    await stage.cluster.start()
    for host in stage.cluster.hosts():
        await stage.until_ready(host.name)


async def act(stage: Stage) -> None:
    hosts = stage.cluster.hosts()
    stage.cluster.hold_restarts()
    stopped: dict[int, str] = {}
    for host in hosts:
        stopped |= freeze(host)
    stage.mark(f"the power fails, on {len(hosts)} hosts")
    disks = [FileDisk(stage.folder / f"{host.name}.image", host.data) for host in hosts]
    copies = [await asyncio.to_thread(disk.after_power_loss) for disk in disks]
    stage.cluster.kill()
    await processes.until(
        lambda: not any(map(processes.name_of, stopped)), stage.clock, within_s=GONE_S
    )
    for disk, copy in zip(disks, copies, strict=True):
        await asyncio.to_thread(disk.unmount)
        await asyncio.to_thread(copy.mount)
    stage.mark("the power is back")
    try:
        await stage.cluster.start()
    except DrillError as error:
        raise NotRecovered(error.what, error.mend) from error
    await stage.until_accepting()
    stage.mark("the hosts are back")


async def tidy(stage: Stage) -> None:
    await stage.cluster.stop()
    for host in stage.cluster.hosts():
        while host.data.is_mount():
            await asyncio.to_thread(FileDisk(stage.folder, host.data).unmount)


SCENARIO: Final = Scenario(
    "power-loss",
    "all hosts at once, and what they had not flushed is gone",
    act,
    is_deep=True,
    terms=terms,
    needs=needs,
    prepare=prepare,
    tidy=tidy,
)
