"""`kill-log-server`: a host's log engine dies, and the host lives."""

from typing import Final

from trunkline.drills.faults.kill import kill_log_server
from trunkline.drills.stage import Scenario, Stage, links_lost, never_waiting


async def act(stage: Stage) -> None:
    host = stage.pick_host()
    pid = kill_log_server(host)
    stage.mark(f"log server {pid} of {host.name} killed")
    await stage.until_accepting()
    await stage.until_ready(host.name)
    stage.mark(f"{host.name} is ready")


SCENARIO: Final = Scenario(
    "kill-log-server",
    "kill -9 of one host's log engine, which the host starts again",
    act,
    terms=never_waiting(links_lost(1)),
)
