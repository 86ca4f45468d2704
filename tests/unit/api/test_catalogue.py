"""The generated catalogue, and that what we answer is what it publishes."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.api.api_world import ACCOUNT, MESSAGES, NUMBERS, World

from trunkline.api import catalogue, resources
from trunkline.api.arguments import is_sid_shaped
from trunkline.api.catalogue import Catalogue, Property
from trunkline.api.paging import PAGE_SIZE_DEFAULT
from trunkline.api.resources import RESOURCES
from trunkline.api.routes import Routes
from trunkline.domain.errors import FAULTS

ROOT = Path(__file__).parents[3]
SOURCE = ROOT.parent / "shared" / "twilio-oai" / "twilio_api_v2010.json"
RFC_2822 = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} \+0000\Z")
KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "any": object,
}


@pytest.fixture(scope="module")
def known() -> Catalogue:
    return catalogue.load()


def test_the_catalogue_has_every_operation_of_the_published_api(known: Catalogue) -> None:
    assert len(known.operations) == 197
    assert len({operation.name for operation in known.operations}) == 197


def test_the_catalogue_speaks_of_no_type_that_it_does_not_have(known: Catalogue) -> None:
    named = {each.type for operation in known.operations for each in operation.parameters}
    named |= {operation.response for operation in known.operations if operation.response}
    for type_ in known.types.values():
        named |= {each.type for each in type_.properties.values()}
        named |= {type_.items} - {""}

    assert named == known.types.keys()


def test_every_operation_is_found_at_its_path(known: Catalogue) -> None:
    routes = Routes((operation, operation.name) for operation in known.operations)

    for operation in known.operations:
        match = routes.match(operation.path)
        assert match is not None
        assert match.by_method[operation.method] == operation.name


def test_every_handler_belongs_to_an_operation(known: Catalogue) -> None:
    assert RESOURCES.keys() <= {operation.name for operation in known.operations}


def test_every_resource_is_in_the_table_and_on_the_page(known: Catalogue) -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    in_table = {handler.run.__module__ for handler in RESOURCES.values()}
    folder = Path(resources.__file__).parent
    on_disk = {f"{resources.__name__}.{file.stem}" for file in folder.glob("[!_]*.py")}

    assert in_table == on_disk
    for operation in known.operations:
        described = f"| `{operation.name}` | `{operation.method} {operation.path}` |"
        assert (described in page) == (operation.name in RESOURCES)
    assert all(str(int(code)) in page for code in FAULTS)


def test_the_catalogue_is_what_the_published_documents_give() -> None:
    if not SOURCE.exists():
        pytest.skip(f"the published documents are not at {SOURCE}")
    script = ROOT / "scripts" / "generate_catalogue.py"

    checked = subprocess.run(
        [sys.executable, str(script), "--source", str(SOURCE), "--check"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.anyio
async def test_what_is_answered_has_every_published_property_and_no_other(
    world: World, known: Catalogue
) -> None:
    for name, answered in (await _answers(world)).items():
        operation = next(each for each in known.operations if each.name == name)
        assert answered.status == operation.http_status
        if not operation.response:
            assert answered.body == b""
            continue
        content = answered.json
        if operation.list_key:
            paging = {
                "first_page_uri",
                "next_page_uri",
                "previous_page_uri",
                "uri",
                "page",
                "page_size",
                "start",
                "end",
            }
            assert content.keys() == paging | {operation.list_key}
            assert content["page_size"] == PAGE_SIZE_DEFAULT
            (content,) = content[operation.list_key]
        _check(content, Property(operation.response), known, operation.name)


async def _answers(world: World) -> dict[str, Any]:
    """One good answer of every operation that is implemented."""
    message = await world.send()
    number = await world.post(NUMBERS, {"PhoneNumber": "+15125550150"})
    world.copy.catch_up()
    owned = (await world.get(NUMBERS)).json["incoming_phone_numbers"][0]
    answers = {
        "FetchAccount": await world.get(f"/2010-04-01/Accounts/{ACCOUNT}.json"),
        "CreateIncomingPhoneNumber": number,
        "ListIncomingPhoneNumber": await world.get(NUMBERS),
        "FetchIncomingPhoneNumber": await world.get(owned["uri"]),
        "CreateMessage": message,
        "ListMessage": await world.get(MESSAGES),
        "FetchMessage": await world.get(message.json["uri"]),
        "UpdateMessage": await _canceled(world),
        "DeleteMessage": await world.call("DELETE", _path_of(await _canceled(world))),
    }
    assert answers.keys() == RESOURCES.keys(), "a new operation needs an answer here"
    return answers


async def _canceled(world: World) -> Any:
    """A message that was scheduled and is not wanted any more."""
    made = await world.send(SendAt="2023-11-15T00:00:00Z", ScheduleType="fixed")
    world.copy.catch_up()
    return await world.post(_path_of(made), {"Status": "canceled"})


def _path_of(answered: Any) -> str:
    return str(answered.json["uri"])


def _check(value: object, published: Property, known: Catalogue, where: str) -> None:
    type_ = known.types[published.type]
    if value is None:
        assert published.is_nullable, f"{where} is null"
        return
    assert isinstance(value, KINDS[type_.shape]), f"{where} is {value!r}"
    if type_.prefixes and value != "":
        assert is_sid_shaped(str(value), frozenset(type_.prefixes)), f"{where} is {value!r}"
    if type_.words:
        assert value in type_.words, f"{where} is {value!r}"
    if type_.format == "date-time-rfc-2822":
        assert RFC_2822.match(str(value)), f"{where} is {value!r}"
    if type_.properties:
        assert isinstance(value, dict)
        assert value.keys() == type_.properties.keys(), where
        for name, inner in type_.properties.items():
            _check(value[name], inner, known, f"{where}.{name}")
