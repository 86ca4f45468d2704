"""Which requests may be repeated: the tables, held against what the API does."""

import pytest

from trunkline.api import catalogue, openapi
from trunkline.api.resources import RESOURCES
from trunkline.redirect.asked import Asked
from trunkline.redirect.repeats import CREATES, UPDATES, Repeats, keyed, repeats_of

ACCOUNT = "/2010-04-01/Accounts/AC" + "0" * 32


def posts(verb: str) -> set[str]:
    """The paths of the API's implemented operations of that kind, as the tables spell them."""
    return {
        "/".join("{}" if word.startswith("{") else word for word in path.split("/"))
        for operation in catalogue.load().operations
        if operation.name in RESOURCES
        and operation.method == "POST"
        and operation.name.startswith(verb)
        for path in [operation.path.removesuffix(".json").replace("{Sid}.json", "{Sid}")]
    }


def test_every_create_and_update_that_the_api_has_is_in_its_table() -> None:
    assert posts("Create") == set(CREATES)
    assert posts("Update") == set(UPDATES)


def test_every_create_in_the_table_takes_a_key() -> None:
    document = openapi.document(catalogue.load(), RESOURCES.keys())
    keyless = [
        path
        for path, methods in document["paths"].items()
        if "post" in methods
        and repeats_of("POST", path.replace("{", "x").replace("}", "")) is Repeats.WITH_KEY
        and not any(
            each.get("name") == "Idempotency-Key" for each in methods["post"].get("parameters", ())
        )
    ]

    assert keyless == []


@pytest.mark.parametrize(
    ("method", "path", "repeats"),
    [
        ("GET", f"{ACCOUNT}/Messages.json", Repeats.SAFE),
        ("DELETE", f"{ACCOUNT}/Messages/SM1.json", Repeats.SAFE),
        ("POST", f"{ACCOUNT}/Messages.json", Repeats.WITH_KEY),
        ("POST", f"{ACCOUNT}/Messages", Repeats.WITH_KEY),
        ("POST", f"{ACCOUNT}/Messages/SM1.json", Repeats.SAFE),
        ("POST", f"{ACCOUNT}/Calls.json", Repeats.IF_UNSENT),
        ("POST", f"{ACCOUNT}/Calls/CA1.json", Repeats.IF_UNSENT),
        ("POST", f"{ACCOUNT}/Messages/SM1/Feedback.json", Repeats.IF_UNSENT),
        ("PUT", f"{ACCOUNT}/Messages.json", Repeats.IF_UNSENT),
        ("POST", "/", Repeats.IF_UNSENT),
    ],
)
def test_a_request_is_repeated_as_its_method_and_path_say(
    method: str, path: str, repeats: Repeats
) -> None:
    assert repeats_of(method, path) is repeats


def test_two_creates_have_two_keys() -> None:
    asked = Asked("POST", f"{ACCOUNT}/Messages.json", body=b"To=%2B1&Body=likely+pink")

    keys = [dict(keyed(asked).headers)[b"Idempotency-Key"] for _ in range(2)]

    assert len(set(keys)) == 2
    assert all(len(key) == 32 for key in keys)


@pytest.mark.parametrize(
    "asked",
    [
        Asked("POST", "/", ((b"idempotency-key", b"mine"),)),
        Asked("POST", "/", ((b"I-Twilio-Idempotency-Token", b"mine"),)),
        Asked("POST", "/", body=b"StatusCallback=https%3A%2F%2Fapp%2Fcb%23rc%3D2%26ik%3Dmine"),
        Asked("POST", "/", body=b"StatusCallback=https://app/cb%23ik=mine&Body=x"),
    ],
)
def test_a_create_that_brings_its_own_key_keeps_it(asked: Asked) -> None:
    assert keyed(asked) is asked


@pytest.mark.parametrize(
    "body", [b"Body=%23ik%3D4", b"StatusCallback=https://app/ik%3D4", b"\xff#ik="]
)
def test_what_only_looks_like_a_key_is_none(body: bytes) -> None:
    assert len(keyed(Asked("POST", "/", body=body)).headers) == 1
