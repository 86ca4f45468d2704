"""Creating, fetching and listing messages, as a client sees it."""

import pytest
from tests.unit.api.api_world import (
    ACCOUNT,
    HANDSET,
    MESSAGES,
    OTHER_ACCOUNT,
    OTHER_TOKEN,
    OUR_NUMBER,
    THEIR_NUMBER,
    World,
)

from trunkline.domain.events import (
    Ambiguous,
    Claimed,
    HandedOver,
    KeyConflict,
    Kind,
    MessageCreated,
    MessageReceived,
    NumberOwned,
    Receipt,
    Refused,
    Type,
)
from trunkline.domain.message import Message, fold
from trunkline.kernel import Deadline
from trunkline.messaging.accept import NotAccepted, OutcomeUnknown

pytestmark = pytest.mark.anyio

NAME = "SM" + "c" * 32


def path_of(name: str) -> str:
    return MESSAGES.replace(".json", f"/{name}.json")


async def test_a_message_that_was_accepted_is_answered_201_with_its_record(world: World) -> None:
    answered = await world.send(Body="Grüße 👋")

    assert answered.status == 201
    message = answered.json
    assert message["body"] == "Grüße 👋"
    assert (message["from"], message["to"]) == (OUR_NUMBER, HANDSET)
    assert message["status"] == "queued"
    assert message["direction"] == "outbound-api"
    assert (message["num_segments"], message["num_media"]) == ("1", "0")
    assert message["date_created"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert message["date_sent"] is None
    assert message["uri"] == path_of(message["sid"])


async def test_what_the_client_sent_reaches_the_acceptor(world: World) -> None:
    await world.send(
        MediaUrl=["https://example.org/a.png", "https://example.org/b.png"],
        StatusCallback="http://localhost:5000/status",
        ValidityPeriod="60",
    )

    new, key = world.acceptor.accepted[0]
    assert new.media_urls == ("https://example.org/a.png", "https://example.org/b.png")
    assert new.status_callback == "http://localhost:5000/status"
    assert new.validity_s == 60
    assert key is None


async def test_a_plus_sign_that_was_not_escaped_is_still_a_plus_sign(world: World) -> None:
    answered = await world.post(MESSAGES, b"To=+15125550123&From=+15125550100&Body=a+b")

    assert answered.status == 201
    assert answered.json["to"] == HANDSET
    assert answered.json["body"] == "a b"


async def test_the_path_is_taken_without_json_too(world: World) -> None:
    form = {"To": HANDSET, "From": OUR_NUMBER, "Body": "Hello"}

    assert (await world.post(MESSAGES.removesuffix(".json"), form)).status == 201


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"To": None}, 21604),
        ({"To": ""}, 21604),
        ({"To": "5125550123"}, 21211),
        ({"To": "+1512555O123"}, 21211),
        ({"To": "+\uff11\uff15125550123"}, 21211),
        ({"From": None}, 21603),
        ({"From": "Trunkline"}, 21212),
        ({"From": "+15125550188"}, 21659),
        ({"From": THEIR_NUMBER}, 21659),
        ({"To": OUR_NUMBER}, 21266),
        ({"Body": None}, 21602),
        ({"Body": ""}, 21602),
        ({"Body": "x" * 1601}, 21617),
        ({"MediaUrl": [f"https://example.org/{n}" for n in range(11)]}, 21623),
        ({"MediaUrl": ["ftp://example.org/a.png"]}, 21620),
        ({"StatusCallback": "/status"}, 21609),
        ({"StatusCallback": "https://"}, 21609),
        ({"StatusCallback": "https://[::1"}, 21609),
        ({"StatusCallback": "https://example.org:port/"}, 21609),
        ({"StatusCallback": "https://example.org/a b"}, 21609),
        ({"ValidityPeriod": "0"}, 20001),
        ({"ValidityPeriod": "36001"}, 20001),
        ({"ValidityPeriod": "1_000"}, 20001),
        ({"ValidityPeriod": "9" * 400}, 20001),
        ({"ProvideFeedback": "perhaps"}, 20001),
        ({"SendAt": "tomorrow", "ScheduleType": "fixed"}, 35114),
        ({"SendAt": "2023-11-14T22:28:19Z", "ScheduleType": "fixed"}, 35114),
        ({"SendAt": "2023-12-19T22:13:21Z", "ScheduleType": "fixed"}, 35114),
        ({"SendAt": "2023-11-15T00:00:00Z"}, 20001),
        ({"ScheduleType": "fixed"}, 20001),
        ({"MessagingServiceSid": "MG1"}, 20001),
        ({"ContentRetention": "forever"}, 20001),
    ],
)
async def test_a_message_that_cannot_be_is_refused_with_the_code_clients_know(
    world: World, parameters: dict[str, object], code: int
) -> None:
    answered = await world.send(**parameters)

    assert (answered.status, answered.code) == (400, code)
    assert answered.json["more_info"].endswith(str(code))
    assert world.acceptor.accepted == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"MessagingServiceSid": "MG" + "1" * 32},
        {"ContentSid": "HX" + "1" * 32},
        {"ShortenUrls": "true"},
        {"ContentRetention": "discard"},
        {"AddressRetention": "obfuscate"},
    ],
)
async def test_what_we_cannot_honour_yet_is_refused_by_name_and_not_ignored(
    world: World, parameters: dict[str, str]
) -> None:
    answered = await world.send(**parameters)

    assert (answered.status, answered.code) == (501, 20501)
    assert next(iter(parameters)) in answered.json["message"]
    assert world.acceptor.accepted == []


