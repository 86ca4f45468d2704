"""`make bench-serve`: what one create costs this process, layer by layer, in CPU.

The real application over the real read copy, driven as ASGI without a socket, and once more behind
the real server on a loopback socket with the load in a process of its own. The log takes everything
and keeps nothing, so no figure holds a flush: what is left is the serving path itself. Each layer
is measured in several rounds, in turn, and the best counts, because the machine is shared.
"""

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import random
import socket
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import prometheus_client
import uvloop
from rich.console import Console
from rich.table import Table
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bench.load import Load
from trunkline.domain.events import Kind, MessageCreated
from trunkline.host import config, logs
from trunkline.host.assemble import assemble
from trunkline.host.birth import give_birth
from trunkline.host.context import Context
from trunkline.host.credentials import Credentials, born
from trunkline.host.entropy import BufferedEntropy
from trunkline.host.layout import Layout
from trunkline.host.serve_http import HttpServer
from trunkline.kernel import Deadline, SystemClock
from trunkline.log.append import Appended, Draft, ShardHealth, append
from trunkline.log.author import Author
from trunkline.log.engines.memory import MemoryLog
from trunkline.log.interface import Accepted, PublishAnswer
from trunkline.messaging.accept import Acceptor, Created, NewMessage
from trunkline.replica.progress import Progress, is_caught_up
from trunkline.replica.queries import Replica

ROUNDS: Final = 7
CREATES: Final = 3_000
CONNECTIONS: Final = 16
SERVED_S: Final = 3.0
POLL_S: Final = 0.01
RECIPIENT: Final = "+12025560123"
TEXT: Final = "Your parcel leaves today and arrives tomorrow before noon."

AT_ONCE: Final = 64
TOGETHER: Final = f"create, {AT_ONCE} at once"
WHOLE: Final = "create, behind the server"
BARE: Final = "the server alone"
LOAD: Final = "the load generator, a request"

Act = Callable[[], Awaitable[None]]


class ForgetfulLog(MemoryLog):
    """The engine in memory, which from `forget` on takes every publish and keeps none."""

    _sequences: "itertools.count[int] | None" = None

    def forget(self) -> None:
        self._sequences = itertools.count(1)

    async def publish(
        self, shard: int, subject: str, payload: bytes, *, expected: int | None, timeout_s: float
    ) -> PublishAnswer:
        if self._sequences is not None:
            await asyncio.sleep(0)  # as a flush does: others come to their turn
            return Accepted(next(self._sequences))
        return await super().publish(
            shard, subject, payload, expected=expected, timeout_s=timeout_s
        )


@dataclass(frozen=True, slots=True)
class Bench:
    """One process's serving parts."""

    app: ASGIApp
    acceptor: Acceptor
    credentials: Credentials


