"""Record a log of this version, as the fixture that every later version must read.

    python -m scripts.record_log tests/fixtures/log-v1

Runs a real host beside a carrier that refuses, throttles, loses answers and repeats receipts, with
an engine that freezes and a host that dies, and writes two files:

    log.jsonl      every message of the log: shard, sequence, subject, time and payload
    records.json   what the host's own copy showed in the end

A fixture is recorded once and never again: what a log of that version holds cannot change any more.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import web
from bench.processes import tree

from trunkline.domain.account import Account
from trunkline.domain.events import Kind, MessageCreated, Type
from trunkline.domain.message import Message
from trunkline.domain.number import Number
from trunkline.domain.sid import SMS, digits_of, sid_from_key
from trunkline.host.engine import Door, open_door
from trunkline.host.entropy import BufferedEntropy
from trunkline.host.layout import Layout
from trunkline.kernel import SystemClock
from trunkline.log.append import Draft, ShardHealth, append
from trunkline.log.author import Author
from trunkline.log.event import decode_all
from trunkline.log.interface import Log, LogUnavailable, Stored, Unreadable
from trunkline.log.shards import SHARDS, order
from trunkline.replica.progress import Progress
from trunkline.replica.queries import MessageFilter, NumberFilter, Replica

FIXTURE_BYTES_MAX: Final = 200_000
READY_MAX_S: Final = 30.0
WAIT_MAX_S: Final = 60.0
LOOK_EVERY_S: Final = 0.05
QUIET_LOOKS: Final = 40
"""So many looks at a log that does not grow, and everything has happened."""

FROZEN_S: Final = 0.35
"""Longer than one try at a shard (0.25 s), shorter than two: the second shard takes the create."""

RESTART_S: Final = 5.0
"""A host that killed itself is back by then."""

FETCH_MAX: Final = 10_000
ROWS_MAX: Final = 1_000
BLANK_TOKEN: Final = "0" * 32
HANDSET: Final = "+12025550{:03d}"
REPLY: Final = "<Response><Message>It is noted.</Message></Response>"
CLOCK: Final = SystemClock()


class Line(msgspec.Struct, frozen=True):
    """One message of the log as the file has it. `payload` is JSON, and so text."""

    shard: int
    sequence: int
    subject: str
    at: float
    payload: str


class Records(msgspec.Struct, frozen=True):
    """What a copy shows, in the order of SIDs."""

    messages: list[Message]
    numbers: list[Number]
    accounts: list[Account]


@dataclass(frozen=True)
class Stage:
    """Where everything is."""

    data: Path
    application: str
    carrier_port: int
    session: aiohttp.ClientSession

    @property
    def carrier(self) -> str:
        return f"http://127.0.0.1:{self.carrier_port}"


@dataclass(frozen=True)
class Host:
    """A running host, and its API as its first account uses it."""

    stage: Stage
    process: asyncio.subprocess.Process
    facts: Mapping[str, Any]

    async def post(self, resource: str, fields: Mapping[str, str], key: str = "") -> int:
        account = self.facts["account_sid"]
        async with self.stage.session.post(
            f"{self.facts['base_url']}/2010-04-01/Accounts/{account}/{resource}.json",
            data=dict(fields),
            headers={
                "Authorization": aiohttp.encode_basic_auth(account, self.facts["auth_token"]),
                **({"Idempotency-Key": key} if key else {}),
            },
        ) as answer:
            return answer.status

    async def send(self, handset: int, body: str, *, key: str = "", **more: str) -> None:
        """One message, which must be accepted."""
        fields = {
            "To": HANDSET.format(handset),
            "From": self.facts["phone_number"],
            "Body": body,
            "StatusCallback": f"{self.stage.application}/well",
            **more,
        }
        status = await self.post("Messages", fields, key)
        if status != 201:
            raise RuntimeError(f"{body!r} was answered {status}")


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the two files are written")
    folder: Path = parser.parse_args().folder
    with tempfile.TemporaryDirectory(prefix="trunkline-record.") as work:
        async with _application() as url, aiohttp.ClientSession() as session:
            stage = Stage(Path(work) / "data", url, _free_port(), session)
            lines, records = await _record(stage)
    folder.mkdir(parents=True, exist_ok=True)
    text = b"\n".join(msgspec.json.encode(line) for line in lines) + b"\n"
    (folder / "log.jsonl").write_bytes(text)
    encoded = msgspec.json.encode(records, order="deterministic")
    (folder / "records.json").write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")
    print(f"{len(lines)} messages of the log, {len(text)} bytes, {len(records.messages)} resources")
    missing = _missing(lines)
    for what in missing:
        print(f"not recorded: {what}", file=sys.stderr)
    return 1 if missing or len(text) > FIXTURE_BYTES_MAX else 0


async def _record(stage: Stage) -> tuple[list[Line], Records]:
    async with _host(stage, on_ambiguous="hold") as host:
        await _before_there_is_a_carrier(stage, host)
        async with _simulator(stage):
            await _with_a_carrier(stage, host)
            await _until_quiet(stage)
    crash = {"TRUNKLINE_CRASH_AT": "hand-over-before"}
    async with (
        _simulator(stage),
        _host(stage, on_ambiguous="resend", settings=crash) as host,
    ):
        await host.send(60, "its host dies between claim and hand-over")
        await asyncio.sleep(RESTART_S)
        await _until_quiet(stage)
        async with _log(stage) as log:
            stored = await _everything(log)
        records = await _records(stage, stored)
    secret = host.facts["auth_token"].encode()
    lines = [
        Line(
            each.shard,
            each.sequence,
            each.subject,
            each.at,
            each.payload.replace(secret, BLANK_TOKEN.encode()).decode(),
        )
        for each in stored
    ]
    accounts = [msgspec.structs.replace(each, auth_token=BLANK_TOKEN) for each in records.accounts]
    return lines, msgspec.structs.replace(records, accounts=accounts)


async def _before_there_is_a_carrier(stage: Stage, host: Host) -> None:
    """Nothing is dispatched yet, so copies of one message can meet in the log."""
    await host.send(1, "nobody wants it any more", ValidityPeriod="1")
    await host.post(
        "IncomingPhoneNumbers",
        {
            "PhoneNumber": "+15125550177",
            "FriendlyName": "Front desk",
            "SmsUrl": f"{stage.application}/reply",
            "StatusCallback": f"{stage.application}/well",
        },
    )
    async with _log(stage) as log:
        author = Author("recorder", CLOCK, BufferedEntropy())
        for number in range(4):
            # Position 1 alone, or both: as hosts with other views of shard health leave them.
            for skipped in (1, 0) if number % 2 else (1,):
                # The last key is used for two messages, of which the one at position 0 counts.
                use = skipped if number == 3 else 0
                draft = _draft(host, f"diverted-{number}", HANDSET.format(2 + number), use)
                health = ShardHealth(CLOCK)
                for shard in order(digits_of(draft.sid), SHARDS)[:skipped]:
                    health.eject(shard)
                await append(log, draft, author=author, health=health)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_freeze_engine(host))
        await asyncio.sleep(0.02)
        await host.send(7, "it met a frozen shard")


def _draft(host: Host, key: str, recipient: str, use: int) -> Draft:
    account = host.facts["account_sid"]
    sid = sid_from_key(SMS, account, "CreateMessage", key)
    body = MessageCreated(
        sid=sid,
        sender=host.facts["phone_number"],
        recipient=recipient,
        text="it was diverted",
        status_callback=f"{host.stage.application}/well",
        fingerprint=str(use) * 32,
    )
    return Draft(kind=Kind.MESSAGE, sid=sid, account=account, body=body, is_keyed=True)


async def _freeze_engine(host: Host) -> None:
    (engine,) = (pid for pid, cost in tree(host.process.pid).items() if cost.name == "nats-server")
    os.kill(engine, signal.SIGSTOP)
    try:
        await asyncio.sleep(FROZEN_S)
    finally:
        os.kill(engine, signal.SIGCONT)


async def _with_a_carrier(stage: Stage, host: Host) -> None:
    behaviours: dict[int, dict[str, object]] = {
        20: {"outcome": "refuse", "error_code": 30_006},
        21: {"outcome": "throttle", "retry_after_ms": 100},
        22: {"outcome": "lose"},
        23: {"outcome": "silent"},
        24: {"receipt_copies": 3},
        25: {"receipt_before_answer": True},
        26: {"receipt_delay_ms": 1500},
        27: {"receipt_status": "undelivered"},
        28: {"receipt_status": "failed"},
        29: {"receipt_status": "none"},
    }
    for handset, behaviour in behaviours.items():
        await _behave(stage, handset, behaviour)
    for number in range(12):
        await host.send(30 + number, f"plain {number}")
    await host.send(43, "nobody is told", StatusCallback="")
    await host.send(44, "the application knows nothing", StatusCallback=f"{stage.application}/no")
    await host.send(45, "look", MediaUrl="https://media.example/cat.jpg", ValidityPeriod="600")
    await host.send(46, "Grüße 😀 " * 30)
    for _ in range(2):
        await host.send(47, "the same again", key="a key")
    for handset, behaviour in behaviours.items():
        await host.send(handset, f"it meets {json.dumps(behaviour)}")
    for recipient in (host.facts["phone_number"], "+15125550177"):
        inbound = {"to": recipient, "body": "hello there"}
        url = f"{stage.carrier}/v1/handsets/{HANDSET.format(50)}/messages"
        async with stage.session.post(url, json=inbound) as answer:
            answer.raise_for_status()
    await asyncio.sleep(1.0)
    await _behave(stage, 21, {})


async def _behave(stage: Stage, handset: int, behaviour: Mapping[str, object]) -> None:
    url = f"{stage.carrier}/v1/behaviour/{HANDSET.format(handset)}"
    async with stage.session.put(url, json=behaviour) as answer:
        answer.raise_for_status()


async def _until_quiet(stage: Stage) -> None:
    """Until the log has not grown for a while."""
    async with _log(stage) as log:
        seen, quiet = -1, 0
        while quiet < QUIET_LOOKS:
            await asyncio.sleep(LOOK_EVERY_S)
            ends = [await log.last_sequence(shard, timeout_s=2.0) for shard in range(log.shards)]
            size = sum(end for end in ends if isinstance(end, int))
            quiet = quiet + 1 if size == seen else 0
            seen = size


async def _everything(log: Log) -> list[Stored]:
    stored: list[Stored] = []
    for shard in range(log.shards):
        last = await log.last_sequence(shard, timeout_s=2.0)
        if isinstance(last, Unreadable):
            raise LogUnavailable(last.reason)
        follower = await log.follower(shard, after=0)
        taken: list[Stored] = []
        while last and (not taken or taken[-1].sequence < last):
            taken += await follower.fetch(FETCH_MAX, 1.0)
        await follower.close()
        stored += taken
    return stored


async def _records(stage: Stage, stored: list[Stored]) -> Records:
    """Everything that the host's copy shows, once it holds all that is stored."""
    layout = Layout(stage.data)
    progress = Progress(layout.progress, shards=SHARDS, clock=CLOCK)
    ends = {each.shard: each.sequence for each in stored}
    await _until(lambda: all(progress.sequence(shard) >= end for shard, end in ends.items()))
    replica = Replica(layout.replica, progress)
    try:
        names = sorted({decode_all(each.payload)[0].account for each in stored})
        accounts = [account for name in names if (account := replica.account(name))]
        messages = [
            message
            for name in names
            for message in replica.messages(name, MessageFilter(), items_max=ROWS_MAX)
        ]
        numbers = [
            number
            for name in names
            for number in replica.numbers(name, NumberFilter(), items_max=ROWS_MAX)
        ]
        return Records(
            sorted(messages, key=lambda message: message.sid),
            sorted(numbers, key=lambda number: number.settings.sid),
            accounts,
        )
    finally:
        replica.close()
        progress.close()


