"""Scheduling, canceling, redacting and deleting messages, as a client sees it."""

import pytest
from tests.unit.api.api_world import (
    ACCOUNT,
    HANDSET,
    MESSAGES,
    OTHER_ACCOUNT,
    OTHER_TOKEN,
    OUR_NUMBER,
    Answered,
    World,
)

from trunkline.domain.events import Claimed, HandedOver, Kind, MessageReceived, Receipt, Type
from trunkline.messaging.cancel import TooLate, Unsettled

pytestmark = pytest.mark.anyio

LATER = {"SendAt": "2023-11-15T00:00:00Z", "ScheduleType": "fixed"}
HANDED_OVER = HandedOver(attempt=1, carrier="acme", carrier_message_id="1")
DELIVERED = Receipt(status="delivered", carrier="acme", carrier_message_id="1")
INBOUND = "SM" + "d" * 32


async def scheduled(world: World) -> str:
    """The path of a message that is to be sent later."""
    made = await world.send(**LATER)
    assert made.status == 201
    world.copy.catch_up()
    return str(made.json["uri"])


async def finished(world: World, **parameters: object) -> str:
    """The path of a message that was delivered."""
    made = await world.send(**parameters)
    sid = made.json["sid"]
    world.copy.put(Kind.MESSAGE, Type.OUTCOME, ACCOUNT, sid, HANDED_OVER)
    world.copy.put(Kind.MESSAGE, Type.RECEIPT, ACCOUNT, sid, DELIVERED)
    world.copy.catch_up()
    return str(made.json["uri"])


async def listed(world: World) -> list[str]:
    return [each["uri"] for each in (await world.get(MESSAGES)).json["messages"]]


def refused_with(answered: Answered) -> tuple[int, int]:
    return answered.status, answered.code


async def test_a_message_with_a_time_to_send_at_is_scheduled(world: World) -> None:
    answered = await world.send(**LATER)

    assert (answered.status, answered.json["status"]) == (201, "scheduled")
    (new, _), *_ = world.acceptor.accepted
    assert new.send_at == 1_700_006_400.0


@pytest.mark.parametrize("moment", ["2023-11-14T22:28:20Z", "2023-12-19T22:13:20Z"])
async def test_the_bounds_of_what_can_be_scheduled_belong_to_it(world: World, moment: str) -> None:
    assert (await world.send(**LATER | {"SendAt": moment})).status == 201


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("2023-11-15T00:00:00.750Z", 1_700_006_400.75),
        ("2023-11-15T02:00:00+02:00", 1_700_006_400.0),
    ],
)
async def test_a_message_is_scheduled_for_the_very_moment_and_not_before(
    world: World, written: str, at: float
) -> None:
    assert (await world.send(**LATER | {"SendAt": written})).status == 201
    (new, _), *_ = world.acceptor.accepted
    assert new.send_at == at


@pytest.mark.parametrize("day", ["2023-11-16", "20231116"])
async def test_a_day_is_no_moment_to_send_at(world: World, day: str) -> None:
    assert refused_with(await world.send(**LATER | {"SendAt": day})) == (400, 35114)


async def test_a_repeat_of_a_schedule_that_is_too_near_by_now_is_answered_as_the_first_one(
    world: World,
) -> None:
    form = {"To": HANDSET, "From": OUR_NUMBER, "Body": "Hello", **LATER}
    headers = {"idempotency-key": "order-42"}
    first = await world.post(MESSAGES, form, headers)
    await world.clock.advance(6_400.0)

    again = await world.post(MESSAGES, form, headers)
    another = await world.post(MESSAGES, form, {"idempotency-key": "order-43"})

    assert (again.status, again.body) == (201, first.body)
    assert refused_with(another) == (400, 35114)
    assert len(world.acceptor.accepted) == 1


async def test_what_there_is_no_timer_for_is_not_accepted_and_what_was_accepted_is_known(
    world: World,
) -> None:
    form = {"To": HANDSET, "From": OUR_NUMBER, "Body": "Hello", **LATER}
    first = await world.post(MESSAGES, form, {"idempotency-key": "order-42"})
    world.has_room_for_later = False

    again = await world.post(MESSAGES, form, {"idempotency-key": "order-42"})
    another = await world.post(MESSAGES, form, {"idempotency-key": "order-43"})

    assert (again.status, again.body) == (201, first.body)
    assert refused_with(another) == (503, 20503)
    assert "will not be sent" in another.json["message"]
    assert another.headers["retry-after"] == "60"
    assert (await world.send()).status == 201, "what leaves at once needs no timer"


async def test_a_scheduled_message_is_canceled_and_a_repeat_says_the_same(world: World) -> None:
    path = await scheduled(world)

    first = await world.post(path, {"Status": "canceled"})
    again = await world.post(path, {"Status": "canceled"})

    assert (first.status, first.json["status"]) == (200, "canceled")
    assert (again.status, again.body) == (200, first.body)
    assert first.json["error_code"] is None
    assert (await world.get(path)).json["status"] == "canceled"


