"""`freeze-host`: a host stands still, everybody thinks it dead, and then it goes on."""

from typing import Final

from trunkline.drills.faults.freeze import freeze, thaw
from trunkline.drills.stage import Scenario, Stage, links_lost

SECONDS: Final = 10.0


async def act(stage: Stage) -> None:
    host = stage.pick_host()
    frozen = freeze(host)
    stage.mark(f"{host.name} frozen, {len(frozen)} processes")
    try:
        await stage.wait(SCENARIO.seconds(stage.options))
    finally:
        thaw(frozen)
        stage.mark(f"{host.name} thawed")
    await stage.until_ready(host.name)
    await stage.until_accepting()
    stage.mark(f"{host.name} is ready")


SCENARIO: Final = Scenario(
    "freeze-host",
    "SIGSTOP of everything that is one host, SIGCONT after --seconds (1, 10, 60)",
    act,
    fault_s=SECONDS,
    lengths_s=(1.0, 10.0, 60.0),
    is_deep=True,
    terms=links_lost(1),
)
