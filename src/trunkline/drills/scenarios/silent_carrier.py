"""`silent-carrier`: the carrier takes messages, delivers them, and says nothing."""

from typing import Final

from trunkline.drills.checker import Terms
from trunkline.drills.stage import Options, Scenario, Stage

SECONDS: Final = 3.0


def terms(_: Options) -> Terms:
    """Every hand-over in that time is one that nobody can tell the outcome of."""
    return Terms(ambiguous_max=None)


async def act(stage: Stage) -> None:
    await stage.phones.behave(outcome="silent")
    stage.mark("the carrier withholds its answers")
    await stage.wait(SCENARIO.seconds(stage.options))
    await stage.phones.behave()
    stage.mark("the carrier answers")


SCENARIO: Final = Scenario(
    "silent-carrier",
    "a carrier that takes and delivers, and withholds its answers, for --seconds",
    act,
    fault_s=SECONDS,
    terms=terms,
    is_quick=False,
)
