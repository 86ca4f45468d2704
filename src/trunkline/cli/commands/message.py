"""`trunkline message SID`: what happened to a message, event by event."""

import asyncio
import json
import random
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from trunkline.domain import sid as sids
from trunkline.domain.events import Kind
from trunkline.domain.message import Message
from trunkline.host import config, credentials
from trunkline.host.engine import Door, open_door_to_read
from trunkline.host.layout import Layout
from trunkline.host.refusal import FlagError, HostError
from trunkline.kernel import Deadline, SystemClock
from trunkline.log.interface import LogUnavailable, RetainedLog, Unreadable
from trunkline.log.lookup import find_original
from trunkline.messaging.accept import message_from
from trunkline.messaging.timeline import Timeline, gaps_s, read_timeline
from trunkline.replica.digest import records_named

WAIT_S: Final = 30.0
"""A shard of some hundred thousand messages is read in this time."""


class UnknownMessageError(HostError):
    """Nobody who was asked knows it."""


def command(
    sid: Annotated[str, typer.Argument(help="The message's SID.", metavar="SID")],
    *,
    data: Annotated[Path | None, typer.Option(help="The host's data folder.")] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="The TOML file.")] = None,
    wait: Annotated[
        float, typer.Option(help="How many seconds the log is read at most.", min=1.0)
    ] = WAIT_S,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what happened to a message: every event that the log still holds, on which host, and how
    long after the one before; and what the host's copy shows of it."""
    if not sids.is_sid(sid, sids.SMS, sids.MMS):
        raise FlagError(
            f"{sid[:80]!r} is not the SID of a message",
            "give SM or MM and 32 hexadecimal digits, as the API shows it",
        )
    settings = config.load(config_file, {"host.data": data}, config.environment())
    layout = Layout(settings.host.data)
    known = _in_copy(layout, sid)
    message, timeline = asyncio.run(_in_log(layout, sid, known, wait))
    if message is None:
        raise UnknownMessageError(*_unknown(sid, settings.host.data, timeline))
    is_deleted = message.is_deleted or timeline.has_deletion
    if is_deleted:
        timeline = timeline.without_places()
    if as_json:
        print(json.dumps(_as_json(message, timeline, is_deleted=is_deleted), indent=1))
    else:
        _print(message, timeline, is_deleted=is_deleted)


def _in_copy(layout: Layout, sid: str) -> Message | None:
    try:
        found = records_named(layout.replica, [sids.digits_of(sid)]).get(sids.digits_of(sid))
    except sqlite3.Error:
        return None
    return found if found is not None and found.sid == sid else None


async def _in_log(
    layout: Layout, sid: str, known: Message | None, wait_s: float
) -> tuple[Message | None, Timeline]:
    """The message, as the log shows it where the copy does not, and its events."""
    try:
        door = Door.find(layout)
    except (OSError, ValueError, KeyError):
        return known, Timeline(unread=("the log: no host runs on this folder",))
    try:
        async with asyncio.timeout(2.0 * wait_s):
            return await _read(door, layout, sid, known, wait_s)
    except TimeoutError:
        reason = f"it did not answer in {2.0 * wait_s:.0f} s"
    except LogUnavailable as error:
        reason = str(error)
    except ExceptionGroup as errors:
        gone, others = errors.split(LogUnavailable)
        if gone is None or others is not None:
            raise
        reason = str(gone.exceptions[0])
    return known, Timeline(unread=(f"the log: {reason}",))


async def _read(
    door: Door, layout: Layout, sid: str, known: Message | None, wait_s: float
) -> tuple[Message | None, Timeline]:
    clock = SystemClock()
    deadline = Deadline.after(wait_s, clock)
    rng = random.Random()  # noqa: S311 - for pauses and names, not for secrets
    async with open_door_to_read(door, clock=clock, rng=rng) as log:
        message = known or await _original(log, layout, sid, deadline)
        if message is None:
            return None, Timeline()
        if isinstance(message, Unreadable):
            return None, Timeline(unread=(f"the log: {message.reason}",))
        found = await read_timeline(
            log, sid, since=message.created_at, clock=clock, deadline=deadline
        )
        return message, found


