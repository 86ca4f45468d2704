"""The generated catalogue, and that what we answer is what it publishes."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests import published_shapes
from tests.unit.api.api_world import (
    ACCOUNT,
    APPLICATIONS,
    AVAILABLE,
    MESSAGES,
    NUMBERS,
    World,
    available,
)

from trunkline.api import catalogue, resources
from trunkline.api.arguments import is_sid_shaped
from trunkline.api.catalogue import Catalogue, Property
from trunkline.api.media_bytes import media_path
from trunkline.api.paging import PAGE_SIZE_DEFAULT
from trunkline.api.resources import RESOURCES
from trunkline.api.routes import Routes
from trunkline.domain.errors import FAULTS
from trunkline.domain.events import Kind, MediaKept, Type
from trunkline.domain.media import Piece, media_sid

ROOT = Path(__file__).parents[3]
SOURCE = ROOT.parent / "shared" / "twilio-oai" / "twilio_api_v2010.json"
RFC_2822 = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} \+0000\Z")
KINDS = published_shapes.KINDS | {"any": object}


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
            content, *_ = content[operation.list_key]
        _check(content, Property(operation.response), known, operation.name)


async def _of_applications(world: World) -> dict[str, Any]:
    made = await world.post(APPLICATIONS, {"FriendlyName": "desk"})
    uri = made.json["uri"]
    return {
        "CreateApplication": made,
        "ListApplication": await world.get(APPLICATIONS),
        "FetchApplication": await world.get(uri),
        "UpdateApplication": await world.post(uri, {"SmsUrl": "https://app.example/sms"}),
        "DeleteApplication": await world.call("DELETE", uri),
    }


async def _of_available_numbers(world: World) -> dict[str, Any]:
    return {
        "ListAvailablePhoneNumberCountry": await world.get(AVAILABLE),
        "FetchAvailablePhoneNumberCountry": await world.get(available("GB")),
        "ListAvailablePhoneNumberLocal": await world.get(available("US/Local")),
        "ListAvailablePhoneNumberMobile": await world.get(available("GB/Mobile")),
        "ListAvailablePhoneNumberTollFree": await world.get(available("US/TollFree")),
    }


async def _of_numbers_by_type(world: World) -> dict[str, Any]:
    given = {"Local": "+12025550177", "Mobile": "+447700900177", "TollFree": "+18005550177"}
    answers = {}
    for word, phone_number in given.items():
        path = NUMBERS.replace(".json", f"/{word}.json")
        made = await world.post(path, {"PhoneNumber": phone_number})
        world.give_number(ACCOUNT, phone_number)
        world.copy.catch_up()
        answers[f"CreateIncomingPhoneNumber{word}"] = made
        answers[f"ListIncomingPhoneNumber{word}"] = await world.get(path)
    return answers


async def _of_accounts(world: World) -> dict[str, Any]:
    accounts = "/2010-04-01/Accounts.json"
    made = await world.post(accounts, {"FriendlyName": "Shop"})
    uri = made.json["uri"]
    return {
        "CreateAccount": made,
        "ListAccount": await world.get(accounts),
        "FetchAccount": await world.get(uri),
        "UpdateAccount": await world.post(uri, {"Status": "suspended"}),
    }


async def _of_keys(world: World) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for word in ("Key", "SigningKey"):
        path = f"/2010-04-01/Accounts/{ACCOUNT}/{word}s.json"
        made = await world.post(path, {"FriendlyName": "till"})
        uri = path.replace(".json", f"/{made.json['sid']}.json")
        answers |= {
            f"CreateNew{word}": made,
            f"List{word}": await world.get(path),
            f"Fetch{word}": await world.get(uri),
            f"Update{word}": await world.post(uri, {"FriendlyName": "desk"}),
            f"Delete{word}": await world.call("DELETE", uri),
        }
    return answers


async def _answers(world: World) -> dict[str, Any]:
    """One good answer of every operation that is implemented."""
    message = await world.send()
    canceled = await _canceled(world)
    media = _media(world, message.json["sid"])
    number = await world.post(NUMBERS, {"PhoneNumber": "+15125550150"})
    world.copy.catch_up()
    owned = (await world.get(NUMBERS)).json["incoming_phone_numbers"][0]
    answers = {
        **await _of_applications(world),
        **await _of_available_numbers(world),
        **await _of_numbers_by_type(world),
        **await _of_accounts(world),
        **await _of_keys(world),
        "CreateIncomingPhoneNumber": number,
        "ListIncomingPhoneNumber": await world.get(NUMBERS),
        "FetchIncomingPhoneNumber": await world.get(owned["uri"]),
        "UpdateIncomingPhoneNumber": await world.post(owned["uri"], {"FriendlyName": "renamed"}),
        "DeleteIncomingPhoneNumber": await world.call("DELETE", owned["uri"]),
        "CreateMessage": message,
        "ListMessage": await world.get(MESSAGES),
        "FetchMessage": await world.get(message.json["uri"]),
        "FetchBalance": await world.get(f"/2010-04-01/Accounts/{ACCOUNT}/Balance.json"),
        "ListMedia": await world.get(media.rpartition("/")[0] + ".json"),
        "FetchMedia": await world.get(f"{media}.json"),
        "DeleteMedia": await world.call("DELETE", f"{media}.json"),
        "UpdateMessage": canceled,
        "DeleteMessage": await world.call("DELETE", _path_of(canceled)),
    }
    for variant in (
        *("", "AllTime", "Daily", "LastMonth", "Monthly", "ThisMonth", "Today", "Yearly"),
        "Yesterday",
    ):
        path = f"/2010-04-01/Accounts/{ACCOUNT}/Usage/Records/{variant}".rstrip("/")
        answers[f"ListUsageRecord{variant}"] = await world.get(f"{path}.json?Category=sms")
    assert answers.keys() == RESOURCES.keys(), "a new operation needs an answer here"
    return answers


def _media(world: World, sid: str) -> str:
    """The path of a piece of media that a message has."""
    media = media_sid("event", 0)
    piece = Piece(sid=media, index=0, sha256="0" * 64, content_type="image/png", size_bytes=1)
    world.copy.put(Kind.MESSAGE, Type.MEDIA_KEPT, ACCOUNT, sid, MediaKept(pieces=(piece,)))
    world.copy.catch_up()
    return media_path(ACCOUNT, sid, media)


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