async def test_a_message_that_is_not_scheduled_cannot_be_canceled(world: World) -> None:
    made = await world.send()
    world.copy.catch_up()

    answered = await world.post(made.json["uri"], {"Status": "canceled"})

    assert refused_with(answered) == (409, 30409)
    assert "queued" in answered.json["message"]


async def test_a_cancel_that_comes_behind_the_claim_is_refused(world: World) -> None:
    path = await scheduled(world)
    world.changes.says = TooLate()

    assert refused_with(await world.post(path, {"Status": "canceled"})) == (409, 30409)


async def test_a_cancel_of_unknown_outcome_says_so(world: World) -> None:
    path = await scheduled(world)
    world.changes.says = Unsettled("its shard is electing")

    answered = await world.post(path, {"Status": "canceled"})

    assert refused_with(answered) == (503, 20503)
    assert "may have been canceled" in answered.json["message"]
    assert answered.headers["retry-after"] == "1"


async def test_a_redacted_message_has_lost_its_text_and_nothing_else(
    world: World,
) -> None:
    path = await finished(world, Body="secret", MediaUrl=["https://example.org/a.png"])

    answered = await world.post(path, {"Body": ""})

    assert (answered.status, answered.json["body"]) == (200, "")
    assert answered.json["num_media"] == "1", "media are deleted on their own"
    fetched = (await world.get(path)).json
    (shown,) = (await world.get(MESSAGES)).json["messages"]
    assert fetched == shown == answered.json
    assert (fetched["to"], fetched["status"]) == (HANDSET, "delivered")


async def test_an_inbound_message_can_be_redacted(world: World) -> None:
    body = MessageReceived(sid=INBOUND, sender=HANDSET, recipient=OUR_NUMBER, text="secret")
    world.copy.put(Kind.INBOUND, Type.ORIGINAL, ACCOUNT, INBOUND, body)
    world.copy.catch_up()

    answered = await world.post(MESSAGES.replace(".json", f"/{INBOUND}.json"), {"Body": ""})

    assert (answered.status, answered.json["body"]) == (200, "")


async def test_a_deleted_message_is_found_by_nobody(world: World) -> None:
    path, other = await finished(world), await finished(world)

    answered = await world.call("DELETE", path)

    assert (answered.status, answered.body) == (204, b"")
    assert "content-length" not in answered.headers
    assert refused_with(await world.get(path)) == (404, 20404)
    assert await listed(world) == [other]
    for form in ({"Body": ""}, {"Status": "canceled"}):
        assert refused_with(await world.post(path, form)) == (404, 20404)
    assert refused_with(await world.call("DELETE", path)) == (404, 20404)
    assert world.lookup.asked == 0, "the log still holds it, and must not be asked"


@pytest.mark.parametrize("status", ["queued", "sending", "sent", "scheduled"])
async def test_what_is_not_finished_is_neither_redacted_nor_deleted(
    world: World, status: str
) -> None:
    made = await world.send(**LATER if status == "scheduled" else {})
    sid, path = made.json["sid"], made.json["uri"]
    if status in ("sending", "sent"):
        claim = Claimed(attempt=1, nonce="n", lease="l", carrier="acme")
        world.copy.put(Kind.MESSAGE, Type.CLAIM, ACCOUNT, sid, claim)
    if status == "sent":
        world.copy.put(Kind.MESSAGE, Type.OUTCOME, ACCOUNT, sid, HANDED_OVER)
    world.copy.catch_up()

    for answered in (await world.post(path, {"Body": ""}), await world.call("DELETE", path)):
        assert refused_with(answered) == (409, 20009)
        assert status in answered.json["message"]
    assert (await world.get(path)).json["body"] == "Hello"


async def test_an_erasure_of_unknown_outcome_says_so(world: World) -> None:
    path = await finished(world)
    world.changes.is_unsure = True

    for answered in (await world.post(path, {"Body": ""}), await world.call("DELETE", path)):
        assert refused_with(answered) == (503, 20503)
        assert "Send the request again" in answered.json["message"]


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"Body": "other words"},
        {"Status": "sent"},
        {"Nonsense": "x"},
        {"Status": "canceled", "Body": ""},
    ],
)
async def test_a_change_that_nobody_can_make_is_refused(world: World, form: dict[str, str]) -> None:
    path = await finished(world)

    assert refused_with(await world.post(path, form)) == (400, 30400)
    assert (await world.get(path)).json["body"] == "Hello"


async def test_a_message_of_another_account_cannot_be_changed(world: World) -> None:
    path = (await finished(world)).replace(ACCOUNT, OTHER_ACCOUNT)

    for method, body in (("POST", b"Body="), ("DELETE", b"")):
        answered = await world.call(method, path, body=body, user=OTHER_ACCOUNT, token=OTHER_TOKEN)
        assert refused_with(answered) == (404, 20404)
