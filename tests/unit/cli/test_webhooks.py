"""`trunkline webhooks`: what waits, why, and what was given up, read from a copy without its host."""

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.messaging.callback_bench import (
    ACCOUNT,
    CLAIM,
    DELIVERED,
    TAKEN,
    Internet,
    World,
    always,
)

from trunkline.cli.commands import webhooks as command
from trunkline.cli.commands.webhooks import Action, NoCallbackError
from trunkline.domain.callback import receiver_of
from trunkline.domain.events import Deleted, Kind, Told, Type
from trunkline.domain.message import Message
from trunkline.domain.status import Status
from trunkline.host import config
from trunkline.host.layout import Layout
from trunkline.host.status import ReceiverLine
from trunkline.kernel import Deadline, SystemClock
from trunkline.kernel.virtual import run_in_virtual_time
from trunkline.messaging.timeline import Happening, Timeline
from trunkline.webhooks.client import URL_INVALID, Unreachable, WebhookAnswer, WebhookRequest

URL = "https://user:secret@app.example/status"
HOSTILE = "1\x1b[2J\r\n\u202e"


def copy_in(data: Path, write: Callable[[World], str]) -> str:
    """A data folder whose copy shows what `write` writes."""
    replica = Layout(data).replica
    replica.parent.mkdir(parents=True)

    async def main() -> str:
        return write(World(replica, Internet(always(200))))

    return run_in_virtual_time(main())


def given_up(world: World) -> str:
    sid = world.create(URL)
    world.go(sid, CLAIM, TAKEN, DELIVERED)
    told = Told(status="sending", attempts=9, http_status=500, is_given_up=True)
    world.add(Kind.MESSAGE, Type.TOLD, ACCOUNT, sid, told)
    return sid


def listed(data: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    command.command(Action.LIST, data=data, as_json=True)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_what_waits_and_what_was_given_up_is_listed_without_passwords(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sid = copy_in(tmp_path, given_up)

    found = listed(tmp_path, capsys)

    (waiting,), (ended,) = found["waiting"], found["given_up"]
    assert (waiting["sid"], waiting["steps"]) == (sid, ["sent", "delivered"])
    assert (ended["sid"], ended["steps"]) == (sid, ["sending"])
    assert waiting["since"] == "2023-11-14T22:13:20.000Z"
    assert waiting["given_up_at"] == "2023-11-15T22:13:20.000Z"
    assert (found["waiting_count"], found["given_up_count"]) == (1, 1)
    command.command(Action.LIST, data=tmp_path)
    printed = capsys.readouterr().out
    assert sid in printed
    assert "secret" not in printed + json.dumps(found)


def test_of_a_deleted_message_is_not_shown_where_it_was_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def deleted(world: World) -> str:
        sid = given_up(world)
        world.add(Kind.MESSAGE, Type.DELETED, ACCOUNT, sid, Deleted())
        return sid

    sid = copy_in(tmp_path, deleted)
    line = ReceiverLine(
        receiver=receiver_of(ACCOUNT, URL), failures=7, down_for_s=60.0,
        last_error="cannot connect to app.example", tried_in_s=12.0,
    )  # fmt: skip
    monkeypatch.setattr(command, "_down", lambda _: {line.receiver: line})

    assert "app.example" not in json.dumps(listed(tmp_path, capsys)["waiting"])
    command.command(Action.EXPLAIN, sid, data=tmp_path)
    assert "app.example" not in capsys.readouterr().out


def test_each_step_is_explained_and_says_what_could_not_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sid = copy_in(tmp_path, given_up)

    command.command(Action.EXPLAIN, sid, data=tmp_path, as_json=True)

    found = json.loads(capsys.readouterr().out)
    states = [(step["step"], step["state"]) for step in found["steps"]]
    assert states == [("sending", "given up"), ("sent", "waits"), ("delivered", "waits")]
    assert "sent is told by the host" in found["next"]
    assert "no host runs" in found["unread"][0]


def test_what_the_log_says_of_a_step_is_shown_with_it_and_moves_no_cursor(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sid = copy_in(tmp_path, given_up)
    told = Happening(
        1.0,
        HOSTILE,
        "told",
        1.0,
        ((1, 2),),
        {"status": "sending", "attempts": 9, "is_given_up": True},
    )
    alert = Happening(
        1.0, "one", "notice", 1.0, (), {"code": 11200, "reason": f"sending: {HOSTILE}"}
    )

    async def timeline(layout: Layout, message: Message) -> Timeline:
        del layout, message
        return Timeline((told, alert))

    monkeypatch.setattr(command, "_timeline", timeline)
    line = ReceiverLine(
        receiver=receiver_of(ACCOUNT, URL), failures=7, down_for_s=60.0,
        last_error=HOSTILE, tried_in_s=12.0,
    )  # fmt: skip
    monkeypatch.setattr(command, "_down", lambda _: {line.receiver: line})

    command.command(Action.EXPLAIN, sid, data=tmp_path)

    printed = capsys.readouterr().out
    assert all(each.isprintable() for each in printed.split("\n"))
    assert "given up by" in printed
    assert "alert 11200" in printed
    assert "7 tries failed in 60 s, next in 12 s" in printed


def test_a_replay_goes_nowhere_where_the_host_does_not(tmp_path: Path) -> None:
    copy_in(tmp_path, given_up)
    settings = config.load(None, {"host.data": tmp_path, "host.http": "10.0.0.1:8009"}, {})
    request = WebhookRequest("http://127.0.0.1:9/status", "POST", (), "made-up", "token")

    async def main() -> WebhookAnswer:
        clock = SystemClock()
        client = command.client_of(Layout(tmp_path), settings, clock, random.Random(1))
        try:
            return await client.send(request, deadline=Deadline.after(5.0, clock))
        finally:
            await client.close()

    answer = asyncio.run(main())
    assert isinstance(answer, Unreachable)
    assert answer.error_code == URL_INVALID


@pytest.mark.parametrize("step", [None, Status.SENDING])
def test_a_replay_without_a_host_or_a_message_says_what_is_missing(
    tmp_path: Path, step: Status | None
) -> None:
    sid = copy_in(tmp_path, given_up)

    with pytest.raises(Exception, match="no host runs"):
        command.command(Action.REPLAY, sid, step=step, data=tmp_path)
    with pytest.raises(NoCallbackError, match="waits behind sent"):
        command.command(Action.REPLAY, sid, step=Status.DELIVERED, data=tmp_path)
    with pytest.raises(NoCallbackError, match="no outbound message"):
        command.command(Action.REPLAY, "SM" + "0" * 32, data=tmp_path)