async def test_harmless_parameters_and_unknown_ones_are_taken_and_ignored(world: World) -> None:
    answered = await world.send(
        SmartEncoded="true", ProvideFeedback="True", ShortenUrls="false", Nonsense="x", Attempt="2"
    )

    assert answered.status == 201


async def test_a_repeat_with_the_same_key_is_the_same_message(world: World) -> None:
    form = {"To": HANDSET, "From": OUR_NUMBER, "Body": "Hello"}

    first = await world.post(MESSAGES, form, {"idempotency-key": "order-42"})
    again = await world.post(MESSAGES, form, {"i-twilio-idempotency-token": "order-42"})

    assert (first.status, again.status) == (201, 201)
    assert first.body == again.body
    assert len(world.acceptor.accepted) == 1


async def test_a_key_in_the_callback_s_fragment_counts_and_is_not_stored(world: World) -> None:
    await world.send(StatusCallback="https://app.example/cb?x=1#rc=3&ik=order%2D42&rp=all")
    await world.send(StatusCallback="https://app.example/cb#ik=order-43")

    (first, first_key), (second, second_key) = world.acceptor.accepted
    assert (first.status_callback, first_key) == (
        "https://app.example/cb?x=1#rc=3&rp=all",
        "order-42",
    )
    assert (second.status_callback, second_key) == ("https://app.example/cb", "order-43")


async def test_a_key_with_other_parameters_is_422_and_names_the_first(world: World) -> None:
    headers = {"idempotency-key": "order-42"}
    form = {"To": HANDSET, "From": OUR_NUMBER, "Body": "Hello"}
    first = await world.post(MESSAGES, form, headers)

    other = await world.post(MESSAGES, form | {"Body": "Goodbye"}, headers)

    assert (other.status, other.code) == (422, 20422)
    assert first.json["sid"] in other.json["message"]


@pytest.mark.parametrize("key", ["", "x" * 256, "café", "a\tb"])
async def test_a_malformed_key_is_refused_and_never_ignored(world: World, key: str) -> None:
    form = {"To": HANDSET, "From": OUR_NUMBER, "Body": "Hello"}

    answered = await world.post(MESSAGES, form, {"idempotency-key": key})

    assert (answered.status, answered.code) == (400, 20001)
    assert world.acceptor.accepted == []


async def test_a_message_surely_not_accepted_is_503_and_says_when_to_try_again(
    world: World,
) -> None:
    world.acceptor.says = NotAccepted("the log is full", retry_after_s=3)

    answered = await world.send()

    assert (answered.status, answered.code) == (503, 20503)
    assert answered.headers["retry-after"] == "3"
    assert "will not be sent" in answered.json["message"]


