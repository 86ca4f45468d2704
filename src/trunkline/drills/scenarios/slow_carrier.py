"""`slow-carrier`: the carrier takes its time, so that work piles up behind its window."""

from typing import Final

from trunkline.drills.stage import Scenario, Stage

SECONDS: Final = 6.0
LATENCY_MS: Final = 1_000


async def act(stage: Stage) -> None:
    await stage.phones.behave(latency_ms=LATENCY_MS)
    stage.mark(f"the carrier answers after {LATENCY_MS} ms")
    await stage.wait(SCENARIO.seconds(stage.options))
    await stage.phones.behave()
    stage.mark("the carrier answers at once")


SCENARIO: Final = Scenario(
    "slow-carrier", "a carrier that answers after a second, for --seconds", act, fault_s=SECONDS
)
