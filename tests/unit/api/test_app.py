"""What every request meets: routes, credentials, bodies, errors, headers and probes."""

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message as AsgiMessage
from structlog.testing import capture_logs
from tests.unit.api.api_world import (
    ACCOUNT,
    HANDSET,
    MESSAGES,
    OTHER_ACCOUNT,
    OUR_NUMBER,
    TOKEN,
    World,
)

from trunkline.api.errors import ApiError
from trunkline.api.form import BODY_BYTES_MAX, fields_of_body
from trunkline.domain.errors import FAULTS

pytestmark = pytest.mark.anyio

FORM = {"To": HANDSET, "From": OUR_NUMBER, "Body": "Hello"}
NUL_BODY = b"To=%2B15125550123&From=%2B15125550100&Body=a%00b"
TOO_LARGE = b"Body=" + b"x" * BODY_BYTES_MAX


async def test_a_path_nobody_knows_is_404_in_the_shape_clients_parse(world: World) -> None:
    answered = await world.get("/2010-04-01/Nothing.json")

    assert answered.status == 404
    assert answered.headers["content-type"] == "application/json"
    assert answered.json == {
        "code": 20404,
        "message": "The requested resource /2010-04-01/Nothing.json was not found",
        "more_info": "https://www.twilio.com/docs/errors/20404",
        "status": 404,
    }


async def test_a_wrong_method_is_405_and_says_which_are_right(world: World) -> None:
    answered = await world.call("PUT", MESSAGES)

    assert (answered.status, answered.code) == (405, 20004)
    assert answered.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_an_operation_not_implemented_is_501_and_named(world: World) -> None:
    answered = await world.get(f"/2010-04-01/Accounts/{ACCOUNT}/Balance.json")

    assert (answered.status, answered.code) == (501, 20501)
    assert "FetchBalance" in answered.json["message"]


async def test_a_word_of_the_path_goes_before_a_placeholder(world: World) -> None:
    answered = await world.get(f"/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers/Local.json")

    assert "ListIncomingPhoneNumberLocal" in answered.json["message"]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic !!!!",
        "Bearer abc",
        "Basic " + b64encode(b"no-colon").decode(),
        "Basic " + b64encode(f"{ACCOUNT}:".encode()).decode(),
        "Basic " + b64encode(f"{ACCOUNT}:wrong".encode()).decode(),
        "Basic " + b64encode(f"{ACCOUNT}:{TOKEN}x".encode()).decode(),
        "Basic " + b64encode(b"\xff\xfe:x").decode(),
        "Basic " + b64encode(f"AC{'0' * 32}:{TOKEN}".encode()).decode(),
        "Basic " + b64encode(b"AC" + b"0" * 32 + b":" + b"\x00" * 32).decode(),
        "Basic " + "A" * 5000,
    ],
)
async def test_bad_credentials_are_401_with_a_challenge(
    world: World, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}

    answered = await world.call("GET", MESSAGES, user=None, headers=headers)

    assert (answered.status, answered.code) == (401, 20003)
    assert answered.headers["www-authenticate"] == 'Basic realm="Twilio API"'


@pytest.mark.parametrize("account", [OTHER_ACCOUNT, "AC" + "0" * 32, "me"])
async def test_another_account_s_path_is_404_whether_it_exists_or_not(
    world: World, account: str
) -> None:
    answered = await world.get(f"/2010-04-01/Accounts/{account}/Messages.json")

    assert (answered.status, answered.code) == (404, 20404)


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"To=%2B1&Body=%ff", {}, 400, 20001),
        (b"To=\xff", {}, 400, 20001),
        (b"Body=%ED%A0%80", {}, 400, 20001),
        (b"Body=%C0%80", {}, 400, 20001),
        (NUL_BODY, {}, 400, 20001),
        (b"Body=a\x00b", {}, 400, 20001),
        (b"&".join(b"a=b" for _ in range(300)), {}, 400, 20001),
        (b"&".join(b"MediaUrl=https://a.example" for _ in range(150)), {}, 400, 20001),
        (TOO_LARGE, {}, 413, 20413),
        (b"x", {"content-length": "9" * 30}, 413, 20413),
        (b"{}", {"content-type": "application/json"}, 415, 20415),
        (b"x", {"content-type": "multipart/form-data; boundary=x"}, 415, 20415),
        (b"x", {"content-type": "application/x-www-form-urlencoded; charset=utf-16"}, 415, 20415),
        (b"", {"content-type": "text/plain"}, 400, 21604),
        (b"%%%&&&===", {}, 400, 21604),
    ],
)
async def test_a_hostile_body_is_refused_and_nothing_is_stored(
    world: World, body: bytes, headers: dict[str, str], status: int, code: int
) -> None:
    answered = await world.post(MESSAGES, body, headers)

    assert (answered.status, answered.code) == (status, code)
    assert world.acceptor.accepted == []