def _missing(lines: list[Line]) -> list[str]:
    """The kinds and types of this version that did not happen."""
    events = [event for line in lines for event in decode_all(line.payload.encode())]
    seen: set[Kind | Type] = {event.kind for event in events} | {event.type for event in events}
    missing = [f"{type(one).__name__} {one}" for one in (*Kind, *Type) if one not in seen]
    if not any(event.position for event in events):
        missing.append("a diverted original")
    if not any(event.prior for event in events):
        missing.append("a keyless original behind a shard that did not answer")
    return missing


@contextlib.asynccontextmanager
async def _host(
    stage: Stage, *, on_ambiguous: str, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Host]:
    environment = {
        "TRUNKLINE_HOST_NAME": "recorded",
        "TRUNKLINE_CARRIER_ON_AMBIGUOUS": on_ambiguous,
        "TRUNKLINE_HOST_LOG_LEVEL": "error",
        **(settings or {}),
    }
    arguments = ["up", "--data", str(stage.data), "--http", "127.0.0.1:0"]
    arguments += ["--carrier", stage.carrier]
    async with _process(stage, arguments, environment) as (process, facts):
        yield Host(stage, process, facts)


@contextlib.asynccontextmanager
async def _simulator(stage: Stage) -> AsyncIterator[None]:
    arguments = ["simulator", "--http", f"127.0.0.1:{stage.carrier_port}"]
    arguments += ["--data", str(stage.data.with_name("simulator"))]
    async with _process(stage, arguments, {}):
        yield