async def test_an_unknown_outcome_says_so_and_how_to_repeat_safely(world: World) -> None:
    world.acceptor.says = OutcomeUnknown("no answer")
    form = {"To": HANDSET, "From": OUR_NUMBER, "Body": "Hello"}

    keyed = await world.post(MESSAGES, form, {"idempotency-key": "order-42"})
    keyless = await world.post(MESSAGES, form)

    for answered in (keyed, keyless):
        assert (answered.status, answered.code) == (503, 20503)
        assert answered.headers["retry-after"] == "1"
        assert "may have been accepted" in answered.json["message"]
    assert "the same Idempotency-Key" in keyed.json["message"]
    assert "look for it" in keyless.json["message"]


async def test_a_fetched_message_shows_what_became_of_it(world: World) -> None:
    created = (await world.send()).json
    name = created["sid"]
    await world.clock.advance(2.0)
    world.copy.put(
        Kind.MESSAGE,
        Type.OUTCOME,
        ACCOUNT,
        name,
        HandedOver(attempt=1, carrier="c", carrier_message_id="9"),
    )
    world.copy.catch_up()

    message = (await world.get(path_of(name))).json

    assert message["status"] == "sent"
    assert message["date_sent"] == "Tue, 14 Nov 2023 22:13:22 +0000"


async def test_what_has_arrived_was_sent_also_before_the_carriers_answer_is_written_down(
    world: World,
) -> None:
    name = (await world.send()).json["sid"]
    await world.clock.advance(2.0)
    receipt = Receipt(status="delivered", carrier="c", carrier_message_id="9")
    world.copy.put(Kind.MESSAGE, Type.RECEIPT, ACCOUNT, name, receipt)
    world.copy.catch_up()

    message = (await world.get(path_of(name))).json

    assert message["status"] == "delivered"
    assert message["date_sent"] == "Tue, 14 Nov 2023 22:13:22 +0000"


async def test_a_failed_message_says_why(world: World) -> None:
    name = (await world.send()).json["sid"]
    world.copy.put(Kind.MESSAGE, Type.REFUSAL, ACCOUNT, name, Refused(attempt=1, error_code=30005))
    world.copy.catch_up()

    message = (await world.get(path_of(name))).json

    assert (message["status"], message["error_code"]) == ("failed", 30005)
    assert "unknown" in message["error_message"]


async def test_an_inbound_message_is_shown_as_received(world: World) -> None:
    name = "MM" + "d" * 32
    body = MessageReceived(
        sid=name,
        sender=HANDSET,
        recipient=OUR_NUMBER,
        text="Hi",
        media_urls=("https://example.org/a",),
    )
    world.copy.put(Kind.INBOUND, Type.ORIGINAL, ACCOUNT, name, body)
    world.copy.catch_up()

    message = (await world.get(path_of(name))).json

    assert (message["direction"], message["status"]) == ("inbound", "received")
    assert message["num_media"] == "1"


async def test_a_fetch_says_that_the_key_was_used_for_something_else_too(world: World) -> None:
    name = (await world.send()).json["sid"]
    conflict = KeyConflict(kept="f1", dropped="f2", dropped_in_shard=3)
    world.copy.put(Kind.MESSAGE, Type.KEY_CONFLICT, ACCOUNT, name, conflict)
    world.copy.catch_up()

    answered = await world.get(path_of(name))

    assert answered.headers["x-trunkline-key-conflict"] == "1"


async def test_a_fetch_says_how_old_it_may_be_and_how_many_attempts_are_ambiguous(
    world: World,
) -> None:
    name = (await world.send()).json["sid"]
    claim = Claimed(attempt=1, nonce="n", lease="l", carrier="c")
    world.copy.put(Kind.MESSAGE, Type.CLAIM, ACCOUNT, name, claim)
    world.copy.put(Kind.MESSAGE, Type.AMBIGUOUS, ACCOUNT, name, Ambiguous(attempt=1))
    world.copy.catch_up()

    answered = await world.get(path_of(name))

    assert answered.headers["x-trunkline-ambiguous-attempts"] == "1"
    assert int(answered.headers["x-trunkline-replica-lag-ms"]) >= 0


async def test_a_message_the_copy_does_not_have_yet_is_found_in_the_log(world: World) -> None:
    body = MessageCreated(sid=NAME, sender=OUR_NUMBER, recipient=HANDSET, text="Hello")
    empty = Message(account=ACCOUNT)
    world.lookup.knows[NAME] = fold(empty, body, at=1.0, event_id="e", position=0)

    answered = await world.get(path_of(NAME))

    assert (answered.status, answered.json["sid"]) == (200, NAME)


