"""`backlog`: a log engine dies while hundreds of messages wait for a carrier that is closed."""

from typing import Final

from trunkline.drills.backlog import Backlog
from trunkline.drills.checker import Terms
from trunkline.drills.faults.kill import kill_log_server
from trunkline.drills.stage import WINDOW, Options, Scenario, Stage

WAITING: Final = 400
MORE: Final = 50
"""Accepted behind the death, before the carrier opens."""


def terms(options: Options) -> Terms:
    """The carrier closes with every host's link in use, and one dies beside."""
    return Terms(ambiguous_max=(options.hosts + 1) * WINDOW)


async def act(stage: Stage) -> None:
    tally = stage.load.tally
    await stage.phones.close()
    closed = len(tally.accepted)
    stage.mark("the carrier is closed")
    await stage.until_accepted(closed + WAITING)
    host = stage.pick_host()
    hurt_at = stage.clock.wall()
    kill_log_server(host)
    before = len(tally.accepted)
    stage.mark(f"log server of {host.name} killed, while {before - closed} messages wait")
    await stage.until_accepted(before + MORE)
    await stage.phones.open()
    opened_at = stage.clock.wall()
    stage.mark(f"the carrier is open, {MORE} later")
    texts = tuple(tally.accepted.values())[closed : before + MORE]
    stage.backlog = Backlog(texts, host.name, hurt_at, opened_at)
    await stage.until_ready(host.name)
    await stage.until_accepting()
    stage.mark(f"{host.name} is ready")


SCENARIO: Final = Scenario(
    "backlog",
    f"kill -9 of one host's log engine, while {WAITING} messages wait for the carrier",
    act,
    terms=terms,
)
