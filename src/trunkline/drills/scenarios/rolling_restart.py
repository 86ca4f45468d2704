"""`rolling-restart`: every host is stopped in good order and started again, one after the other."""

from typing import Final

from trunkline.drills.faults.restart import ask_to_stop
from trunkline.drills.stage import Scenario, Stage

BETWEEN_S: Final = 1.0


async def act(stage: Stage) -> None:
    for host in stage.cluster.hosts():
        stage.mark(f"{host.name} asked to stop")
        ask_to_stop(host)
        await stage.until_replaced(host)
        stage.mark(f"{host.name} is back")
        await stage.wait(BETWEEN_S)
    await stage.until_accepting()


SCENARIO: Final = Scenario(
    "rolling-restart",
    "each host stopped with SIGTERM and started again, one after the other",
    act,
    is_quick=False,
)
