"""Numbers that stand for a refusal."""

from pathlib import Path

import pytest
from tests.unit.api.api_world import NUMBERS, OUR_NUMBER, World

from trunkline.messaging.accept import OptedOut

pytestmark = pytest.mark.anyio

MAGIC = "+15005550006"


@pytest.mark.parametrize(
    ("sender", "code"),
    [("+15005550001", 21212), ("+15005550007", 21606), ("+15005550008", 21611)],
)
async def test_a_magic_sender_is_refused_with_its_code(
    world: World, sender: str, code: int
) -> None:
    answered = await world.send(From=sender)

    assert (answered.status, answered.code) == (400, code)
    assert world.acceptor.accepted == []


@pytest.mark.parametrize(
    ("recipient", "code"),
    [
        ("+15005550001", 21211),
        ("+15005550002", 21612),
        ("+15005550003", 21408),
        ("+15005550004", 21610),
        ("+15005550009", 21614),
    ],
)
async def test_a_magic_recipient_is_refused_with_its_code(
    world: World, recipient: str, code: int
) -> None:
    for sender in (OUR_NUMBER, MAGIC):
        answered = await world.send(From=sender, To=recipient)
        assert (answered.status, answered.code) == (400, code)


async def test_the_magic_sender_is_everybodys(world: World) -> None:
    assert (await world.send(From=MAGIC)).status == 201


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"PhoneNumber": "+15005550000"}, 21422),
        ({"PhoneNumber": "+15005550001"}, 21421),
        ({"AreaCode": "533"}, 21452),
    ],
)
async def test_a_magic_number_cannot_be_owned_for_the_reason_that_it_stands_for(
    world: World, form: dict[str, str], code: int
) -> None:
    answered = await world.post(NUMBERS, form)

    assert (answered.status, answered.code) == (400, code)
    assert world.numbers.owned == {}


async def test_of_magic_numbers_those_that_stand_for_success_are_owned(world: World) -> None:
    by_number = await world.post(NUMBERS, {"PhoneNumber": MAGIC})
    by_area = await world.post(NUMBERS, {"AreaCode": "500"})

    assert (by_number.status, by_area.status) == (201, 201)


async def test_to_another_carrier_a_number_is_a_number(tmp_path: Path) -> None:
    world = World(tmp_path / "copy.sqlite3", has_magic_numbers=False)

    assert (await world.send(From=MAGIC)).code == 21659
    assert (await world.send(To="+15005550001")).status == 201
    assert (await world.post(NUMBERS, {"PhoneNumber": "+15005550001"})).status == 201
    world.copy.close()


async def test_who_has_opted_out_is_told_as_twilio_tells_it(world: World) -> None:
    world.acceptor.says = OptedOut()

    answered = await world.send()

    assert (answered.status, answered.code) == (400, 21610)


async def test_a_smart_encoded_body_is_measured_as_it_is_sent(world: World) -> None:
    longer = await world.send(Body="\u2026" * 600, SmartEncoded="true")
    empty = await world.send(Body="\u200b\ufeff", SmartEncoded="true")
    shorter = await world.send(Body="x" * 1600 + "\u200b", SmartEncoded="true")

    assert (longer.status, longer.code) == (400, 21617)
    assert (empty.status, empty.code) == (400, 21602)
    assert shorter.status == 201


async def test_a_smart_encoded_body_loses_its_look_alikes(world: World) -> None:
    await world.send(Body="\u201chi\u201d", SmartEncoded="true")
    await world.send(Body="\u201chi\u201d", SmartEncoded="false")

    assert [new.text for new, _ in world.acceptor.accepted] == ['"hi"', "\u201chi\u201d"]
