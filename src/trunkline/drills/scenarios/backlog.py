"""`backlog`: a log engine dies while hundreds of messages wait for a carrier that takes nothing."""

from typing import Final

from trunkline.drills.backlog import Backlog
from trunkline.drills.faults.kill import kill_log_server
from trunkline.drills.stage import Scenario, Stage, links_lost

WAITING: Final = 400
MORE: Final = 50
"""Accepted behind the death, before the carrier opens."""
RETRY_AFTER_MS: Final = 250


async def act(stage: Stage) -> None:
    tally = stage.load.tally
    await stage.phones.behave(outcome="throttle", retry_after_ms=RETRY_AFTER_MS)
    closed = len(tally.accepted)
    await stage.until_accepted(closed + WAITING)
    host = stage.pick_host()
    hurt_at = stage.clock.wall()
    kill_log_server(host)
    before = len(tally.accepted)
    stage.mark(f"log server of {host.name} killed, while {before - closed} messages wait")
    await stage.until_accepted(before + MORE)
    opened_at = stage.clock.wall()
    await stage.phones.behave()
    stage.mark(f"the carrier takes messages again, {MORE} later")
    texts = tuple(tally.accepted.values())[closed : before + MORE]
    stage.backlog = Backlog(texts, host.name, hurt_at, opened_at)
    await stage.until_ready(host.name)
    await stage.until_accepting()
    stage.mark(f"{host.name} is ready")


SCENARIO: Final = Scenario(
    "backlog",
    f"kill -9 of one host's log engine, while {WAITING} messages wait for the carrier",
    act,
    terms=links_lost(1),
)
