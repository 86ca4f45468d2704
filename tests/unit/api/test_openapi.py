"""The document that says what this host answers."""

import re
from typing import Any

import msgspec
import pytest
from tests.published_shapes import answer_faults, faults, implemented
from tests.unit.api.api_world import MESSAGES, World

from trunkline.api import catalogue, openapi
from trunkline.api.resources import RESOURCES

pytestmark = pytest.mark.anyio


@pytest.fixture
async def published(world: World) -> Any:
    return (await world.call("GET", openapi.DOCUMENT_PATH, user=None)).json


@pytest.fixture(params=["what is implemented", "everything"])
def either(request: pytest.FixtureRequest) -> Any:
    """As it is, and as it will be when nothing is left to implement."""
    known = catalogue.load()
    everything = [operation.name for operation in known.operations]
    is_all = request.param == "everything"
    return openapi.document(known, everything if is_all else RESOURCES)


async def test_anybody_may_read_it_and_nobody_may_change_it(world: World) -> None:
    read = await world.call("GET", openapi.DOCUMENT_PATH, user=None)
    written = await world.call("POST", openapi.DOCUMENT_PATH, user=None)

    assert (read.status, read.headers["content-type"]) == (200, "application/json")
    assert read.json["openapi"] == "3.1.0"
    assert written.status == 405
    assert await world.metric(f'trunkline_api_requests_total{{operation="{openapi.DOCUMENT_PATH}"')


async def test_it_has_every_operation_and_says_which_are_implemented(published: Any) -> None:
    known = catalogue.load()
    states = {
        operation["operationId"]: operation[openapi.STATE]
        for methods in published["paths"].values()
        for operation in methods.values()
    }

    assert states == {
        operation.name: openapi.IMPLEMENTED
        if operation.name in RESOURCES
        else openapi.NOT_IMPLEMENTED
        for operation in known.operations
    }


async def test_what_is_not_implemented_says_so_by_its_status(published: Any) -> None:
    unable = [
        operation
        for methods in published["paths"].values()
        for operation in methods.values()
        if operation[openapi.STATE] == openapi.NOT_IMPLEMENTED
    ]

    assert {tuple(each["responses"]) for each in unable} == {("401", "404", "501", "503")}
    assert not any("requestBody" in each for each in unable)


async def test_an_implemented_operation_has_every_parameter_of_the_catalogue(
    published: Any,
) -> None:
    known = {operation.name: operation for operation in catalogue.load().operations}

    for _, _, operation in implemented(published):
        form = operation.get("requestBody", {}).get("content", {})
        names = {each["name"] for each in operation["parameters"]} - {"Idempotency-Key"}
        for content in form.values():
            names |= content["schema"]["properties"].keys()
        wanted = {each.name for each in known[operation["operationId"]].parameters}
        assert names == wanted, operation["operationId"]


async def test_every_reference_leads_somewhere_and_nothing_is_left_over(either: Any) -> None:
    referred: set[str] = set()
    waiting: list[Any] = [either]
    while waiting:
        match waiting.pop():
            case {"$ref": reference}:
                referred.add(reference)
            case dict(inner):
                waiting += inner.values()
            case list(items):
                waiting += items
            case _:
                pass
    there = {
        f"#/components/{section}/{name}"
        for section in ("schemas", "responses")
        for name in either["components"][section]
    }

    assert referred == there


async def test_every_component_is_called_as_the_standard_allows(either: Any) -> None:
    names = {name for section in either["components"].values() for name in section}

    assert {name for name in names if re.fullmatch(r"[a-zA-Z0-9._-]+", name) is None} == set()


async def test_every_path_declares_the_words_that_stand_in_it(published: Any) -> None:
    for path, methods in published["paths"].items():
        for operation in methods.values():
            declared = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path)), operation["operationId"]


async def test_it_holds_no_description_but_the_two_words_that_must_be_there(
    published: Any,
) -> None:
    texts = set()
    waiting: list[Any] = [published]
    while waiting:
        match waiting.pop():
            case dict(inner):
                told = inner.get("description")  # a property may have that name
                texts |= {told} if isinstance(told, str) else set()
                waiting += inner.values()
            case list(items):
                waiting += items
            case _:
                pass

    assert texts == {"success", "refused"}


async def test_good_answers_and_refusals_have_the_published_shape(
    world: World, published: Any
) -> None:
    create = published["paths"]["/2010-04-01/Accounts/{AccountSid}/Messages.json"]["post"]
    listing = published["paths"]["/2010-04-01/Accounts/{AccountSid}/Messages.json"]["get"]
    sent, refused = await world.send(), await world.send(To="nobody")
    world.copy.catch_up()
    listed = await world.get(MESSAGES)

    for answered, operation in ((sent, create), (refused, create), (listed, listing)):
        assert answer_faults(answered.json, answered.status, operation, published) == []


@pytest.mark.parametrize(
    "change",
    [
        {"sid": "XX" + "0" * 32},
        {"status": "on its way"},
        {"to": 1},
        {"num_media": None, "besides": 1},
        {"uri": msgspec.UNSET},
    ],
    ids=str,
)
async def test_another_shape_is_found(
    world: World, published: Any, change: dict[str, object]
) -> None:
    schema = published["components"]["schemas"]["api.v2010.account.message"]
    message = (await world.send()).json
    assert faults(message, schema, published) == []

    changed = {n: v for n, v in (message | change).items() if v is not msgspec.UNSET}

    assert faults(changed, schema, published)
