"""`receipt-chaos`: receipts come twice, late, early, in another order, as failures, or never."""

from collections.abc import Mapping
from typing import Final

from trunkline.drills.checker import Terms
from trunkline.drills.load import RECIPIENTS, recipient_of
from trunkline.drills.stage import Options, Scenario, Stage

SECONDS: Final = 8.0
MOODS: Final[tuple[Mapping[str, object], ...]] = (
    {"receipt_copies": 3},
    {"receipt_delay_ms": 2_500},
    {"receipt_before_answer": True},
    {"receipt_before_answer": True, "receipt_copies": 2, "latency_ms": 100},
    {"receipt_status": "none"},
    {"receipt_status": "undelivered", "receipt_delay_ms": 500},
    {"receipt_status": "failed", "receipt_copies": 2},
    {"latency_ms": 200, "receipt_copies": 2, "receipt_delay_ms": 300},
)


def terms(_: Options) -> Terms:
    """A receipt that never comes leaves its message sent, for good."""
    return Terms(is_receipt_certain=False)


async def act(stage: Stage) -> None:
    for number in range(RECIPIENTS):
        await stage.phones.behave_to(recipient_of(number), **stage.rng.choice(MOODS))
    stage.mark(f"{RECIPIENTS} handsets of {len(MOODS)} kinds")
    await stage.wait(SCENARIO.seconds(stage.options))
    for number in range(RECIPIENTS):
        await stage.phones.behave_to(recipient_of(number))
    stage.mark("all as usual")


SCENARIO: Final = Scenario(
    "receipt-chaos",
    "receipts twice, late, early, reordered, of failures, or never, for --seconds",
    act,
    fault_s=SECONDS,
    terms=terms,
)
