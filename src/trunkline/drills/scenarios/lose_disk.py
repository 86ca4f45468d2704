"""`lose-disk`: a host dies and comes back with an empty disk."""

import asyncio
from typing import Final

from trunkline.drills.faults.kill import kill_host
from trunkline.drills.faults.wipe import wipe
from trunkline.drills.processes import name_of, until
from trunkline.drills.stage import Scenario, Stage, links_lost

GONE_S: Final = 5.0
WITHOUT_S: Final = 2.0


async def act(stage: Stage) -> None:
    host = stage.pick_host()
    stage.cluster.hold_restarts()
    try:
        found = host.processes()
        kill_host(host)
        stage.mark(f"{host.name} killed")
        await until(lambda: not any(map(name_of, found)), stage.clock, within_s=GONE_S)
        count = await asyncio.to_thread(wipe, host.data)
        stage.mark(f"its disk lost, {count} entries")
        await stage.wait(WITHOUT_S)
    finally:
        stage.cluster.let_restart()
    await stage.until_replaced(host)
    stage.mark(f"{host.name} is back, with an empty disk")


SCENARIO: Final = Scenario(
    "lose-disk",
    "kill -9 of one host, whose folder is emptied before it is started again",
    act,
    hosts_min=3,
    terms=links_lost(1),
    is_quick=False,
)
