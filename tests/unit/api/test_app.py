"""What every request meets: routes, credentials, bodies, errors, headers and probes."""

import itertools
from base64 import b64encode
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message as AsgiMessage
from starlette.types import Receive
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
from trunkline.api.form import BODY_BYTES_MAX, BODY_DISCARDED_BYTES_MAX, fields_of_body, read_body
from trunkline.api.remembered import REMEMBERED_MAX_S
from trunkline.domain.errors import FAULTS
from trunkline.kernel import Alarms
from trunkline.messaging.accept import NotAccepted

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
    answered = await world.get(f"/2010-04-01/Accounts/{ACCOUNT}/Queues.json")

    assert (answered.status, answered.code) == (501, 20501)
    assert "ListQueue" in answered.json["message"]


async def test_a_word_of_the_path_goes_before_a_placeholder(world: World) -> None:
    answered = await world.get(f"/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers/Local.json")

    assert answered.status == 200
    assert len(answered.json["incoming_phone_numbers"]) == 1


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


async def test_a_token_that_was_changed_is_refused_as_soon_as_the_copy_shows_it(
    world: World,
) -> None:
    assert (await world.get(MESSAGES)).status == 200

    world.copy.change_token(ACCOUNT, "another-token")
    world.copy.catch_up()

    assert (await world.get(MESSAGES)).status == 401
    assert (await world.call("GET", MESSAGES, token="another-token")).status == 200


async def test_what_was_remembered_is_read_again_when_the_copy_s_writer_says_nothing_for_long(
    world: World,
) -> None:
    assert (await world.get(MESSAGES)).status == 200

    world.copy.change_token(ACCOUNT, "another-token")
    assert (await world.get(MESSAGES)).status == 200
    await world.clock.advance(REMEMBERED_MAX_S)

    assert (await world.get(MESSAGES)).status == 401


@pytest.mark.parametrize("account", [OTHER_ACCOUNT, "AC" + "0" * 32, "me"])
async def test_another_account_s_path_is_401_whether_it_exists_or_not(
    world: World, account: str
) -> None:
    answered = await world.get(f"/2010-04-01/Accounts/{account}/Messages.json")

    assert (answered.status, answered.code) == (401, 20003)


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


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (NUL_BODY, "The parameter 'Body' is not valid: it contains a NUL character."),
        (b"To=%2B1&Body=%ff", "The parameter 'Body' is not valid: it is not UTF-8."),
        (b"Nonsense=a%00b", "The request's body is not valid: it contains a NUL character."),
        (b"B%00dy=a", "The request's body is not valid: it contains a NUL character."),
        (b"&".join(b"a=b" for _ in range(300)), "The request's body is not valid: it has more"),
    ],
)
async def test_a_body_that_is_refused_says_where(world: World, body: bytes, said: str) -> None:
    assert said in (await world.post(MESSAGES, body)).json["message"]


async def test_a_query_that_is_refused_says_where(world: World) -> None:
    named = (await world.get(f"{MESSAGES}?To=%00")).json["message"]
    unnamed = (await world.get(f"{MESSAGES}?X=%00")).json["message"]

    assert named == "The parameter 'To' is not valid: it contains a NUL character."
    assert unnamed == "The request's query is not valid: it contains a NUL character."


async def test_a_body_that_is_too_large_is_read_to_its_end_before_the_answer(world: World) -> None:
    answered = await world.post(MESSAGES, TOO_LARGE, {"content-length": str(len(TOO_LARGE))})

    assert answered.status == 413
    assert "connection" not in answered.headers


def endless(taken: list[int]) -> Receive:
    """A client that never stops sending, and how much of it was read."""
    chunk = b"x" * (1024 * 1024)

    async def receive() -> AsgiMessage:
        taken.append(len(chunk))
        return {"type": "http.request", "body": chunk, "more_body": True}

    return receive


@pytest.mark.parametrize(
    ("headers", "bytes_max"),
    [
        ({}, BODY_DISCARDED_BYTES_MAX + 1024 * 1024),
        ({b"content-length": b"9" * 30}, 0),
        ({b"content-length": b"70000", b"expect": b"100-Continue"}, 0),
    ],
)
async def test_a_body_without_end_is_cut_off_and_the_connection_with_it(
    headers: dict[bytes, bytes], bytes_max: int
) -> None:
    taken: list[int] = []

    with pytest.raises(ApiError) as refused:
        await read_body(endless(taken), headers, Alarms())

    assert refused.value.http_status == 413
    assert refused.value.headers == ((b"connection", b"close"),)
    assert sum(taken) == bytes_max


async def test_a_program_that_polls_what_is_not_implemented_does_not_fill_the_log(
    world: World,
) -> None:
    with capture_logs() as logs:
        await world.get(f"/2010-04-01/Accounts/{ACCOUNT}/Queues.json")

    assert [(entry["log_level"], entry["http_status"]) for entry in logs] == [("debug", 501)]


async def test_a_create_that_was_not_accepted_is_a_warning(world: World) -> None:
    world.acceptor.says = NotAccepted("the log is full")

    with capture_logs() as logs:
        await world.send()

    assert [entry["log_level"] for entry in logs] == ["warning"]


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


@given(
    st.text(alphabet="ab+%&=2BCc3é\u20ac 09", max_size=40).map(str.encode)
    | st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=6).map(
        lambda pairs: urlencode(pairs, errors="surrogatepass").encode()
    )
)
def test_a_form_is_read_as_the_standard_library_reads_it(body: bytes) -> None:
    try:
        expected = parse_qsl(body.decode(), keep_blank_values=True, errors="strict")
        is_clean = "\x00" not in "".join(itertools.chain(*expected))
    except UnicodeDecodeError:
        expected, is_clean = [], False

    try:
        fields = fields_of_body(body, {})
    except ApiError:
        assert not is_clean
        return

    assert is_clean
    assert sorted((name, value) for name, values in fields.items() for value in values) == sorted(
        expected
    )


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
    fields |= {"what": "It", "characters_max": 1, "items_max": 1, "status": "queued"}

    for code in FAULTS:
        assert ApiError(code, (), **fields).answer().http_status == FAULTS[code].http_status