async def _original(
    log: RetainedLog, layout: Layout, sid: str, deadline: Deadline
) -> Message | Unreadable | None:
    """A message so young that the copy does not show it, or one of a host whose copy is being made."""
    account = credentials.require(layout).account_sid
    unasked: Unreadable | None = None
    for kind in (Kind.MESSAGE, Kind.INBOUND):
        found = await find_original(log, kind, account, sid, deadline=deadline)
        if isinstance(found, Unreadable):
            unasked = found
        elif found is not None:
            message = message_from(found)
            return message if message.sid == sid else None
    return unasked


def _unknown(sid: str, data: Path, timeline: Timeline) -> tuple[str, str]:
    """What is wrong, and what to do."""
    if timeline.unread:
        return (
            f"the copy in {data} does not show {sid}, and {timeline.unread[0]}",
            "start the host, or name another host's folder with --data",
        )
    return (
        f"neither the copy in {data} nor the log has {sid}",
        "compare it with what the create was answered, or name another cluster's folder with --data",
    )


def _as_json(message: Message, timeline: Timeline, *, is_deleted: bool) -> dict[str, Any]:
    events = zip(timeline.happenings, gaps_s(timeline.happenings), strict=True)
    return {
        "sid": message.sid,
        "account": message.account,
        "status": message.status.value,
        "is_deleted": is_deleted,
        "copy": dict(_summary(message, is_deleted=is_deleted)),
        "events": [{**asdict(each), "behind_s": round(gap_s, 6)} for each, gap_s in events],
        "unread": list(timeline.unread),
    }


def _summary(message: Message, *, is_deleted: bool) -> Sequence[tuple[str, Any]]:
    """What the copy shows, but for what it says; of a deleted message not from whom to whom; only
    what is there."""
    content = None if is_deleted else message.original or message.received
    ending = message.ending
    rows: Sequence[tuple[str, Any]] = (
        ("from", content.sender if content else None),
        ("to", content.recipient if content else None),
        ("created", _moment(message.created_at)),
        ("send_at", _moment(message.original.send_at if message.original else None)),
        ("sent", _moment(message.sent_at)),
        ("ended", _moment(ending.at if ending else None)),
        ("error_code", ending.error_code if ending else None),
        ("attempts", message.attempts),
        ("ambiguous_attempts", sorted(message.ambiguous)),
        ("carrier", message.carrier),
        ("carrier_message_id", message.carrier_message_id),
        ("told", sorted(status.value for status in message.told)),
        ("key_conflicts", len(message.key_conflicts)),
        ("redacted", _moment(message.redacted_at)),
        ("deleted", _moment(message.deleted_at)),
    )
    return [(name, value) for name, value in rows if value not in (None, "", 0, [])]


def _moment(at: float | None) -> str | None:
    if not at:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _print(message: Message, timeline: Timeline, *, is_deleted: bool) -> None:
    """In lines and not in columns: what events say is long, and a terminal may be narrow."""
    print(f"Message {message.sid}: {'deleted' if is_deleted else message.status.value}")
    for name, value in _summary(message, is_deleted=is_deleted):
        print(f"  {name.replace('_', ' '):<20}{_said(value)}")
    if timeline.happenings:
        print("Timeline (when, how long behind the one before, host, what, shard:sequence)")
    elif not timeline.unread:
        print("The log does not hold its events any more (log.retain_h).")
    for each, gap_s in zip(timeline.happenings, gaps_s(timeline.happenings), strict=True):
        places = " ".join(f"{shard}:{sequence}" for shard, sequence in each.places)
        print(f"  {_moment(each.at)}  {gap_s:+.3f} s  {_said(each.host)}  {each.what}  {places}")
        facts = [f"{name} {_said(value)}" for name, value in each.facts.items() if name != "sid"]
        if facts:
            print(f"      {', '.join(facts)}")
    for reason in timeline.unread:
        print(f"Not read, {_said(reason)}.")


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    # What carriers and applications answered may have in it what moves a terminal's cursor.
    return "".join(each if each.isprintable() else "?" for each in text)
