"""Messages whose status an application is told."""

import pytest
from tests.unit.api.api_world import (
    ACCOUNT,
    APPLICATIONS,
    HANDSET,
    MESSAGES,
    OTHER_ACCOUNT,
    OTHER_TOKEN,
    OUR_NUMBER,
    World,
)

pytestmark = pytest.mark.anyio


async def test_an_application_is_told_what_becomes_of_a_message(world: World) -> None:
    both = {
        "MessageStatusCallback": "https://app.example/m",
        "SmsStatusCallback": "https://app.example/s",
    }
    older = {"SmsStatusCallback": "https://app.example/s"}
    sids = [(await world.post(APPLICATIONS, form)).json["sid"] for form in (both, older, {})]

    for sid in sids:
        assert (await world.send(ApplicationSid=sid)).status == 201
    await world.send(ApplicationSid=sids[0], StatusCallback="https://app.example/own")

    told = [new.status_callback for new, _ in world.acceptor.accepted]
    assert told == [
        "https://app.example/m",
        "https://app.example/s",
        None,
        "https://app.example/own",
    ]


async def test_an_application_that_is_not_ours_is_told_nothing(world: World) -> None:
    theirs = APPLICATIONS.replace(ACCOUNT, OTHER_ACCOUNT)
    made = await world.call("POST", theirs, user=OTHER_ACCOUNT, token=OTHER_TOKEN)

    for sid in (made.json["sid"], "AP" + "9" * 32, "AP9"):
        answered = await world.send(ApplicationSid=sid)
        assert (answered.status, answered.code) == (400, 21218)
    world.applications.is_electing = True
    assert (await world.send(ApplicationSid=made.json["sid"])).status == 503
    assert world.acceptor.accepted == []


async def test_a_repeat_is_answered_though_its_application_is_gone(world: World) -> None:
    made = await world.post(APPLICATIONS, {"MessageStatusCallback": "https://app.example/m"})
    form = {"To": HANDSET, "From": OUR_NUMBER, "Body": "Hello", "ApplicationSid": made.json["sid"]}
    first = await world.post(MESSAGES, form, {"idempotency-key": "order-42"})
    await world.call("DELETE", made.json["uri"])

    again = await world.post(MESSAGES, form, {"idempotency-key": "order-42"})
    another = await world.post(MESSAGES, form, {"idempotency-key": "order-43"})

    assert (again.status, again.json["sid"]) == (201, first.json["sid"])
    assert (another.status, another.code) == (400, 21218)