async def test_a_message_is_404_only_when_every_shard_said_no(world: World) -> None:
    answered = await world.get(path_of(NAME))
    assert (answered.status, answered.code) == (404, 20404)
    assert path_of(NAME) in answered.json["message"]

    world.lookup.is_electing = True
    answered = await world.get(path_of(NAME))
    assert (answered.status, answered.code) == (503, 20503)
    assert answered.headers["retry-after"] == "1"


async def test_another_account_s_message_is_404(world: World) -> None:
    name = (await world.send()).json["sid"]
    world.copy.catch_up()
    path = path_of(name).replace(ACCOUNT, OTHER_ACCOUNT)

    answered = await world.call("GET", path, user=OTHER_ACCOUNT, token=OTHER_TOKEN)

    assert (answered.status, answered.code) == (404, 20404)


async def test_a_word_that_is_no_sid_is_404_without_asking_any_shard(world: World) -> None:
    assert (await world.get(path_of("SM-not-a-sid"))).status == 404
    assert world.lookup.asked == 0


async def test_following_the_links_shows_every_message_once_newest_first(world: World) -> None:
    names = []
    for _ in range(7):
        names.append((await world.send()).json["sid"])
        await world.clock.advance(1.0)
    world.copy.catch_up()

    seen: list[str] = []
    pages = []
    uri: str | None = f"{MESSAGES}?PageSize=3&To=%2B15125550123"
    while uri is not None:
        page = (await world.get(uri)).json
        pages.append(page)
        seen += [message["sid"] for message in page["messages"]]
        uri = page["next_page_uri"]

    assert seen == names[::-1]
    assert [(page["page"], page["start"], page["end"]) for page in pages] == [
        (0, 0, 2),
        (1, 3, 5),
        (2, 6, 6),
    ]
    assert all("To=%2B15125550123" in page["uri"] for page in pages)


async def test_the_links_lead_back_as_well(world: World) -> None:
    for _ in range(5):
        await world.send()
        await world.clock.advance(1.0)
    world.copy.catch_up()
    first = (await world.get(f"{MESSAGES}?PageSize=2")).json
    second = (await world.get(first["next_page_uri"])).json
    third = (await world.get(second["next_page_uri"])).json

    back = (await world.get(third["previous_page_uri"])).json
    start = (await world.get(back["previous_page_uri"])).json

    assert back["messages"] == second["messages"]
    assert start["messages"] == first["messages"]
    assert first["previous_page_uri"] is None


async def test_messages_that_arrive_while_one_pages_hide_none(world: World) -> None:
    for _ in range(4):
        await world.send()
        await world.clock.advance(1.0)
    world.copy.catch_up()
    first = (await world.get(f"{MESSAGES}?PageSize=2")).json

    await world.send()
    world.copy.catch_up()
    second = (await world.get(first["next_page_uri"])).json

    shown = [message["sid"] for message in first["messages"] + second["messages"]]
    assert len(set(shown)) == 4
    assert second["next_page_uri"] is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("DateSent=2023-11-14", 1),
        ("DateSent=2023-11-15", 1),
        ("DateSent=2023-11-14T00:00:00Z", 1),
        ("DateSent=2023-11-14T23:59:59Z", 1),
        ("DateSent=2023-11-14T23:59:59-01:00", 1),
        ("DateSent=2023-11-13T23:59:59Z", 0),
        ("DateSent%3E=2023-11-15", 1),
        ("DateSent>=2023-11-14", 2),
        ("DateSent<=2023-11-14", 1),
        ("DateSent%3C=2023-11-13", 0),
        ("DateSent%3E=2023-11-15T00:00:00Z", 1),
        ("DateSent%3C=2023-11-14T22:13:20Z", 1),
        ("DateSent%3C=2023-11-14T23:13:20%2B01:00", 1),
        ("DateSent%3C=2023-11-14T23:13:20+01:00", 1),
        ("DateSent%3C=2023-11-14T23:13:19+01:00", 0),
        ("DateSent%3C=2023-11-14+22:13:20", 1),
        ("DateSent%3C=2023-11-14T22:13:19Z", 0),
        ("From=%2B15125550100", 2),
        ("From=+15125550100", 2),
        ("From=%2B15125550111", 0),
    ],
)
async def test_a_list_is_filtered_by_date_and_party(
    world: World, query: str, expected: int
) -> None:
    await world.send()  # 2023-11-14 22:13:20 UTC
    await world.clock.advance(7200.0)
    await world.send()  # 2023-11-15 00:13:20 UTC
    world.copy.catch_up()

    page = (await world.get(f"{MESSAGES}?{query}")).json

    assert len(page["messages"]) == expected