def main() -> int:
    arguments = _arguments()
    if arguments.load_on:
        print(json.dumps(uvloop.run(_load(json.loads(arguments.load_on)))))
        return 0
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as folder:
        costs = uvloop.run(_measure(Path(folder), arguments.rounds))
    table = Table("layer", "CPU us", title="one create, in the process that serves")
    for name, cost_us in costs.items():
        table.add_row(name, f"{cost_us:.1f}")
    Console().print(table)
    print(json.dumps({name: round(cost_us, 1) for name, cost_us in costs.items()}))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-serve ARGS=...", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="rounds, of which the best count"
    )
    parser.add_argument("--load-on", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


async def _measure(folder: Path, rounds: int) -> dict[str, float]:
    async with _bench(folder) as bench:
        acts = _acts(bench)
        apps = {WHOLE: bench.app, BARE: _take_and_say_yes}
        best = dict.fromkeys([*acts, TOGETHER, *apps, LOAD], float("inf"))
        for _ in range(rounds):
            for name, act in acts.items():
                best[name] = min(best[name], await _cpu_us(act))
            best[TOGETHER] = min(best[TOGETHER], await _cpu_us_together(acts["create"]))
            for name, app in apps.items():
                served_us, load_us = await _served(app, bench.credentials)
                best[name] = min(best[name], served_us)
                best[LOAD] = min(best[LOAD], load_us)
    return best


async def _take_and_say_yes(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that does nothing: what is left is the server."""
    del scope
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


@contextlib.asynccontextmanager
async def _bench(folder: Path) -> AsyncIterator[Bench]:
    logs.configure("info", host="bench", is_terminal=False)
    clock, entropy = SystemClock(), BufferedEntropy()
    settings = config.load(None, {"host.data": str(folder)}, {})
    layout = Layout(folder)
    for needed in (layout.run, layout.replica.parent):
        needed.mkdir(parents=True, exist_ok=True)
    log = ForgetfulLog(clock=clock)
    credentials = born(entropy)
    author = Author("bench", clock, entropy)
    await give_birth(log, credentials, author=author)
    context = Context(
        settings=settings,
        layout=layout,
        cluster="bench",
        log=log,
        clock=clock,
        entropy=entropy,
        rng=random.Random(1),  # noqa: S311 - jitter
        registry=prometheus_client.CollectorRegistry(),
    )
    async with assemble(context, ["projector", "api"], readiness=list, on_newer=print) as assembly:
        await _catch_up(assembly.supports[0].run, assembly.progress, log)
        log.forget()
        replica = Replica(layout.replica, assembly.progress)
        acceptor = Acceptor(log, replica, ShardHealth(clock), author)
        assert assembly.app is not None
        yield Bench(assembly.app, acceptor, credentials)
        replica.close()


async def _catch_up(
    follow: Callable[[], Awaitable[None]], progress: Progress, log: MemoryLog
) -> None:
    """Let the projector write the account and its number down, and end it."""

    async def followed() -> None:
        await follow()

    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(followed())
        while not await is_caught_up(progress, log):  # noqa: ASYNC110 - as a host waits for it
            await asyncio.sleep(POLL_S)
        following.cancel()


async def _cpu_us(act: Act) -> float:
    for _ in range(CREATES // 10):
        await act()
    gc.collect()
    began = time.process_time()
    for _ in range(CREATES):
        await act()
    return (time.process_time() - began) / CREATES * 1e6


async def _cpu_us_together(act: Act) -> float:
    """As `_cpu_us`, for acts that are under way beside each other, each in a task of its own."""

    async def in_task() -> None:
        await act()

    began = time.process_time()
    for _ in range(CREATES // AT_ONCE):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(in_task())
    return (time.process_time() - began) / (CREATES // AT_ONCE * AT_ONCE) * 1e6


def _acts(bench: Bench) -> dict[str, Act]:
    numbers = itertools.count(1)
    account, clock = bench.credentials.account_sid, bench.acceptor.author.clock
    new = NewMessage(account, bench.credentials.phone_number, RECIPIENT, TEXT)
    body = MessageCreated(
        sid="SM" + "0" * 32, sender=new.sender, recipient=new.recipient, text=new.text
    )

    create_scope, form = _create_request(bench.credentials)
    headers = create_scope["headers"]

    async def probe() -> None:
        await _request(bench.app, _scope("GET", "/healthz"), b"", 200)

    async def create() -> None:
        await _request(bench.app, create_scope, form, 201)

    async def create_keyed() -> None:
        key = (b"idempotency-key", b"order-%d" % next(numbers))
        await _request(bench.app, create_scope | {"headers": [*headers, key]}, form, 201)

    async def accept() -> None:
        deadline = Deadline.after(10.0, clock)
        answer = await bench.acceptor.accept(new, key=None, deadline=deadline)
        assert isinstance(answer, Created)

    async def append_one() -> None:
        name = bench.acceptor.author.entropy(16).hex()
        draft = Draft(Kind.MESSAGE, "SM" + name, account, body, is_keyed=False)
        parts = bench.acceptor
        answer = await append(parts.log, draft, author=parts.author, health=parts.health)
        assert isinstance(answer, Appended)

    return {
        "append": append_one,
        "accept": accept,
        "probe": probe,
        "create": create,
        "create, keyed": create_keyed,
    }


def _create_request(credentials: Credentials) -> tuple[dict[str, Any], bytes]:
    """The scope and the body of a create, as an SDK sends them. The same bytes each time: making
    others would only measure this file."""
    secret = f"{credentials.account_sid}:{credentials.auth_token}".encode()
    form = urlencode({"To": RECIPIENT, "From": credentials.phone_number, "Body": TEXT}).encode()
    scope = _scope("POST", f"/2010-04-01/Accounts/{credentials.account_sid}/Messages.json")
    scope["headers"] = [
        (b"host", b"127.0.0.1:8009"),
        (b"authorization", b"Basic " + b64encode(secret)),
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"content-length", str(len(form)).encode()),
    ]
    return scope, form


def _scope(method: str, path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8009")],
    }


async def _request(app: ASGIApp, scope: dict[str, Any], body: bytes, status: int) -> None:
    answered: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        answered.append(message)

    receiver: Receive = receive
    await app(scope, receiver, send)
    assert answered[0]["status"] == status, answered


async def _served(app: ASGIApp, credentials: Credentials) -> tuple[float, float]:
    """CPU microseconds a create: of this process, server included, and of the load's."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = HttpServer(app, listener)
    port = listener.getsockname()[1]
    facts = {
        "base_url": f"http://127.0.0.1:{port}",
        "account_sid": credentials.account_sid,
        "auth_token": credentials.auth_token,
        "phone_number": credentials.phone_number,
    }
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run())
        while not server.is_serving:  # noqa: ASYNC110 - uvicorn tells nobody when it is ready
            await asyncio.sleep(POLL_S)
        load = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.serve", "--load-on", json.dumps(facts)),
            stdout=asyncio.subprocess.PIPE,
        )
        began = time.process_time()
        said, _ = await load.communicate()
        spent_s = time.process_time() - began
        server.drain()
    result = json.loads(said)
    return spent_s / result["accepted"] * 1e6, result["cpu_us"]


async def _load(facts: dict[str, str]) -> dict[str, float]:
    began = time.process_time()
    sample = await Load(facts).closed_loop(connections=CONNECTIONS, seconds=SERVED_S, run="serve")
    assert not sample.refused, sample.refused
    return {
        "accepted": sample.accepted,
        "cpu_us": (time.process_time() - began) / sample.accepted * 1e6,
    }


if __name__ == "__main__":
    sys.exit(main())
