"""`make bench-refill`: how long a host with an empty disk takes until it serves reads again.

Of three whole hosts (`refill_cluster`), which is what counts; or with `--hosts 2` the parts of a refill,
which is what this module does.

A million finished messages stand in one host's copy, the log has been trimmed, and new messages come
all the while. Then a second host is started, with nothing on its disk but the cluster's secret; what
counts is when its API answers a read of the oldest message. Both hosts are processes of their own,
with the projector and the API, over one log engine and loopback HTTP: the parts of a refill, and not
yet a whole cluster. Done twice: with no snapshot at hand, and with the one that was then made.
"""

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import prometheus_client
import uvloop

from bench import refill_cluster
from bench.refill_cluster import HOSTS, tell
from bench.retention import TOKEN, engine, load
from bench.seed import name_of, seed
from trunkline.domain.ports import Entropy
from trunkline.host import config, logs
from trunkline.host.birth import give_birth
from trunkline.host.context import Context
from trunkline.host.credentials import Credentials, born
from trunkline.host.entropy import BufferedEntropy
from trunkline.host.layout import Layout
from trunkline.host.listen import Address, free_address
from trunkline.host.serving import serve
from trunkline.kernel import SystemClock
from trunkline.log.author import Author
from trunkline.log.engines.jetstream import JetStreamLog, open_jetstream

MESSAGES: Final = 1_000_000
TAIL: Final = 20_000
PEER_TOKEN: Final = "bench"  # noqa: S105 - of hosts that live for minutes, on loopback
CLUSTER: Final = "bench"
POLL_S: Final = 0.05
TRIES_MAX: Final = 200
WITHIN_S: Final = 600.0
GOAL_S: Final = 60.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """One host, for the process that is to be it."""

    name: str
    folder: str
    engine: str
    port: int
    peers: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-refill ARGS=...", description=__doc__)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument(
        "--tail", type=int, default=TAIL, help="messages in the log besides, with two hosts"
    )
    parser.add_argument(
        "--hosts",
        type=int,
        choices=(2, HOSTS),
        default=HOSTS,
        help="3: whole hosts of `trunkline up`; 2: the parts of a refill",
    )
    parser.add_argument("--host", default="", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.host:
        found = json.loads(chosen.host)
        uvloop.run(be_host(Plan(**{**found, "peers": tuple(found["peers"])})))
        return 0
    if chosen.hosts == HOSTS:
        return judged(list(uvloop.run(refill_cluster.measure(chosen.messages)).values()))
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-refill-") as folder,
        engine(Path(folder), {}) as (_, url),
    ):
        times = uvloop.run(measure(Path(folder), url, chosen.messages, chosen.tail))
    return judged(times)


def judged(times: list[float]) -> int:
    """The exit code."""
    print(json.dumps({"goal_s": GOAL_S, "is_met": max(times) <= GOAL_S}))
    return 0 if max(times) <= GOAL_S else 1


async def measure(folder: Path, engine_url: str, count: int, tail: int) -> list[float]:
    """How long each refill took, in seconds."""
    owner = born(BufferedEntropy())
    one = plan_of(folder, "one", engine_url)
    copy = Layout(Path(one.folder)).replica
    began = time.monotonic()
    await asyncio.to_thread(
        seed, copy, CLUSTER, owner.account_sid, count, ended_at=SystemClock().wall() - 3600.0
    )
    size = copy.stat().st_size
    tell("seeded", began, messages=count, mib=size >> 20)
    async with opened(engine_url) as log:
        author = Author("bench", SystemClock(), BufferedEntropy())
        await give_birth(log, owner, author=author)
        began = time.monotonic()
        await load(log, author, tail)
        tell("loaded", began, messages=tail)
        async with running(one):
            await until_read(one, owner, name_of(0), time.monotonic(), "one serves")
            await trim(log)
            return [
                await refill(folder, engine_url, one, owner, kind)
                for kind in ("no snapshot at hand", "a snapshot at hand")
            ]


