"""What a host takes on: so much at once, creates first, and nothing that nobody waits for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.unit.api.api_world import (
    HANDSET,
    MESSAGES,
    NUMBERS,
    OTHER_ACCOUNT,
    OTHER_TOKEN,
    OUR_NUMBER,
    THEIR_NUMBER,
    Answered,
    World,
)

from trunkline.api.admission import STRANGERS_SHARE
from trunkline.api.app import API_DEADLINE_S
from trunkline.kernel import DEADLINE_HEADER, RETRIED_HEADER, Seen, ServerLimits

pytestmark = pytest.mark.anyio

FORM = {"To": HANDSET, "From": OUR_NUMBER, "Body": "Hello"}
NO_QUEUE = ServerLimits(in_flight_max=1, queue_max=0)
LONG_QUEUE = ServerLimits(in_flight_max=1, queue_wait_s=30.0, queue_max=4)


@contextmanager
def a_world(folder: Path, limits: ServerLimits) -> Iterator[World]:
    world = World(folder / "copy.sqlite3", limits)
    yield world
    world.copy.close()


@asynccontextmanager
async def a_create_under_way(world: World) -> AsyncIterator[None]:
    """Its message is not flushed before the block has ended."""
    world.acceptor.may_go_on = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.send())
        await world.clock.advance(0)  # lets it run as far as it can
        yield
        world.acceptor.may_go_on.set()


async def test_what_is_too_much_is_told_when_to_come_back_and_nothing_is_stored(
    tmp_path: Path,
) -> None:
    with a_world(tmp_path, NO_QUEUE) as world:
        async with a_create_under_way(world):
            refused = await world.call(
                "POST",
                MESSAGES.replace("a" * 32, "b" * 32),
                body=urlencode(FORM | {"From": THEIR_NUMBER}).encode(),
                user=OTHER_ACCOUNT,
                token=OTHER_TOKEN,
            )

        assert (refused.status, refused.code) == (503, 20503)
        assert refused.headers["retry-after"] == "1"
        assert "nothing was done" in refused.json["message"]
        assert len(world.acceptor.accepted) == 1
        assert (await world.send()).status == 201
        shed = 'trunkline_api_shed_total{priority="create",reason="full"}'
        assert await world.metric(shed) == 1.0


async def test_probes_are_answered_however_much_there_is_to_do(tmp_path: Path) -> None:
    with a_world(tmp_path, NO_QUEUE) as world:
        async with a_create_under_way(world):
            assert (await world.call("GET", "/healthz", user=None)).status == 200
            assert (await world.call("GET", "/readyz", user=None)).status == 200
            assert await world.metric("trunkline_api_in_flight") == 1.0

        assert await world.metric("trunkline_api_in_flight") == 0.0


async def test_creates_go_before_reads_and_reads_before_exports(tmp_path: Path) -> None:
    order: list[str] = []

    async def note(name: str, request: Awaitable[Answered]) -> None:
        assert (await request).status in (200, 201)
        order.append(name)

    with a_world(tmp_path, replace(LONG_QUEUE, queue_max=8)) as world:
        async with a_create_under_way(world), asyncio.TaskGroup() as tasks:
            tasks.create_task(note("export", world.get(f"{MESSAGES}?PageSize=1000")))
            tasks.create_task(note("read", world.get(MESSAGES)))
            tasks.create_task(note("create", world.send()))
            await world.clock.advance(0)
            assert await world.metric("trunkline_api_queued") == 3.0
            assert world.acceptor.may_go_on is not None
            world.acceptor.may_go_on.set()

        assert order == ["create", "read", "export"]
        assert await world.metric("trunkline_api_queue_wait_seconds_count") == 3.0


async def test_one_account_alone_cannot_fill_the_queue_of_all(tmp_path: Path) -> None:
    with a_world(tmp_path, LONG_QUEUE) as world:
        async with a_create_under_way(world), asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(world.get(MESSAGES)) for _ in range(2)]
            await world.clock.advance(0)

            too_many = await world.get(MESSAGES)
            path = MESSAGES.replace("a" * 32, "b" * 32)
            other = tasks.create_task(
                world.call("GET", path, user=OTHER_ACCOUNT, token=OTHER_TOKEN)
            )
            await world.clock.advance(0)
            assert world.acceptor.may_go_on is not None
            world.acceptor.may_go_on.set()

        assert (too_many.status, too_many.code) == (429, 20429)
        assert too_many.headers["retry-after"] == "1"
        assert too_many.headers["twilio-concurrent-requests"] == "3"
        assert [task.result().status for task in (*waiting, other)] == [200, 200, 200]
        shed = 'trunkline_api_shed_total{priority="read",reason="account"}'
        assert await world.metric(shed) == 1.0


async def test_every_answer_says_how_many_requests_of_its_account_are_under_way(
    world: World,
) -> None:
    path = MESSAGES.replace("a" * 32, "b" * 32)
    async with a_create_under_way(world):
        second = await world.get(MESSAGES)
        refused = await world.get(f"{MESSAGES}?Page=1")
        theirs = await world.call("GET", path, user=OTHER_ACCOUNT, token=OTHER_TOKEN)

    alone = await world.get(MESSAGES)

    name = "twilio-concurrent-requests"
    assert (refused.status, refused.code) == (400, 20001)
    said = [each.headers[name] for each in (second, refused, theirs, alone)]
    assert said == ["2", "2", "1", "1"]


@pytest.mark.parametrize("path", [MESSAGES, NUMBERS])
async def test_a_request_that_comes_after_its_deadline_is_refused_and_nothing_is_stored(
    world: World, path: str
) -> None:
    answered = await world.post(path, FORM, {DEADLINE_HEADER.lower(): "0"})

    assert (answered.status, answered.code) == (503, 20503)
    assert "nothing was done" in answered.json["message"]
    assert world.acceptor.accepted == []
    assert world.numbers.owned == {}
    shed = 'trunkline_api_shed_total{priority="create",reason="expired"}'
    assert await world.metric(shed) == 1.0


async def test_nothing_is_done_for_a_client_that_has_closed_the_connection(world: World) -> None:
    body = urlencode(FORM).encode()

    refused = await world.call("POST", MESSAGES, body=body, seen=Seen(has_gone=True))

    assert (refused.status, refused.code) == (503, 20503)
    assert "nothing was done" in refused.json["message"]
    assert world.acceptor.accepted == []
    shed = 'trunkline_api_shed_total{priority="create",reason="gone"}'
    assert await world.metric(shed) == 1.0


@pytest.mark.parametrize(
    ("told", "waited_s", "status"),
    [("2000", 1.9, 201), ("2000", 2.1, 503), (None, 9.9, 201), (None, 10.1, 503)],
)
async def test_a_deadline_counts_from_when_the_request_reached_the_machine(
    world: World, told: str | None, waited_s: float, status: int
) -> None:
    headers = {} if told is None else {DEADLINE_HEADER.lower(): told}
    body = urlencode(FORM).encode()

    answered = await world.call(
        "POST", MESSAGES, body=body, headers=headers, seen=Seen(waited_s=waited_s)
    )

    assert answered.status == status
    assert len(world.acceptor.accepted) == (1 if status == 201 else 0)


@pytest.mark.parametrize(
    ("told", "left_s"),
    [
        ("2500", 2.5),
        ("999999", API_DEADLINE_S),
        ("soon", API_DEADLINE_S),
        ("-1", API_DEADLINE_S),
        ("²", API_DEADLINE_S),
        (None, API_DEADLINE_S),
    ],
)
async def test_what_the_caller_waits_for_bounds_what_is_done_for_it(
    world: World, told: str | None, left_s: float
) -> None:
    headers = {} if told is None else {DEADLINE_HEADER.lower(): told}

    assert (await world.post(MESSAGES, FORM, headers)).status == 201

    assert world.acceptor.asked_with == [(left_s, False)]


async def test_only_the_outermost_layer_retries(world: World) -> None:
    await world.post(MESSAGES, FORM, {RETRIED_HEADER.lower(): "1"})
    await world.post(MESSAGES, FORM)

    assert [is_retried for _, is_retried in world.acceptor.asked_with] == [True, False]


async def test_whoever_asks_for_media_without_credentials_takes_nothing_of_the_account_s_share(
    tmp_path: Path,
) -> None:
    with a_world(tmp_path, ServerLimits(in_flight_max=8, queue_max=0)) as world:
        world.lookup.may_answer = asyncio.Event()
        path = f"{MESSAGES.removesuffix('.json')}/MM{'7' * 32}/Media/ME{'7' * 32}"
        async with asyncio.TaskGroup() as tasks:
            strangers = [tasks.create_task(world.call("GET", path, user=None)) for _ in range(9)]
            await world.clock.advance(0)
            mine = [await world.get(MESSAGES) for _ in range(6)]
            world.lookup.may_answer.set()

        assert {each.status for each in mine} == {200}
        answers = sorted(task.result().status for task in strangers)
        assert answers == [404] * (8 // STRANGERS_SHARE) + [503] * (9 - 8 // STRANGERS_SHARE)
        shed = 'trunkline_api_shed_total{priority="read",reason="strangers"}'
        assert await world.metric(shed) == 9 - 8 // STRANGERS_SHARE
