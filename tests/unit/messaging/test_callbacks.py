"""Status callbacks: which steps are told, and with what."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from trunkline.domain.callback import came_about, has_callback, untold
from trunkline.domain.events import (
    Body,
    Canceled,
    Claimed,
    Deleted,
    HandedOver,
    MessageCreated,
    Receipt,
    Refused,
)
from trunkline.domain.message import Ending, Message, fold
from trunkline.domain.status import FINAL, Status, rank
from trunkline.messaging.callbacks import plan_of

SID = "SM" + "1" * 32
ACCOUNT = "AC" + "2" * 32
URL = "https://app.example/status"
CLAIM = Claimed(attempt=1, nonce="n", lease="l", carrier="acme")
TAKEN = HandedOver(attempt=1, carrier="acme", carrier_message_id="acme-1")
REFUSED = Refused(attempt=1, error_code=30003)
STEPS = ["sending", "sent", "delivered"]
DELIVERED = Receipt(status="delivered", carrier="acme", carrier_message_id="acme-1")
FAILED = Receipt(status="failed", carrier="acme", carrier_message_id="acme-1", error_code=30008)


def message(
    *, callback: str | None = URL, open_status: Status = Status.QUEUED, ending: Ending | None = None
) -> Message:
    return Message(
        sid=SID,
        account=ACCOUNT,
        original=MessageCreated(
            sid=SID, sender="+15550001", recipient="+15550002", text="hi", status_callback=callback
        ),
        open_status=open_status,
        ending=ending,
    )


def test_the_initial_status_is_never_told() -> None:
    plan = plan_of(message(), "token", told=frozenset())

    assert plan is not None
    assert plan.steps == ()


def test_a_receipt_that_overtook_its_answer_still_tells_every_step_in_order() -> None:
    ending = Ending(1.0, "e", Status.DELIVERED)

    plan = plan_of(message(ending=ending), "token", told=frozenset())

    assert plan is not None
    assert [step.name for step in plan.steps] == ["sending", "sent", "delivered"]
    assert (plan.url, plan.method, plan.auth_token) == (URL, "POST", "token")


def test_a_callback_says_which_message_is_where() -> None:
    ending = Ending(1.0, "e", Status.UNDELIVERED, 30003)

    plan = plan_of(message(ending=ending), "token", told=frozenset({Status.SENDING}))

    assert plan is not None
    sent, undelivered = plan.steps
    assert dict(sent.params) == {
        "MessageSid": SID,
        "SmsSid": SID,
        "MessageStatus": "sent",
        "SmsStatus": "sent",
        "AccountSid": ACCOUNT,
        "From": "+15550001",
        "To": "+15550002",
        "ApiVersion": "2010-04-01",
    }
    assert dict(undelivered.params)["ErrorCode"] == "30003"
    assert dict(sent.headers)["X-Trunkline-Sequence"] == str(rank(Status.SENT))


def test_the_same_step_carries_the_same_token_on_every_host_and_others_another() -> None:
    ending = Ending(1.0, "e", Status.DELIVERED)

    first = plan_of(message(ending=ending), "token", told=frozenset())
    again = plan_of(message(ending=ending), "token", told=frozenset({Status.SENDING}))

    assert first is not None
    assert again is not None
    assert [step.token for step in first.steps][1:] == [step.token for step in again.steps]
    assert len({step.token for step in first.steps}) == 3


@pytest.mark.parametrize("status", ["delivered", "undelivered"])
def test_the_end_is_told_with_the_carrier_s_date_if_it_gave_one(status: str) -> None:
    dated = replace(DELIVERED, status=status, done_date="2611251330")

    for receipt, said in ((dated, "2611251330"), (replace(dated, done_date=""), None)):
        record = fold(message(), receipt, at=1.0, event_id="e", position=0)
        plan = plan_of(record, "token", told=frozenset({Status.SENDING}))
        assert plan is not None
        sent, ended = plan.steps
        assert dict(ended.params).get("RawDlrDoneDate") == said
        assert "RawDlrDoneDate" not in dict(sent.params)


def test_a_callback_says_when_its_step_came_about_and_says_the_same_when_repeated() -> None:
    record = message()
    for at, body in (
        (1_700_000_000.25, CLAIM),
        (1_700_000_001.5, TAKEN),
        (1_700_000_003.0, FAILED),
    ):
        record = fold(record, body, at=at, event_id=str(at), position=0)

    first = plan_of(record, "token", told=frozenset())
    again = plan_of(
        fold(record, CLAIM, at=1_700_000_009.0, event_id="late", position=0),
        "token",
        told=frozenset({Status.SENDING}),
    )

    assert first is not None
    assert again is not None
    said = [dict(step.headers)["X-Trunkline-Timestamp"] for step in first.steps]
    assert said == [
        "2023-11-14T22:13:20.250Z",
        "2023-11-14T22:13:21.500Z",
        "2023-11-14T22:13:23.000Z",
    ]
    assert [dict(step.headers)["X-Trunkline-Timestamp"] for step in again.steps] == said[1:]


def test_a_step_that_only_follows_from_a_later_one_came_about_with_it() -> None:
    record = fold(message(), DELIVERED, at=5.0, event_id="1", position=0)
    assert [came_about(record, step) for step in (Status.SENDING, Status.SENT)] == [5.0, 5.0]

    record = fold(record, TAKEN, at=7.0, event_id="2", position=0)
    assert came_about(record, Status.SENT) == 5.0


def told_of(*history: Body, told: frozenset[Status] = frozenset()) -> list[str]:
    """What is told when all of `history` was seen before anything was."""
    record = message()
    for number, body in enumerate(history):
        record = fold(record, body, at=float(number), event_id=str(number), position=0)
    plan = plan_of(record, "token", told=told)
    assert plan is not None
    return [step.name for step in plan.steps]


def test_a_message_that_failed_after_it_was_sent_is_told_to_have_failed() -> None:
    told = frozenset({Status.SENDING, Status.SENT})

    assert told_of(CLAIM, TAKEN, FAILED, told=told) == ["failed"]


def test_a_message_that_was_refused_is_always_told_to_have_been_sending() -> None:
    assert told_of(CLAIM, REFUSED) == ["sending", "failed"]
    assert told_of(CLAIM, REFUSED, told=frozenset({Status.SENDING})) == ["failed"]


def test_a_message_that_was_never_tried_is_only_told_to_have_failed() -> None:
    assert told_of(REFUSED) == ["failed"]


@pytest.mark.parametrize("history", list(itertools.permutations((CLAIM, TAKEN, FAILED))))
def test_a_failure_reported_by_a_carrier_is_told_through_every_step(
    history: tuple[Body, ...],
) -> None:
    assert told_of(*history) == ["sending", "sent", "failed"]


def test_a_failure_that_overtook_its_answer_is_told_through_every_step() -> None:
    assert told_of(CLAIM, FAILED) == ["sending", "sent", "failed"]


def test_a_scheduled_message_that_was_taken_back_is_only_told_to_be_canceled() -> None:
    assert told_of(Canceled()) == ["canceled"]


def test_a_message_that_was_deleted_is_told_to_its_end() -> None:
    assert told_of(CLAIM, TAKEN, DELIVERED, Deleted()) == STEPS


def test_a_message_without_a_callback_has_no_plan() -> None:
    assert not has_callback(message(callback=None))
    assert plan_of(message(callback=None), "token", told=frozenset()) is None


OUTBOUND = [status for status in Status if "receiv" not in status.value]
PASSED = st.sampled_from([Status.QUEUED, Status.SENDING, Status.SENT])


@given(st.sampled_from(OUTBOUND), PASSED, st.frozensets(st.sampled_from(OUTBOUND)))
def test_telling_never_goes_back_and_never_behind_an_end(
    status: Status, passed: Status, told: frozenset[Status]
) -> None:
    way = untold(status, passed, told)

    ranks = [rank(step) for step in way]
    assert ranks == sorted(ranks)
    assert not told & set(way)
    if told & FINAL:
        assert way == ()
    elif status in FINAL:
        assert way[-1] is status


@given(st.sampled_from(OUTBOUND), PASSED, st.frozensets(st.sampled_from(OUTBOUND)))
def test_once_told_there_is_nothing_left_to_tell(
    status: Status, passed: Status, told: frozenset[Status]
) -> None:
    assert untold(status, passed, told | set(untold(status, passed, told))) == ()