async def refill(folder: Path, engine_url: str, one: Plan, owner: Credentials, kind: str) -> float:
    """Start a host on an empty folder; the seconds until it serves."""
    two = plan_of(folder, "two", engine_url, one.url)
    shutil.rmtree(two.folder, ignore_errors=True)
    began = time.monotonic()
    async with running(two):
        return await until_read(two, owner, name_of(0), began, f"refilled, {kind}")


async def trim(log: JetStreamLog) -> None:
    """The log alone makes no copy any more: each shard loses its older half."""
    for shard in range(log.shards):
        last = await log.last_sequence(shard, timeout_s=5.0)
        assert isinstance(last, int)
        await log.purge(shard, before=last // 2, timeout_s=60.0)


def plan_of(folder: Path, name: str, engine_url: str, *peers: str) -> Plan:
    address = free_address(Address.parse("127.0.0.1:0"), setting="")
    return Plan(name, str(folder / name), engine_url, address.port, peers)


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[JetStreamLog]:
    """The log of an engine that may just have begun."""
    rng = random.Random(os.getpid())  # noqa: S311 - a name for this process's questions
    address = url.removeprefix("nats://").split(":")
    for _ in range(TRIES_MAX):
        with contextlib.suppress(OSError):
            await asyncio.to_thread(
                lambda: socket.create_connection((address[0], int(address[1]))).close()
            )
            break
        await asyncio.sleep(POLL_S)
    async with open_jetstream(url, TOKEN, clock=SystemClock(), rng=rng) as log:
        yield log


@contextlib.asynccontextmanager
async def running(plan: Plan) -> AsyncIterator[None]:
    """The host, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.refill", "--host", json.dumps(dataclasses.asdict(plan))
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def until_read(plan: Plan, owner: Credentials, name: str, began: float, what: str) -> float:
    """Return when the host answers with the message, having told what it said meanwhile."""
    path = f"/2010-04-01/Accounts/{owner.account_sid}/Messages/SM{name}.json"
    pair = base64.b64encode(f"{owner.account_sid}:{owner.auth_token}".encode()).decode()
    request = urllib.request.Request(plan.url + path, headers={"Authorization": f"Basic {pair}"})
    said: dict[str, int] = {}
    while time.monotonic() < began + WITHIN_S:
        answer = await asyncio.to_thread(_status, request)
        said[answer] = said.get(answer, 0) + 1
        if answer == "200":
            took_s = time.monotonic() - began
            tell(what, began, **said)
            return took_s
        await asyncio.sleep(POLL_S)
    raise TimeoutError(f"{plan.name} does not serve: {said}")


def _status(request: urllib.request.Request) -> str:
    try:
        with urllib.request.urlopen(request, timeout=5.0) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as refusal:
        return str(refusal.code)
    except OSError:
        return "no answer"


async def be_host(plan: Plan) -> None:
    """Serve until told to end."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    logs.configure("info", host=plan.name, is_terminal=False)
    clock, entropy = SystemClock(), BufferedEntropy()
    layout = Layout(Path(plan.folder))
    layout.make()
    with socket.create_server(("127.0.0.1", plan.port), backlog=128) as listener:
        async with opened(plan.engine) as log:
            context = context_of(plan, layout, log, clock, entropy)
            names = ("projector", "api")
            await serve(context, names, listener=listener, stop=stop, on_ready=lambda: None)


def context_of(
    plan: Plan, layout: Layout, log: JetStreamLog, clock: SystemClock, entropy: Entropy
) -> Context:
    settings: dict[str, Any] = {"host.data": plan.folder, "host.name": plan.name}
    return Context(
        settings=config.load(None, settings, {}),
        layout=layout,
        cluster=CLUSTER,
        log=log,
        clock=clock,
        entropy=entropy,
        rng=random.Random(os.getpid()),  # noqa: S311 - jitter
        registry=prometheus_client.CollectorRegistry(),
        peer_token=PEER_TOKEN,
        peer_urls=lambda: plan.peers,
    )


if __name__ == "__main__":
    sys.exit(main())
