"""`trunkline webhooks`: which status callbacks wait or were given up, why, and telling one again."""

import asyncio
import contextlib
import json
import random
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from trunkline.domain import sid as sids
from trunkline.domain.account import Account
from trunkline.domain.callback import came_about, given_up, receiver_of, untold_of
from trunkline.domain.events import Type
from trunkline.domain.message import Message
from trunkline.domain.status import Status, rank
from trunkline.host import config, status
from trunkline.host.config import Settings
from trunkline.host.engine import Door, open_door_to_read
from trunkline.host.entropy import BufferedEntropy
from trunkline.host.layout import Layout
from trunkline.host.outward import session_factory_beside
from trunkline.host.refusal import FlagError, HostError
from trunkline.host.status import ReceiverLine
from trunkline.kernel import Clock, Deadline, SystemClock
from trunkline.log.author import Author
from trunkline.log.interface import LogUnavailable
from trunkline.messaging.record import EventRecorder
from trunkline.messaging.replay import NotReplayed, Replayed, Replayer, steps_to_replay
from trunkline.messaging.timeline import Happening, Timeline, read_timeline
from trunkline.replica import account_rows, callback_tables, schema
from trunkline.replica.digest import records_named
from trunkline.webhooks.client import WebhookClient
from trunkline.webhooks.deliver import RETRY_WINDOW_S, reason_of
from trunkline.webhooks.signature import without_user

LIST_MAX: Final = 50
READ_MAX_S: Final = 30.0
"""A shard of some hundred thousand messages is read in this time."""

Row = dict[str, Any]


class Action(StrEnum):
    """What to do."""

    LIST = "list"
    EXPLAIN = "explain"
    REPLAY = "replay"


class NoCallbackError(HostError):
    """The message is not known here, or there is nothing to tell of it."""


class NotToldError(HostError):
    """It was tried again, and the application did not take it."""