@pytest.mark.parametrize(
    "query",
    [
        "PageSize=0",
        "PageSize=-1",
        "PageSize=many",
        "Page=-1",
        "Page=1",
        "PageToken=nonsense",
        "PageToken=%C3%A9",
        "PageToken=" + "A" * 3000,
        "DateSent=yesterday",
        "DateSent=2023-13-40",
        "DateSent=0001-01-01T00:00:00%2B23:59&DateSent%3E=x",
    ],
)
async def test_a_list_that_cannot_be_is_refused(world: World, query: str) -> None:
    answered = await world.get(f"{MESSAGES}?{query}")

    assert (answered.status, answered.code) == (400, 20001)


@pytest.mark.parametrize("size", [1000, 1001, 100_000])
async def test_a_page_larger_than_there_are_is_the_largest(world: World, size: int) -> None:
    answered = await world.get(f"{MESSAGES}?PageSize={size}")

    assert answered.status == 200
    assert answered.json["page_size"] == 1000
    assert "PageSize=1000&" in answered.json["uri"]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("PageSize=many", "The parameter 'PageSize' is not valid: it must be a whole number"),
        ("Page=-1", "'Page' is not valid: it must be a whole number, at least 0"),
        ("DateSent=yesterday", "it must be a date, like 2026-01-31, or a date and time"),
    ],
)
async def test_a_malformed_value_is_answered_with_the_form_it_should_have(
    world: World, query: str, wanted: str
) -> None:
    assert wanted in (await world.get(f"{MESSAGES}?{query}")).json["message"]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("ValidityPeriod", "soon", "it must be a whole number."),
        ("ProvideFeedback", "perhaps", "it must be true or false"),
        ("RiskCheck", "maybe", "it must be one of enable, disable"),
        ("MessagingServiceSid", "MG1", "it must be a SID: MG and 32 hexadecimal digits"),
        ("FallbackFrom", "5", "it must be a phone number in E.164 form, like +15551234567"),
    ],
)
async def test_each_kind_of_value_says_its_own_form(
    world: World, name: str, value: str, wanted: str
) -> None:
    answered = await world.send(**{name: value})

    assert (answered.status, answered.code) == (400, 20001)
    assert f"The parameter '{name}' is not valid: {wanted}" in answered.json["message"]


async def test_a_list_of_nothing_is_a_page_of_nothing(world: World) -> None:
    answered = await world.get(MESSAGES)

    assert answered.status == 200
    assert answered.json["messages"] == []
    assert answered.json["next_page_uri"] is None
    assert answered.json["page_size"] == 50
    assert answered.headers["x-trunkline-replica-lag-ms"].isdigit()


async def test_a_number_that_was_just_bought_through_another_host_can_be_sent_from(
    world: World,
) -> None:
    bought = NumberOwned(sid="PN" + "5" * 32, phone_number="+15125550177", friendly_name="new")
    theirs = NumberOwned(sid="PN" + "6" * 32, phone_number="+15125550178", friendly_name="new")
    deadline = Deadline.after(5.0, world.clock)
    await world.numbers.own(ACCOUNT, bought, is_keyed=False, deadline=deadline)
    await world.numbers.own(OTHER_ACCOUNT, theirs, is_keyed=False, deadline=deadline)

    assert (await world.send(From=bought.phone_number)).status == 201
    refused = await world.send(From=theirs.phone_number)
    assert (refused.status, refused.code) == (400, 21659)


async def test_the_log_is_not_asked_about_a_number_that_the_copy_shows(world: World) -> None:
    assert (await world.send()).status == 201

    assert world.numbers.asked == 0


async def test_while_nobody_can_tell_whose_a_number_is_it_is_not_refused_for_good(
    world: World,
) -> None:
    world.numbers.is_electing = True

    answered = await world.send(From="+15125550177")

    assert (answered.status, answered.headers["retry-after"]) == (503, "1")
    assert world.acceptor.accepted == []
