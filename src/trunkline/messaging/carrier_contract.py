"""What every carrier must do, as checks that run against the real thing: the shipped contract suite.

Whoever writes a carrier gives a `CarrierHarness`, which can make the far side behave, and runs each
clause of `CONTRACT` against it. A clause that is not kept raises `ContractBroken`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Final, Protocol

from trunkline.kernel import Clock, Deadline
from trunkline.messaging.carrier import (
    Accepted,
    Carrier,
    InboundItem,
    Item,
    Outcome,
    ReceiptItem,
    Refused,
    Submission,
    Unknown,
)

OUTCOME_DEADLINE_S: Final = 5.0
SILENCE_DEADLINE_S: Final = 0.5
"""For the clause in which no answer comes; a carrier may know sooner, never later."""
LATENESS_MAX_S: Final = 1.0
"""How much after its deadline an outcome may come on a busy machine."""
ARRIVAL_DEADLINE_S: Final = 10.0
RECEIVE_WAIT_S: Final = 0.5

SENDER: Final = "+15550001111"
RECIPIENT: Final = "+15550002222"
OTHER_RECIPIENT: Final = "+15550003333"
"""Towards whom the far side is always perfect."""
TEXT: Final = "ünïcode, a line end\nand an emoji 📨"
REFUSAL_CODE: Final = 30_007


class FarSide(Enum):
    """How the harness makes the carrier behave towards `RECIPIENT`."""

    PERFECT = "takes, delivers, and sends one receipt"
    REFUSING = "refuses for good, with `REFUSAL_CODE`"
    THROTTLING = "refuses for now"
    SILENT = "takes and delivers, but never answers"


class CarrierHarness(Protocol):
    """One carrier, connected and running, and a hand on its far side. Fresh for each clause."""

    @property
    def carrier(self) -> Carrier: ...

    @property
    def clock(self) -> Clock: ...

    async def behave(self, far_side: FarSide) -> None: ...

    async def texts_at(self, number: str) -> Sequence[str]:
        """What a handset received so far."""

    async def send_from_handset(self, sender: str, recipient: str, text: str) -> None: ...

    async def cut_link(self) -> None:
        """From now on no connection can be made; those that exist are closed."""


class ContractBroken(Exception):
    """A clause is not kept; the text says what was seen."""


Clause = Callable[[CarrierHarness], Awaitable[None]]


async def an_accepted_message_reaches_the_handset(harness: CarrierHarness) -> None:
    outcome = await _submit(harness, "MSa:1")
    if not (isinstance(outcome, Accepted) and outcome.carrier_message_id):
        raise ContractBroken(f"expected Accepted with an id, got {outcome}")
    texts = await harness.texts_at(RECIPIENT)
    _expect(list(texts) == [TEXT], f"the handset has {texts}")


async def many_messages_at_once_get_each_its_own_answer(harness: CarrierHarness) -> None:
    references = [f"MSmany:{number}" for number in range(harness.carrier.window)]
    outcomes = await _submit_all(harness, references)
    ids = {each.carrier_message_id for each in outcomes if isinstance(each, Accepted)}
    _expect(len(ids) == len(references), f"{len(references)} messages, {len(ids)} ids: {outcomes}")


async def a_refused_message_says_why(harness: CarrierHarness) -> None:
    await harness.behave(FarSide.REFUSING)
    outcome = await _submit(harness, "MSa:1")
    if not (isinstance(outcome, Refused) and not outcome.is_returned):
        raise ContractBroken(f"expected a final Refused, got {outcome}")
    _expect(outcome.error_code == REFUSAL_CODE, f"the code is {outcome.error_code}")
    _expect(not await harness.texts_at(RECIPIENT), "a refused message was delivered")


async def a_throttled_message_is_returned(harness: CarrierHarness) -> None:
    await harness.behave(FarSide.THROTTLING)
    outcome = await _submit(harness, "MSa:1")
    if not (isinstance(outcome, Refused) and outcome.is_returned):
        raise ContractBroken(f"expected a returned Refused, got {outcome}")
    _expect(outcome.retry_after_s > 0.0, "a throttled message says when to try again")
    _expect(not await harness.texts_at(RECIPIENT), "a throttled message was delivered")


async def silence_is_unknown_by_the_deadline(harness: CarrierHarness) -> None:
    await harness.behave(FarSide.SILENT)
    began = harness.clock.monotonic()
    outcome = await _submit(harness, "MSa:1", within_s=SILENCE_DEADLINE_S)
    took_s = harness.clock.monotonic() - began
    _expect(isinstance(outcome, Unknown), f"expected Unknown, got {outcome}")
    _expect(took_s < SILENCE_DEADLINE_S + LATENESS_MAX_S, f"it took {took_s:.3f} s")


async def a_message_that_could_not_leave_is_returned(harness: CarrierHarness) -> None:
    await harness.cut_link()
    for attempt in range(1, 4):  # also while the link is known to be down
        outcome = await _submit(harness, f"MSa:{attempt}")
        if not (isinstance(outcome, Refused) and outcome.is_returned):
            raise ContractBroken(f"expected a returned Refused, got {outcome}")
    items = await harness.carrier.receive(10, RECEIVE_WAIT_S)
    _expect(not items, f"a link that is down gave {items}")
    await harness.carrier.acknowledge(["nothing"])  # harmless, and must not raise


async def a_passed_deadline_sends_nothing(harness: CarrierHarness) -> None:
    outcome = await _submit(harness, "MSa:1", within_s=0.0)
    if not (isinstance(outcome, Refused) and outcome.is_returned):
        raise ContractBroken(f"expected a returned Refused, got {outcome}")
    _expect(not await harness.texts_at(RECIPIENT), "it was delivered all the same")


async def a_batch_gets_each_its_own_outcome(harness: CarrierHarness) -> None:
    await harness.behave(FarSide.REFUSING)
    recipients = [RECIPIENT, OTHER_RECIPIENT, RECIPIENT, OTHER_RECIPIENT]
    refused, accepted, also_refused, also_accepted = await _submit_batch(harness, recipients)
    for outcome in (refused, also_refused):
        if not (isinstance(outcome, Refused) and outcome.error_code == REFUSAL_CODE):
            raise ContractBroken(f"expected a Refused with its code, got {outcome}")
    if not (isinstance(accepted, Accepted) and isinstance(also_accepted, Accepted)):
        raise ContractBroken(f"expected two Accepted, got {accepted} and {also_accepted}")
    ids = {accepted.carrier_message_id, also_accepted.carrier_message_id}
    _expect(len(ids) == 2, f"two messages have the id {ids}")
    texts = await harness.texts_at(OTHER_RECIPIENT)
    _expect(list(texts) == [TEXT, TEXT], f"the handset has {texts}")


async def silence_about_some_of_a_batch_is_unknown_by_the_deadline(harness: CarrierHarness) -> None:
    await harness.behave(FarSide.SILENT)
    began = harness.clock.monotonic()
    mute, heard = await _submit_batch(
        harness, [RECIPIENT, OTHER_RECIPIENT], within_s=SILENCE_DEADLINE_S
    )
    took_s = harness.clock.monotonic() - began
    _expect(isinstance(mute, Unknown), f"expected Unknown, got {mute}")
    _expect(isinstance(heard, Accepted), f"expected Accepted, got {heard}")
    _expect(took_s < SILENCE_DEADLINE_S + LATENESS_MAX_S, f"it took {took_s:.3f} s")


async def a_batch_that_could_not_leave_is_returned(harness: CarrierHarness) -> None:
    await harness.cut_link()
    for _ in range(2):  # also while the link is known to be down
        for outcome in await _submit_batch(harness, [RECIPIENT, OTHER_RECIPIENT]):
            if not (isinstance(outcome, Refused) and outcome.is_returned):
                raise ContractBroken(f"expected a returned Refused, got {outcome}")


async def a_batch_whose_deadline_has_passed_is_not_sent(harness: CarrierHarness) -> None:
    for outcome in await _submit_batch(harness, [RECIPIENT, RECIPIENT], within_s=0.0):
        if not (isinstance(outcome, Refused) and outcome.is_returned):
            raise ContractBroken(f"expected a returned Refused, got {outcome}")
    _expect(not await harness.texts_at(RECIPIENT), "it was delivered all the same")


async def a_receipt_comes_again_until_it_is_acknowledged(harness: CarrierHarness) -> None:
    outcome = await _submit(harness, "MSa:1")
    first = await _next_item(harness)
    if not (isinstance(first, ReceiptItem) and isinstance(outcome, Accepted)):
        raise ContractBroken(f"expected a receipt, got {first} after {outcome}")
    _expect(first.status == "delivered", f"the status is {first.status}")
    _expect(first.carrier_message_id == outcome.carrier_message_id, f"{first} is of another")
    _expect(first.reference in {"", "MSa:1"}, f"the reference is {first.reference!r}")
    await _comes_again_until_acknowledged(harness, first)


async def an_inbound_message_comes_again_until_it_is_acknowledged(harness: CarrierHarness) -> None:
    await harness.send_from_handset(RECIPIENT, SENDER, TEXT)
    first = await _next_item(harness)
    if not isinstance(first, InboundItem):
        raise ContractBroken(f"expected an inbound message, got {first}")
    seen = (first.sender, first.recipient, first.text)
    _expect(seen == (RECIPIENT, SENDER, TEXT), f"the message is {seen}")
    await _comes_again_until_acknowledged(harness, first)


CONTRACT: Final[Mapping[str, Clause]] = {
    clause.__name__: clause
    for clause in (
        an_accepted_message_reaches_the_handset,
        many_messages_at_once_get_each_its_own_answer,
        a_refused_message_says_why,
        a_throttled_message_is_returned,
        silence_is_unknown_by_the_deadline,
        a_message_that_could_not_leave_is_returned,
        a_passed_deadline_sends_nothing,
        a_batch_gets_each_its_own_outcome,
        silence_about_some_of_a_batch_is_unknown_by_the_deadline,
        a_batch_that_could_not_leave_is_returned,
        a_batch_whose_deadline_has_passed_is_not_sent,
        a_receipt_comes_again_until_it_is_acknowledged,
        an_inbound_message_comes_again_until_it_is_acknowledged,
    )
}


async def _submit_all(harness: CarrierHarness, references: Sequence[str]) -> list[Outcome]:
    """Submit them all at once."""
    async with asyncio.TaskGroup() as tasks:
        under_way = [tasks.create_task(_submit(harness, each)) for each in references]
    return [each.result() for each in under_way]


async def _submit_batch(
    harness: CarrierHarness, recipients: Sequence[str], *, within_s: float = OUTCOME_DEADLINE_S
) -> list[Outcome]:
    """The outcomes in the order of `recipients`."""
    outcomes: dict[int, Outcome] = {}
    told: list[int] = []
    is_done = asyncio.Event()

    def settle(place: int, outcome: Outcome) -> None:
        told.append(place)
        outcomes[place] = outcome
        if len(outcomes) == len(recipients):
            is_done.set()

    harness.carrier.submit_many(
        [
            Submission(f"MSb:{harness.clock.monotonic()}:{place}", SENDER, recipient, TEXT)
            for place, recipient in enumerate(recipients)
        ],
        deadline=Deadline.after(within_s, harness.clock),
        on_outcome=settle,
    )
    _expect(not told, "an outcome was told before the hand-over returned")
    async with asyncio.timeout(within_s + LATENESS_MAX_S):
        await is_done.wait()
    _expect(len(told) == len(recipients), f"outcomes were told for {told}")
    return [outcomes[place] for place in range(len(recipients))]


async def _submit(
    harness: CarrierHarness, reference: str, *, within_s: float = OUTCOME_DEADLINE_S
) -> Outcome:
    submission = Submission(reference, SENDER, RECIPIENT, TEXT)
    deadline = Deadline.after(within_s, harness.clock)
    return await harness.carrier.submit(submission, key=reference, deadline=deadline)


async def _comes_again_until_acknowledged(harness: CarrierHarness, first: Item) -> None:
    again = await _next_item(harness)
    _expect(_identity(again) == _identity(first), f"{again} came instead of {first} again")
    await harness.carrier.acknowledge([again.item_id])
    quiet_until = Deadline.after(RECEIVE_WAIT_S, harness.clock)
    while not quiet_until.has_passed():
        items = await harness.carrier.receive(10, quiet_until.remaining_s())
        _expect(not items, f"{items} came after the acknowledgement")


async def _next_item(harness: CarrierHarness) -> Item:
    deadline = Deadline.after(ARRIVAL_DEADLINE_S, harness.clock)
    while not deadline.has_passed():
        items = await harness.carrier.receive(1, RECEIVE_WAIT_S)
        if items:
            return items[0]
    raise ContractBroken(f"nothing came in {ARRIVAL_DEADLINE_S} s")


def _identity(item: Item) -> tuple[str, str]:
    return type(item).__name__, item.carrier_message_id


def _expect(is_kept: bool, otherwise: str) -> None:
    if not is_kept:
        raise ContractBroken(otherwise)
