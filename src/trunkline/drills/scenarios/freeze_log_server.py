"""`freeze-log-server`: a host's log engine stands still for a moment, and then does what it was asked.

What a host sent meanwhile and gave up lands after all, in every shard that it tried: so this is where
one message has several originals.
"""

from typing import Final

from trunkline.drills.faults.freeze import freeze_log_server, thaw
from trunkline.drills.stage import Scenario, Stage, links_lost, never_waiting

SECONDS: Final = 1.0
TIMES: Final = 3
BETWEEN_S: Final = 1.5


async def act(stage: Stage) -> None:
    for _ in range(TIMES):
        host = stage.pick_host()
        frozen = freeze_log_server(host)
        stage.mark(f"log server of {host.name} frozen")
        try:
            await stage.wait(SCENARIO.seconds(stage.options))
        finally:
            thaw(frozen)
            stage.mark("thawed")
        await stage.until_accepting()
        await stage.wait(BETWEEN_S)


SCENARIO: Final = Scenario(
    "freeze-log-server",
    "SIGSTOP of one host's log engine, SIGCONT after --seconds, three times",
    act,
    fault_s=SECONDS,
    terms=never_waiting(links_lost(TIMES)),
    is_quick=False,
)