@contextlib.asynccontextmanager
async def _process(
    stage: Stage, arguments: list[str], environment: Mapping[str, str]
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Mapping[str, Any]]]:
    """One of our commands, until the block ends; and what its ready file says."""
    ready = stage.data.with_name(f"{arguments[0]}.ready")
    ready.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "trunkline", *arguments, "--ready-file", str(ready)),
        env={**os.environ, **environment},  # noqa: TID251 - what it is started with
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await _until(ready.exists)
        yield process, json.loads(ready.read_bytes())
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def _log(stage: Stage) -> AsyncIterator[Log]:
    rng = random.Random(secrets.randbits(64))  # noqa: S311 - names of requests
    async with open_door(Door.find(Layout(stage.data)), clock=CLOCK, rng=rng) as log:
        yield log


@contextlib.asynccontextmanager
async def _application() -> AsyncIterator[str]:
    """A customer's application."""

    def says(status: int, text: str = "") -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            del request
            return web.Response(status=status, text=text, content_type="text/xml")

        return answer

    server = web.Application()
    server.router.add_post("/well", says(204))
    server.router.add_post("/no", says(404))
    server.router.add_post("/reply", says(200, REPLY))
    runner = web.AppRunner(server, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def _until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_MAX_S):
        while not happened():  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