async def test_a_charset_that_is_utf_8_is_fine(world: World) -> None:
    kind = {"content-type": 'application/x-www-form-urlencoded; charset="UTF-8"'}

    assert (await world.post(MESSAGES, FORM, kind)).status == 201


@given(st.binary(max_size=200))
def test_any_bytes_are_either_fields_of_clean_text_or_a_refusal(body: bytes) -> None:
    try:
        fields = fields_of_body(body, {})
    except ApiError:
        return
    text = "".join(name + "".join(values) for name, values in fields.items())
    assert "\x00" not in text
    text.encode("utf-8")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["To", "From", "Body", "MediaUrl", "StatusCallback", "ValidityPeriod"]),
    value=st.text(max_size=50),
)
async def test_no_text_in_any_field_is_ever_an_internal_error(
    world: World, name: str, value: str
) -> None:
    body = {
        key: text.encode("utf-8", "surrogatepass") for key, text in (FORM | {name: value}).items()
    }

    answered = await world.post(MESSAGES, body)

    assert answered.status in (201, 400)


async def test_a_client_that_leaves_early_is_not_answered(world: World) -> None:
    token = b64encode(f"{ACCOUNT}:{TOKEN}".encode())
    scope = {
        "type": "http",
        "method": "POST",
        "path": MESSAGES,
        "query_string": b"",
        "headers": [(b"authorization", b"Basic " + token)],
    }

    async def receive() -> AsgiMessage:
        return {"type": "http.disconnect"}

    async def send(message: AsgiMessage) -> None:
        raise AssertionError(f"answered {message}")

    await world.app(scope, receive, send)

    assert world.acceptor.accepted == []


async def test_a_failure_of_ours_is_500_and_tells_nothing_but_the_request(world: World) -> None:
    async def broken(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError(f"broken by {TOKEN}")

    world.acceptor.accept = broken  # type: ignore[method-assign]  # it breaks on purpose

    with capture_logs() as logs:
        answered = await world.send(Body="private words")

    assert (answered.status, answered.code) == (500, 20500)
    assert TOKEN not in answered.body.decode()
    assert answered.headers["twilio-request-id"] in answered.json["message"]
    failed = next(entry for entry in logs if entry["event"] == "api.failed")
    assert failed["request_id"] == answered.headers["twilio-request-id"]
    assert "private words" not in str(logs)


async def test_every_answer_names_its_request_and_how_long_it_took(world: World) -> None:
    seen = set()
    for path in (MESSAGES, "/nothing", "/healthz"):
        headers = (await world.get(path)).headers
        assert headers["twilio-request-id"].startswith("RQ")
        assert float(headers["twilio-request-duration"]) >= 0.0
        seen.add(headers["twilio-request-id"])
    assert len(seen) == 3


async def test_head_is_a_get_without_its_body_and_options_needs_no_credentials(
    world: World,
) -> None:
    get = await world.get(MESSAGES)
    head = await world.call("HEAD", MESSAGES)
    options = await world.call("OPTIONS", MESSAGES, user=None)

    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(get.body))
    assert (options.status, options.headers["allow"]) == (200, "GET, HEAD, OPTIONS, POST")


async def test_a_host_says_whether_it_lives_and_what_it_waits_for(world: World) -> None:
    world.missing = ["replica", "log"]
    assert (await world.call("GET", "/healthz", user=None)).status == 200
    not_ready = await world.call("GET", "/readyz", user=None)
    assert (not_ready.status, not_ready.json["not_ready"]) == (503, ["replica", "log"])

    world.missing = []
    assert (await world.call("GET", "/readyz", user=None)).status == 200
    assert (await world.call("POST", "/readyz", user=None)).status == 405


async def test_requests_are_counted_by_operation_and_status(world: World) -> None:
    await world.send()
    await world.send(To=None)
    await world.get("/nothing")

    text = (await world.call("GET", "/metrics", user=None)).body.decode()

    assert 'trunkline_api_requests_total{operation="CreateMessage",status="201"} 1.0' in text
    assert 'trunkline_api_requests_total{operation="CreateMessage",status="400"} 1.0' in text
    assert 'trunkline_api_requests_total{operation="unknown",status="404"} 1.0' in text
    assert "trunkline_api_accept_seconds_count 1.0" in text


async def test_nothing_private_is_logged_for_a_request(world: World) -> None:
    with capture_logs() as logs:
        world_of_logs = await world.send(Body="private words")

    assert world_of_logs.status == 201
    assert TOKEN not in str(logs)
    assert "private words" not in str(logs)


def test_every_refusal_says_what_its_sentence_promises() -> None:
    fields: dict[str, str | int] = {"parameter": "To", "reason": "r", "path": "/", "method": "PUT"}
    fields |= {"allowed": "GET", "seconds": 1, "bytes_max": 1, "sid": "SM", "request_id": "RQ"}
    fields |= {"what": "It", "characters_max": 1, "items_max": 1}

    for code in FAULTS:
        assert ApiError(code, (), **fields).answer().http_status == FAULTS[code].http_status
