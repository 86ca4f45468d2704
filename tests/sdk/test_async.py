"""The official Python SDK with its asynchronous client, over every operation that is implemented."""

import re
import time
from typing import Any

import anyio
import pytest
from tests.sdk.walking import NAMED, VERBS, Call, calls, steps_of
from tests.system.running import Running
from twilio.base.exceptions import TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

from trunkline.api import catalogue
from trunkline.api.resources import RESOURCES

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(120),
    pytest.mark.anyio,
    # How the SDK gives its HTTP client the credentials is not ours to change.
    pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'auth' parameter:DeprecationWarning"),
]

ATTEMPT_MAX_S = 10.0
PAUSE_S = 0.1
WITHOUT_ARGUMENTS = ("Fetch", "Delete")
UNLIKE_THEIR_PATH = {"FetchRecordingAddOnResultPayloadData"}
"""Of all 197, the SDK has this one alone as a call of another kind."""


async def test_every_operation_answers_the_asynchronous_client(host: Running) -> None:
    account = host.facts["account_sid"]
    known = {"Accounts": account, **NAMED}
    called = set()

    async with AsyncTwilioHttpClient(timeout=ATTEMPT_MAX_S) as http_client:
        client = Client(account, host.facts["auth_token"], http_client=http_client)
        client.api.base_url = host.facts["base_url"]
        for call in calls(catalogue.load(), host.facts):
            answer = await performed(client, call, known)
            first = answer[0] if isinstance(answer, list) and answer else answer
            sid = getattr(first, "sid", None)
            if sid:
                known.setdefault(call.collection, sid)
            called.add(call.operation)

    assert called == RESOURCES.keys()


def test_the_walk_finds_every_operation_of_the_catalogue_in_the_sdk() -> None:
    client = Client("AC" + "0" * 32, "made up")
    lost = set()

    for operation in catalogue.load().operations:
        verb = next(verb for verb in VERBS if operation.name.startswith(verb))
        known = {step.of: "made up" for step in steps_of(operation)}
        try:
            getattr(
                resource(client, Call(operation.name, verb, steps_of(operation), "", {}), known),
                verb.lower(),
            )
        except AttributeError:
            lost.add(operation.name)

    assert lost == UNLIKE_THEIR_PATH


async def performed(client: Client, call: Call, known: dict[str, str]) -> Any:
    """What was just made may be shown, or be ready, a moment later; a create is never repeated."""
    until = time.monotonic() + ATTEMPT_MAX_S
    act = getattr(resource(client, call, known), f"{call.verb.lower()}_async")
    given = {} if call.verb in WITHOUT_ARGUMENTS else keywords(call)
    # Of what nothing here creates, the first one is listed once the host has made it.
    is_awaited = call.verb == "List" and call.collection not in known
    while True:
        try:
            answer = await act(**given)
            if answer != [] or not is_awaited or time.monotonic() > until:
                return answer
        except TwilioRestException as error:
            may_pass = call.verb != "Create" and error.status in (400, 404, 409)
            if not may_pass or time.monotonic() > until:
                raise AssertionError(f"{call}: {error}; see tests/sdk/arguments.json") from error
        await anyio.sleep(PAUSE_S)


def keywords(call: Call) -> dict[str, Any]:
    given = {snake(name): value for name, value in call.arguments.items()}
    if "from" in given:
        given["from_"] = given.pop("from")
    return {**given, "limit": 3} if call.verb == "List" else given


def resource(client: Client, call: Call, known: dict[str, str]) -> Any:
    at: Any = client.api.v2010
    for step in call.steps:
        at = getattr(at, snake(step.word))
        if step.of:
            assert step.of in known, f"{call}: nothing was made or listed at {step.of}"
            at = at(known[step.of])
    return at


def snake(word: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", word).lower()
