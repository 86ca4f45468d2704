"""`retry-storm`: carrier and application refuse everything for a while, and must not be stormed.

First what they are given: messages, and callbacks. Then the carrier alone, what it is asked for: a
question that fails at once is one that a pool asks again at once, if it can afford to.
"""

from typing import Final

from trunkline.drills.checker import BUDGET_SPAN_S, Terms
from trunkline.drills.stage import Options, Scenario, Stage

SECONDS: Final = 6.0
RETRY_AFTER_MS: Final = 250
POLLS_S: Final = 2 * BUDGET_SPAN_S
"""Half of it is for what the budget had saved before."""
TRIES_MAX: Final = 2.5
"""With a budget it is 1.4 to 1.6: a tenth, and one a second beside the two to four questions a second
of a host, of which a slow machine asks fewer. Without, every question is asked three times."""


def terms(_: Options) -> Terms:
    return Terms(tries_max=TRIES_MAX)


async def act(stage: Stage) -> None:
    before, asked = await stage.phones.counts(), stage.receiver.requests
    await stage.phones.behave(outcome="throttle", retry_after_ms=RETRY_AFTER_MS)
    stage.receiver.choose_answer = lambda: 503
    stage.mark("the carrier throttles everything, the application answers 503")
    await stage.wait(SCENARIO.seconds(stage.options))
    after = await stage.phones.counts()
    throttled = after["throttled"] - before["throttled"]
    told = stage.receiver.requests - asked
    await stage.phones.behave(polls_turned_away=True)
    stage.receiver.choose_answer = lambda: 200
    stage.mark(f"both answer; {throttled} hand-overs were throttled, {told} requests refused")
    stage.mark("the carrier gives no receipts, and says so with an error")
    await stage.wait(POLLS_S)
    await stage.phones.behave()
    stage.mark("the carrier answers")


SCENARIO: Final = Scenario(
    "retry-storm",
    "a carrier that throttles and an application that answers 503, for --seconds; then 503 for polls",
    act,
    fault_s=SECONDS,
    terms=terms,
)
