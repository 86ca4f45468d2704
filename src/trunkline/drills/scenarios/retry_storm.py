"""`retry-storm`: carrier and application refuse everything for a while, and must not be stormed."""

from typing import Final

from trunkline.drills.stage import Scenario, Stage

SECONDS: Final = 6.0
RETRY_AFTER_MS: Final = 250


async def act(stage: Stage) -> None:
    before, asked = await stage.phones.counts(), stage.receiver.requests
    await stage.phones.behave(outcome="throttle", retry_after_ms=RETRY_AFTER_MS)
    stage.receiver.choose_answer = lambda: 503
    stage.mark("the carrier throttles everything, the application answers 503")
    await stage.wait(SCENARIO.seconds(stage.options))
    after = await stage.phones.counts()
    throttled = after["throttled"] - before["throttled"]
    told = stage.receiver.requests - asked
    await stage.phones.behave()
    stage.receiver.choose_answer = lambda: 200
    stage.mark(f"both answer; {throttled} hand-overs were throttled, {told} requests refused")


SCENARIO: Final = Scenario(
    "retry-storm",
    "a carrier that throttles and an application that answers 503, for --seconds",
    act,
    fault_s=SECONDS,
)
