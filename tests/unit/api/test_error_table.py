"""Errors that nothing else here comes by: a body that does not arrive, and what carriers say."""

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.types import Message as AsgiMessage
from tests.unit.api.api_world import ACCOUNT, MESSAGES, TOKEN, World

from trunkline.api.form import BODY_DEADLINE_S
from trunkline.domain.errors import DELIVERY
from trunkline.domain.events import Kind, Refused, Type
from trunkline.kernel.virtual import run_in_virtual_time


def test_a_body_that_does_not_arrive_is_given_up_and_the_connection_with_it(
    tmp_path: Path,
) -> None:
    sent: list[AsgiMessage] = []

    async def receive() -> AsgiMessage:
        await asyncio.Event().wait()
        raise AssertionError("nothing was to come")

    async def send(message: AsgiMessage) -> None:
        sent.append(message)

    async def main() -> float:
        world = World(tmp_path / "copy.sqlite3")
        authorization = b"Basic " + b64encode(f"{ACCOUNT}:{TOKEN}".encode())
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": MESSAGES,
            "query_string": b"",
            "headers": [(b"authorization", authorization)],
        }
        await world.app(scope, receive, send)
        assert world.acceptor.accepted == []
        world.copy.close()
        return asyncio.get_running_loop().time()

    took_s = run_in_virtual_time(main())

    start, end = sent
    answered = msgspec.json.decode(end["body"])
    assert (start["status"], answered["code"], answered["status"]) == (408, 20408, 408)
    assert answered.keys() == {"code", "message", "more_info", "status"}
    assert dict(start["headers"])[b"connection"] == b"close"
    assert took_s == pytest.approx(BODY_DEADLINE_S, abs=0.01)


@pytest.mark.anyio
@pytest.mark.parametrize("code", [*DELIVERY, 39999])
async def test_what_a_carrier_says_is_shown_with_its_words_if_it_is_known(
    world: World, code: int
) -> None:
    uri = (await world.send()).json["uri"]
    name = uri.rpartition("/")[2].removesuffix(".json")
    refused = Refused(attempt=1, error_code=code)
    world.copy.put(Kind.MESSAGE, Type.REFUSAL, ACCOUNT, name, refused)
    world.copy.catch_up()

    message = (await world.get(uri)).json

    assert (message["status"], message["error_code"]) == ("failed", code)
    assert message["error_message"] == DELIVERY.get(code)
    assert (message["price"], message["date_sent"]) == (None, None)
