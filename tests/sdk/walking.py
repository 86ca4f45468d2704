"""Every operation that a host implements, as a walk through an SDK: which to call, on what, with what.

A program written with an SDK never sees a path. The walk turns `/Accounts/{AccountSid}/Messages/{Sid}`
into `accounts(...).messages(...)`, so that a resource which is implemented tomorrow is called tomorrow.
What cannot be made up for it stands in `arguments.json`.
"""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trunkline.api.catalogue import Catalogue, Operation
from trunkline.api.resources import RESOURCES

ARGUMENTS = Path(__file__).with_name("arguments.json")
ROOT = "/2010-04-01/"
PICTURE = b"\x89PNG\r\n\x1a\n and so on"
UPLOAD_MAX_S = 10.0
VERBS = ("Create", "List", "Fetch", "Update", "Delete")
"""In the order in which they are called on one resource."""

# What is in a path and has no SID: a country with every type of number.
NAMED = {"Accounts/{AccountSid}/AvailablePhoneNumbers": "GB"}

# Where an SDK calls a resource by another word than its path.
WORDS = {
    "CreateNewKey": "NewKeys",
    "CreateNewSigningKey": "NewSigningKeys",
    "CreateValidationRequest": "ValidationRequests",
}


@dataclass(frozen=True)
class Step:
    """One word of the path; `of` is the collection whose SID stands behind it, if one does."""

    word: str
    of: str = ""


@dataclass(frozen=True)
class Call:
    """One call of an SDK. `collection` is what its answer belongs to."""

    operation: str
    verb: str
    steps: tuple[Step, ...]
    collection: str
    arguments: dict[str, Any]


def calls(known: Catalogue, facts: dict[str, Any]) -> list[Call]:
    """All operations that are implemented, each after those that make what it needs."""
    given = json.loads(ARGUMENTS.read_text("utf-8"))
    fresh = (f"+1202555{last:04}" for last in range(130, 200))
    ranked = sorted(
        (each for each in known.operations if each.name in RESOURCES),
        key=_rank,
    )
    return [_call(each, known, given.get(each.name), facts, fresh) for each in ranked]


def as_json(all_calls: list[Call]) -> str:
    """What a program in another language is told to call."""
    return json.dumps([asdict(each) for each in all_calls])


def steps_of(operation: Operation) -> tuple[Step, ...]:
    """The words of its path, without those that no SDK has."""
    words = operation.path.removeprefix(ROOT).removesuffix(".json").split("/")
    steps: list[Step] = []
    for place, word in enumerate(words):
        if word.startswith("{"):
            steps[-1] = Step(steps[-1].word, "/".join(words[:place]))
        elif word != "SMS":
            steps.append(Step(word))
    if operation.name in WORDS:
        steps[-1] = Step(WORDS[operation.name])
    return tuple(steps)


def _rank(operation: Operation) -> tuple[bool, int, int]:
    verb, depth = VERBS.index(_verb(operation)), operation.path.count("/")
    is_end = verb == VERBS.index("Delete")
    return is_end, -depth if is_end else depth, verb


def _verb(operation: Operation) -> str:
    return next(verb for verb in VERBS if operation.name.startswith(verb))


def _call(
    operation: Operation,
    known: Catalogue,
    given: dict[str, Any] | None,
    facts: dict[str, Any],
    fresh: Iterator[str],
) -> Call:
    steps, path = steps_of(operation), operation.path.removeprefix(ROOT).removesuffix(".json")
    collection = path.rpartition("/")[0] if path.endswith("}") else path
    arguments = _made_up(operation, known) if given is None else given
    for name, value in arguments.items():
        if value == "a number of ours":
            arguments[name] = facts["phone_number"]
        elif value == "a new number":
            arguments[name] = next(fresh)
        elif value == ["a picture"]:
            arguments[name] = [_picture(facts["simulator_url"])]
    return Call(operation.name, _verb(operation), steps, collection, arguments)


def _picture(simulator_url: str) -> str:
    """The URL of a picture, which the simulator gives to whoever asks."""
    asked = urllib.request.Request(  # noqa: S310 - our own server
        f"{simulator_url}/v1/media", data=PICTURE, headers={"Content-Type": "image/png"}
    )
    with urllib.request.urlopen(asked, timeout=UPLOAD_MAX_S) as answer:  # noqa: S310 - our own server
        return str(json.load(answer)["url"])


def _made_up(operation: Operation, known: Catalogue) -> dict[str, Any]:
    """What is required, and of an update a new name."""
    made: dict[str, Any] = {}
    for parameter in operation.parameters:
        type_ = known.types[parameter.type]
        if parameter.place == "form" and parameter.is_required:
            by_format = {"phone-number": "a new number", "uri": "http://127.0.0.1:9/unused"}
            text = type_.words[0] if type_.words else by_format.get(type_.format, "made up")
            made[parameter.name] = text
        elif parameter.name == "FriendlyName" and operation.name.startswith("Update"):
            made[parameter.name] = "renamed"
    return made