def command(
    action: Annotated[Action, typer.Argument(help="What to do.")] = Action.LIST,
    sid: Annotated[str | None, typer.Argument(help="The message's SID.", metavar="SID")] = None,
    *,
    step: Annotated[
        Status | None, typer.Option("--step", help="With replay: this step, such as delivered.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", help="With list: so many of each kind at most.", min=1)
    ] = LIST_MAX,
    data: Annotated[Path | None, typer.Option(help="The host's data folder.")] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="The TOML file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the status callbacks that wait to be told, or were given up (`list`); what came of each
    step of a message, and what is next (`explain SID`); or tell it again (`replay SID`)."""
    settings = config.load(config_file, {"host.data": data}, config.environment())
    layout = Layout(settings.host.data)
    if action is Action.LIST:
        _list(layout, limit, as_json=as_json)
        return
    if sid is None or not sids.is_sid(sid, sids.SMS, sids.MMS):
        raise FlagError(
            f"'{action} SID' needs the SID of a message",
            "give SM or MM and 32 hexadecimal digits, as the API shows it",
        )
    message = _message(layout, sid)
    if action is Action.EXPLAIN:
        _explain(layout, message, as_json=as_json)
    else:
        _replay(layout, settings, message, step, as_json=as_json)


def _list(layout: Layout, limit: int, *, as_json: bool) -> None:
    try:
        with contextlib.closing(schema.open_for_reading(layout.replica)) as database:
            waiting = callback_tables.oldest(database, items_max=limit)
            ended = callback_tables.newest_given_up(database, items_max=limit)
            counted = callback_tables.counts(database)
    except sqlite3.Error as error:
        raise _unreadable(layout, error) from error
    shown = [*(sid for sid, _, _ in waiting), *(sid for sid, _ in ended)]
    names = [sids.digits_of(sid) for sid in shown]
    records = records_named(layout.replica, names)
    down = _down(layout)
    said = {
        "waiting": [_waiting(records, *row, down) for row in waiting],
        "given_up": [_given_up(records, *row) for row in ended],
        "waiting_count": counted[0],
        "given_up_count": counted[1],
        "receivers_down": [msgspec.to_builtins(line) for line in down.values()],
    }
    if as_json:
        print(json.dumps(said, indent=1))
    else:
        _print_list(said)


def _waiting(
    records: Mapping[str, Message],
    sid: str,
    receiver: str,
    since: float,
    down: Mapping[str, ReceiverLine],
) -> Row:
    message = records.get(sids.digits_of(sid), Message())
    steps = untold_of(message)
    line = down.get(receiver)
    return {
        "sid": sid,
        "steps": [step.value for step in steps],
        "url": _url(message),
        "since": _moment(since),
        "given_up_at": _moment(since + RETRY_WINDOW_S),
        "receiver_failures": None if line is None else line.failures,
        "last_error": None if line is None or message.is_deleted else line.last_error,
        "next_try_in_s": None if line is None else line.tried_in_s,
    }


def _given_up(records: Mapping[str, Message], sid: str, at: float) -> Row:
    message = records.get(sids.digits_of(sid), Message())
    steps = [step.value for step in given_up(message)]
    return {"sid": sid, "steps": steps, "url": _url(message), "at": _moment(at)}


def _print_list(said: Mapping[str, Any]) -> None:
    """In lines and not in columns: a SID and a URL need most of one."""
    print(f"Waiting: {said['waiting_count']} messages")
    for row in said["waiting"]:
        print(f"  {row['sid']}  {' '.join(row['steps'])}  since {row['since']}")
        print(f"      {_plain(row['url'])}")
    print(f"Given up: {said['given_up_count']} messages")
    for row in said["given_up"]:
        print(f"  {row['sid']}  {' '.join(row['steps'])}  at {row['at']}")
        print(f"      {_plain(row['url'])}")
    for line in said["receivers_down"]:
        print(_plain(f"Receiver {_of(line)}"))


def _of(line: Mapping[str, Any]) -> str:
    return (
        f"{line['receiver']}: {line['failures']} tries failed in {line['down_for_s']:.0f} s, "
        f"next in {line['tried_in_s']:.0f} s; {line['last_error']}"
    )


def _explain(layout: Layout, message: Message, *, as_json: bool) -> None:
    timeline = asyncio.run(_timeline(layout, message))
    steps = [_step(message, timeline, step) for step in _steps(message, timeline)]
    said: dict[str, Any] = {
        "sid": message.sid,
        "status": message.status.value,
        "url": _url(message),
        "steps": steps,
        "next": _next(layout, message),
        "unread": list(timeline.unread),
    }
    if as_json:
        print(json.dumps(said, indent=1))
        return
    print(f"Message {message.sid}: {message.status.value}")
    print(f"  told at  {_plain(said['url'])}")
    for row in steps:
        print(f"  {row['step']:<12} came about {row['came_about']}  {row['state']}")
        for each in row["told"]:
            print(f"      {_plain(_telling(each))}")
        for each in row["alerts"]:
            print(f"      alert {each['code']}: {_plain(each['reason'])}")
    print(f"  next     {_plain(said['next'])}")
    for reason in timeline.unread:
        print(f"Not read, {_plain(reason)}.")


def _telling(told: Mapping[str, Any]) -> str:
    came = told["http_status"] or "no answer"
    words = "given up" if told["is_given_up"] else "replayed" if told["is_replay"] else "told"
    return (
        f"{told['at']} {words} by {told['host']}: {came}, {told['attempts']} tries of its process"
    )


def _steps(message: Message, timeline: Timeline) -> Sequence[Status]:
    known = {*message.told, *untold_of(message)}
    known |= {
        Status(each.facts["status"]) for each in timeline.happenings if each.what == Type.TOLD
    }
    return sorted(known, key=rank)


def _step(message: Message, timeline: Timeline, step: Status) -> Row:
    mine = [each for each in timeline.happenings if _is_of(each, step)]
    return {
        "step": step.value,
        "came_about": _moment(came_about(message, step)),
        "state": _state(message, step),
        "told": [
            {
                "at": _moment(each.at),
                "host": each.host,
                "attempts": each.facts.get("attempts", 0),
                "http_status": each.facts.get("http_status"),
                "is_given_up": bool(each.facts.get("is_given_up")),
                "is_replay": bool(each.facts.get("is_replay")),
            }
            for each in mine
            if each.what == Type.TOLD
        ],
        "alerts": [
            {"code": each.facts["code"], "reason": _reason(message, each)}
            for each in mine
            if each.what == Type.NOTICE
        ],
    }


def _reason(message: Message, alert: Happening) -> str:
    """It may name a host: of a deleted message nobody is shown where it was told."""
    return "" if message.is_deleted else str(alert.facts["reason"])


def _is_of(happening: Happening, step: Status) -> bool:
    if happening.what == Type.TOLD:
        return bool(happening.facts.get("status") == step.value)
    is_notice = happening.what == Type.NOTICE
    return is_notice and str(happening.facts.get("reason", "")).startswith(f"{step.value}: ")


def _state(message: Message, step: Status) -> str:
    if step in given_up(message):
        return "given up"
    return "told" if step in message.told else "waits"


def _next(layout: Layout, message: Message) -> str:
    """What happens next, and why not now."""
    waiting = untold_of(message)
    if not waiting or message.original is None:
        return "nothing waits"
    until = _moment(came_about(message, waiting[0]) + RETRY_WINDOW_S)
    url = message.original.status_callback or ""
    line = _down(layout).get(receiver_of(message.account, url))
    if line is None or message.is_deleted:
        return f"{waiting[0]} is told by the host that has its shard; given up at {until}"
    return f"{waiting[0]} waits for {_of(msgspec.to_builtins(line))}; given up at {until}"


def _replay(
    layout: Layout, settings: Settings, message: Message, step: Status | None, *, as_json: bool
) -> None:
    steps = steps_to_replay(message, step)
    if isinstance(steps, NotReplayed):
        raise NoCallbackError(
            f"nothing of {message.sid} can be told again: {steps.reason}",
            f"see 'trunkline webhooks explain {message.sid}'",
        )
    done = asyncio.run(_tell(layout, settings, message, steps))
    rows: list[Row] = [
        {
            "step": each.step.value,
            "http_status": getattr(each.answer, "status", None),
            "answer": reason_of(each.answer),
            "is_recorded": each.is_recorded,
        }
        for each in done
    ]
    if as_json:
        print(json.dumps({"sid": message.sid, "steps": rows}, indent=1))
    else:
        for row in rows:
            recorded = "" if row["is_recorded"] else ", not written down"
            print(f"{row['step']}: {_plain(row['answer'])}{recorded}")
    if not all(each.is_recorded for each in done):
        raise NotToldError(
            f"not all of {message.sid} was told and written down",
            "see what its application answered, and replay it once that is mended",
        )


async def _tell(
    layout: Layout, settings: Settings, message: Message, steps: Sequence[Status]
) -> list[Replayed]:
    token = _auth_token(layout, message.account)
    clock, rng = SystemClock(), random.Random()  # noqa: S311 - for pauses and names
    author = Author(settings.host.name, clock, BufferedEntropy())
    client = client_of(layout, settings, clock, rng)
    try:
        async with open_door_to_read(_door(layout), clock=clock, rng=rng) as log:
            recorder = EventRecorder(log, author=author)
            return await Replayer(client, recorder, author, clock).replay(message, token, steps)
    except (LogUnavailable, ExceptionGroup) as error:
        reason = _why(error)
        raise HostError(f"the log cannot be reached: {reason}", "see 'trunkline status'") from error
    finally:
        await client.close()


def client_of(
    layout: Layout, settings: Settings, clock: Clock, rng: random.Random
) -> WebhookClient:
    """One that goes nowhere where the host of the folder does not."""
    sessions = session_factory_beside(settings, layout, _Accounts(layout), clock)
    return WebhookClient(session_factory=sessions, clock=clock, rng=rng)


@dataclass(frozen=True, slots=True)
class _Accounts:
    """Those that the copy shows."""

    layout: Layout

    def open_accounts(self, *, items_max: int) -> int:
        with contextlib.closing(schema.open_for_reading(self.layout.replica)) as database:
            return account_rows.count_open(database, items_max)


async def _timeline(layout: Layout, message: Message) -> Timeline:
    clock, rng = SystemClock(), random.Random()  # noqa: S311 - for pauses and names
    try:
        async with asyncio.timeout(2.0 * READ_MAX_S):
            async with open_door_to_read(_door(layout), clock=clock, rng=rng) as log:
                deadline = Deadline.after(READ_MAX_S, clock)
                since = message.created_at
                return await read_timeline(
                    log, message.sid, since=since, clock=clock, deadline=deadline
                )
    except (LogUnavailable, TimeoutError, HostError, ExceptionGroup) as error:
        return Timeline(unread=(f"the log: {_why(error) or 'it did not answer in time'}",))


def _why(error: Exception) -> str:
    """The reason why a log cannot be had; what else goes wrong in its tasks is raised on."""
    if not isinstance(error, ExceptionGroup):
        return str(error)
    gone, others = error.split(LogUnavailable)
    if gone is None or others is not None:
        raise error
    return str(gone.exceptions[0])


def _door(layout: Layout) -> Door:
    try:
        return Door.find(layout)
    except (OSError, ValueError, KeyError) as error:
        raise HostError(
            f"no host runs on {layout.data}", "start it, or name another host's folder with --data"
        ) from error


def _message(layout: Layout, sid: str) -> Message:
    digits = sids.digits_of(sid)
    try:
        message = records_named(layout.replica, [digits]).get(digits)
    except sqlite3.Error as error:
        raise _unreadable(layout, error) from error
    if message is None or message.sid != sid or message.original is None:
        raise NoCallbackError(
            f"the copy in {layout.data} shows no outbound message {sid}",
            "compare it with what the create was answered, or name another folder with --data",
        )
    return message


def _auth_token(layout: Layout, account: str) -> str:
    with contextlib.closing(schema.open_for_reading(layout.replica)) as database:
        row = database.execute("SELECT state FROM account WHERE sid = ?", (account,)).fetchone()
    if row is None:
        raise NoCallbackError(
            f"the copy shows no account {account}, so nothing can be signed",
            "wait until the copy has caught up: see 'trunkline status'",
        )
    return msgspec.msgpack.decode(row[0], type=Account).auth_token


def _unreadable(layout: Layout, error: sqlite3.Error) -> HostError:
    return HostError(
        f"the read copy {layout.replica} cannot be read: {error}",
        "start the host of this version on it, or name another host's folder with --data",
    )


def _down(layout: Layout) -> dict[str, ReceiverLine]:
    """The receivers that fail, as the host's processes said last."""
    found = status.read(layout.run, wall=SystemClock().wall())
    return {line.receiver: line for each in found for line in each.receivers_down}


def _url(message: Message) -> str:
    """Without name and password; of a deleted message nobody is shown where it was told."""
    if message.is_deleted:
        return ""
    url = None if message.original is None else message.original.status_callback
    return without_user(url or "")


def _moment(at: float) -> str:
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _plain(text: str) -> str:
    """What applications answered may have in it what moves a terminal's cursor."""
    return "".join(each if each.isprintable() else "?" for each in text)
