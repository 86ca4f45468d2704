"""Telling a step again because an operator asks for it."""

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import aiohttp
from tests.unit.messaging.callback_bench import (
    ACCOUNT,
    CLAIM,
    DELIVERED,
    TAKEN,
    Heard,
    Internet,
    World,
    always,
)

from trunkline.domain.events import Kind, Told, Type
from trunkline.domain.message import Message
from trunkline.domain.status import Status
from trunkline.kernel.virtual import run_in_virtual_time
from trunkline.messaging.callbacks import plan_to_tell
from trunkline.messaging.replay import NotReplayed, Replayed, Replayer, steps_to_replay
from trunkline.replica import callback_tables, schema
from trunkline.webhooks.client import WebhookClient

URL = "http://app.example/status"


def play(path: Path, act: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        await act(World(path / "copy.sqlite3", Internet(always(200))))

    run_in_virtual_time(main())


def given_up(world: World, *steps: str) -> Message:
    sid = world.create(URL)
    world.go(sid, CLAIM, TAKEN, DELIVERED)
    for step in steps:
        told = Told(status=step, attempts=9, is_given_up=True)
        world.add(Kind.MESSAGE, Type.TOLD, ACCOUNT, sid, told)
    return record(world, sid)


def record(world: World, sid: str) -> Message:
    message = world.replica.message(sid)
    assert message is not None
    return message


async def replay(world: World, message: Message, step: Status | None = None) -> list[Replayed]:
    steps = steps_to_replay(message, step)
    assert not isinstance(steps, NotReplayed)
    session = cast("aiohttp.ClientSession", world.internet)
    client = WebhookClient(session_factory=lambda: session, clock=world.clock, rng=random.Random(1))
    return await Replayer(client, world, world.author, world.clock).replay(message, "t", steps)


def test_what_was_given_up_is_told_again_in_order_under_its_tokens_and_given_up_no_more(
    tmp_path: Path,
) -> None:
    async def act(world: World) -> None:
        message = given_up(world, "sending", "sent", "delivered")

        done = await replay(world, message)

        assert [each.is_recorded for each in done] == [True] * 3
        assert world.internet.statuses(message.sid) == ["sending", "sent", "delivered"]
        plan = plan_to_tell(message, "t", [Status.SENDING, Status.SENT, Status.DELIVERED])
        assert plan is not None
        assert [each["I-Twilio-Idempotency-Token"] for each in world.internet.headers] == [
            step.token for step in plan.steps
        ]
        assert record(world, message.sid).replayed == {
            Status.SENDING,
            Status.SENT,
            Status.DELIVERED,
        }
        database = schema.open_for_reading(tmp_path / "copy.sqlite3")
        assert callback_tables.counts(database) == (0, 0)
        database.close()

    play(tmp_path, act)


def test_a_step_that_is_not_taken_stays_given_up_and_those_behind_it_are_not_told(
    tmp_path: Path,
) -> None:
    async def act(world: World) -> None:
        async def answer(heard: Heard) -> int:
            return 500 if heard[2] == "sent" else 200

        world.internet.answer = answer
        message = given_up(world, "sending", "sent", "delivered")

        done = await replay(world, message)

        assert [each.step for each in done] == [Status.SENDING, Status.SENT]
        assert record(world, message.sid).replayed == {Status.SENDING}

    play(tmp_path, act)


def test_no_step_is_told_before_the_one_in_front_of_it(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        message = given_up(world, "sending")

        assert steps_to_replay(message, None) == (Status.SENDING,)
        assert steps_to_replay(message, Status.SENT) == (Status.SENT,)
        refused = steps_to_replay(message, Status.DELIVERED)
        assert isinstance(refused, NotReplayed)
        assert "behind sent" in refused.reason
        assert isinstance(steps_to_replay(message, Status.FAILED), NotReplayed)

        await replay(world, message, Status.SENT)
        assert Status.SENT in record(world, message.sid).told

    play(tmp_path, act)


def test_of_what_was_told_well_the_last_step_is_told_again(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        sid = world.create(URL)
        world.go(sid, CLAIM)
        assert steps_to_replay(record(world, sid), None) == (Status.SENDING,)
        world.add(Kind.MESSAGE, Type.TOLD, ACCOUNT, sid, Told(status="sending", attempts=1))
        assert steps_to_replay(record(world, sid), None) == (Status.SENDING,)
        quiet = world.create("")
        assert isinstance(steps_to_replay(record(world, quiet), None), NotReplayed)

    play(tmp_path, act)
