"""What no client should send is refused by what is wrong with it, and nothing of it is stored."""

from collections.abc import Iterator

import pytest
from tests.bad_input import BadInput, bad_inputs
from tests.unit.api.api_world import ACCOUNT, World

from trunkline.api import catalogue
from trunkline.domain.errors import FAULTS

pytestmark = pytest.mark.anyio


def by_operation() -> Iterator[tuple[str, list[BadInput]]]:
    table: dict[str, list[BadInput]] = {}
    for each in bad_inputs(catalogue.load(), ACCOUNT):
        table.setdefault(each.operation, []).append(each)
    yield from table.items()


@pytest.mark.parametrize("table", [pytest.param(table, id=name) for name, table in by_operation()])
async def test_bad_input_is_refused_in_the_shape_clients_parse(
    world: World, table: list[BadInput]
) -> None:
    broken = []

    for each in table:
        query = f"?{each.query.decode('latin-1')}" if each.query else ""
        answered = await world.call(
            each.method, each.path + query, body=each.body, headers=each.headers
        )
        content = answered.json
        is_shaped = content.keys() == {"code", "message", "more_info", "status"}
        if answered.status not in each.statuses or not is_shaped:
            broken.append(f"{each}: {answered.status} {answered.body[:200]!r}")
        elif FAULTS[content["code"]].http_status != answered.status:
            broken.append(f"{each}: {content}")

    assert table
    assert not broken, "\n".join(["", *broken])
    assert world.acceptor.accepted == []
    assert world.numbers.owned == {}


@pytest.mark.parametrize("name", ["To", "Body"])
async def test_the_same_value_twice_is_that_value(world: World, name: str) -> None:
    one = b"From=%2B15125550100&To=%2B15125550123&Body=Hello"
    again = {"To": b"&To=%2B15125550123", "Body": b"&Body=Hello"}[name]
    path = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"

    assert (await world.post(path, one + again)).status == 201


async def test_two_recipients_are_no_recipient(world: World) -> None:
    answered = await world.send(To=["+15125550123", "+15125550124"])

    assert (answered.status, answered.code) == (400, 20001)
    assert "'To'" in answered.json["message"]
    assert world.acceptor.accepted == []
