"""`kill-host`: every process of a host dies at the same moment."""

from typing import Final

from trunkline.drills.faults.kill import kill_host
from trunkline.drills.stage import Scenario, Stage, links_lost

LATENCY_MS: Final = 100
"""So that some messages are always between their hand-over and its answer."""


async def prepare(stage: Stage) -> None:
    await stage.phones.behave(latency_ms=LATENCY_MS)


async def act(stage: Stage) -> None:
    host = stage.pick_host()
    count = kill_host(host)
    stage.mark(f"{host.name} killed, {count} processes")
    await stage.until_accepting()
    await stage.until_replaced(host)
    stage.mark(f"{host.name} is back")


SCENARIO: Final = Scenario(
    "kill-host",
    "kill -9 of everything that is one host, which is started again",
    act,
    is_deep=True,
    terms=links_lost(1),
    prepare=prepare,
)
