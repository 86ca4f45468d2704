"""Hosts that ask each other over real HTTP: a lost copy comes back, whatever the network does to it."""

import asyncio
import base64
import contextlib
import random
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import prometheus_client
import pytest
from structlog.testing import capture_logs

from trunkline.domain.events import Kind, MessageCreated, Type
from trunkline.host import config, credentials
from trunkline.host.assemble import Assembly, assemble
from trunkline.host.birth import give_birth
from trunkline.host.context import Context
from trunkline.host.layout import Layout
from trunkline.host.peers import CLUSTER_HEADER, HttpPeers
from trunkline.host.serve_http import HttpServer
from trunkline.host.serving import serve
from trunkline.kernel import Deadline, SystemClock
from trunkline.log.author import Author
from trunkline.log.engines.memory import MemoryLog
from trunkline.log.event import created_subject, encode
from trunkline.log.interface import Accepted
from trunkline.replica.peers import NotGiven, Offer, Part, Preparing
from trunkline.replica.progress import is_caught_up
from trunkline.replica.refill import Refill
from trunkline.replica.restore import make_ready
from trunkline.replica.snapshot import check

pytestmark = [pytest.mark.system, pytest.mark.anyio, pytest.mark.timeout(60)]

TOKEN = "what three hosts know each other by"
CLUSTER = "c1"
ACCOUNT = "AC" + "a" * 32
MESSAGES = 6_000
WITHIN_S = 20.0
CLOCK = SystemClock()


@dataclass
class World:
    """One log, and what a test starts on it."""

    folder: Path
    log: MemoryLog = field(default_factory=lambda: MemoryLog(clock=CLOCK))
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    written: int = 0

    @property
    def author(self) -> Author:
        return Author("test", CLOCK, self.rng.randbytes)

    async def write(self, count: int) -> None:
        """So many messages more."""
        for number in range(self.written, self.written + count):
            name, shard = f"{number:032x}", number % self.log.shards
            text = self.rng.randbytes(200).hex()
            body = MessageCreated(
                sid="SM" + name, sender="+15550001", recipient="+15550002", text=text
            )
            event = self.author.event(Kind.MESSAGE, Type.ORIGINAL, ACCOUNT, "SM" + name, body)
            subject = created_subject(shard, Kind.MESSAGE, ACCOUNT, name)
            answer = await self.log.publish(
                shard, subject, encode(event), expected=0, timeout_s=1.0
            )
            assert isinstance(answer, Accepted)
        self.written += count

    async def trim(self) -> None:
        """The log alone makes no copy any more."""
        for shard in range(self.log.shards):
            last = await self.log.last_sequence(shard, timeout_s=1.0)
            assert isinstance(last, int)
            await self.log.purge(shard, before=last, timeout_s=1.0)

    def context(self, name: str, *, token: str | None = TOKEN, **peers: str) -> Context:
        layout = Layout(self.folder / name)
        layout.make()
        return Context(
            settings=config.load(None, {"host.data": str(layout.data)}, {}),
            layout=layout,
            cluster=CLUSTER,
            log=self.log,
            clock=CLOCK,
            entropy=self.rng.randbytes,
            rng=self.rng,
            registry=prometheus_client.CollectorRegistry(),
            peer_token=token,
            peer_urls=lambda: list(peers.values()),
        )

    def peers(
        self, *urls: str, token: str = TOKEN, cluster: str = CLUSTER, former: Sequence[str] = ()
    ) -> HttpPeers:
        return HttpPeers(lambda: urls, token, cluster, former=former, clock=CLOCK, rng=self.rng)

    def copy(self, name: str) -> Path:
        return Layout(self.folder / name).replica


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@contextlib.asynccontextmanager
async def host(context: Context) -> AsyncIterator[tuple[str, Assembly]]:
    """A host with projector and API, caught up and served; its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with (
            asyncio.timeout(WITHIN_S * 2),
            assemble(context, ["projector", "api"], readiness=list, on_newer=print) as assembly,
            asyncio.TaskGroup() as tasks,
        ):
            assert assembly.app is not None
            server = HttpServer(assembly.app, listener)
            running = [tasks.create_task(part.run()) for part in assembly.supports]
            serving = tasks.create_task(server.run())
            await until(lambda: is_caught_up(assembly.progress, context.log))
            yield url_of(listener), assembly
            server.drain()
            await serving
            for task in running:
                task.cancel()


def url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while True:
            found = is_so()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.01)


@dataclass
class Wire:
    """A network to one host that breaks off, or spoils a byte, behind so many bytes of answers."""

    breaks_at: list[int] = field(default_factory=list)
    spoils_at: int | None = None
    passed: int = 0
    broken: int = 0


@contextlib.asynccontextmanager
async def through(url: str, wire: Wire) -> AsyncIterator[str]:
    """The host at `url`, at the end of that wire."""
    port = int(url.rpartition(":")[2])

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as tasks:
            up = tasks.create_task(pump(reader, there))
            while piece := await there_reader.read(65536):
                if wire.breaks_at and wire.passed + len(piece) > wire.breaks_at[0]:
                    wire.breaks_at.pop(0)
                    wire.broken += 1
                    writer.transport.abort()
                    break
                at = wire.spoils_at
                if at is not None and wire.passed <= at < wire.passed + len(piece):
                    spoilt = bytearray(piece)
                    spoilt[at - wire.passed] ^= 1
                    piece = bytes(spoilt)
                wire.passed += len(piece)
                writer.write(piece)
                await writer.drain()
            up.cancel()
        writer.close()
        there.close()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()

    server = await asyncio.start_server(
        lambda reader, writer: carry_quietly(carry, reader, writer), "127.0.0.1", 0
    )
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def carry_quietly(
    carry: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    with contextlib.suppress(ExceptionGroup, OSError):
        await carry(reader, writer)  # type: ignore[misc] # a coroutine function


async def offered(peers: HttpPeers, url: str) -> Offer:
    async with asyncio.timeout(WITHIN_S):
        while True:
            answer = await peers.offer(url, deadline=Deadline.after(5.0, CLOCK))
            assert not isinstance(answer, NotGiven), answer.reason
            if not isinstance(answer, Preparing):
                return answer
            await asyncio.sleep(0.05)


async def test_a_host_without_a_disk_has_its_copy_back_while_messages_come(world: World) -> None:
    await world.write(MESSAGES)
    async with host(world.context("one")) as (url, _), asyncio.TaskGroup() as tasks:
        await world.trim()
        writing = tasks.create_task(world.write(MESSAGES))

        with capture_logs() as said:
            async with host(world.context("two", one=url)) as (_, two):
                await writing
                await until(lambda: is_caught_up(two.progress, world.log))

    assert "replica.refilled" in {each["event"] for each in said}
    assert rows_in(world.copy("two")) == rows_in(world.copy("one")) == 2 * MESSAGES


def rows_in(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as database:
        count: int = database.execute("SELECT count(*) FROM message").fetchone()[0]
        return count


async def test_a_download_that_is_cut_off_goes_on_where_it_was(world: World) -> None:
    await world.write(MESSAGES)
    wire = Wire(breaks_at=[1_000_000, 5_000_000])
    async with host(world.context("one")) as (url, _), through(url, wire) as shaky:
        await world.trim()
        peers = world.peers(shaky)
        offer = await offered(peers, shaky)
        await make_ready(world.log, world.copy("two"), CLUSTER, Refill(peers, CLOCK))
        await peers.close()

    assert offer.bytes > 4_200_000
    assert wire.broken == 2
    assert wire.passed < 2 * offer.bytes, "it was not begun anew"
    assert check(world.copy("two"), CLUSTER) == offer.cursors


async def test_spoilt_bytes_are_seen_and_had_from_another_host(world: World) -> None:
    await world.write(MESSAGES)
    wire = Wire(spoils_at=2_000_000)
    async with (
        host(world.context("one")) as (one, _),
        host(world.context("three")) as (three, _),
        through(one, wire) as shaky,
    ):
        await world.trim()
        peers = world.peers(shaky, three)
        with capture_logs() as said:
            await make_ready(world.log, world.copy("two"), CLUSTER, Refill(peers, CLOCK))
        await peers.close()

    assert [each["reason"] for each in said if each["event"] == "replica.peer_failed"] == [
        "what came is not what was offered: the checksums differ"
    ]
    assert check(world.copy("two"), CLUSTER) is not None


@pytest.mark.parametrize(
    ("token", "cluster", "status"), [("another", CLUSTER, "401"), (TOKEN, "c2", "409")]
)
async def test_nobody_else_is_told_anything(
    world: World, token: str, cluster: str, status: str
) -> None:
    await world.write(10)
    async with host(world.context("one")) as (url, _):
        peers = world.peers(url, token=token, cluster=cluster)
        deadline = Deadline.after(5.0, CLOCK)
        part = Part("0", 0.0, 1.0)
        answers = (
            await peers.offer(url, deadline=deadline),
            await peers.digest(url, part, deadline=deadline),
            await peers.records(url, part, deadline=deadline),
        )
        await peers.close()

    for answer in answers:
        assert isinstance(answer, NotGiven)
        assert f"it answered {status}" in answer.reason


async def test_a_host_that_has_the_next_secret_already_shows_the_former_one_as_well(
    world: World,
) -> None:
    await world.write(10)
    async with host(world.context("one")) as (url, _):
        peers = world.peers(url, token="the next", former=[TOKEN])
        answer = await peers.digest(url, Part("0", 0.0, 1.0), deadline=Deadline.after(5.0, CLOCK))
        await peers.close()

    assert not isinstance(answer, NotGiven)


async def test_a_host_alone_has_no_such_paths(world: World) -> None:
    await world.write(10)
    async with host(world.context("one", token=None)) as (url, _), aiohttp.ClientSession() as http:
        for path in ("/internal/snapshot", "/internal/digest", "/no/such/thing"):
            async with http.get(url + path) as answer:
                assert answer.status == 404
                assert (await answer.json())["code"] == 20404


async def test_what_is_asked_wrongly_is_refused_by_name(world: World) -> None:
    await world.write(10)
    async with host(world.context("one")) as (url, _):
        peers = world.peers(url)
        offer = await offered(peers, url)
        headers = {"Authorization": f"Bearer {TOKEN}", CLUSTER_HEADER: CLUSTER}
        async with aiohttp.ClientSession(headers=headers) as http:
            for method, path, sent, status in (
                ("POST", "snapshot", {}, 405),
                ("GET", "no-such", {}, 404),
                ("GET", "snapshot/other", {"Range": "bytes=0-1"}, 404),
                ("GET", f"snapshot/{offer.name}", {}, 400),
                ("GET", f"snapshot/{offer.name}", {"Range": "bytes=9-1"}, 416),
                ("GET", f"snapshot/{offer.name}", {"Range": f"bytes=0-{offer.bytes}"}, 416),
                ("GET", "digest?prefix=zz&since=0&until=1", {}, 400),
                ("GET", "digest?prefix=0&since=0", {}, 400),
            ):
                address = f"{url}/internal/{path}"
                async with http.request(method, address, headers=sent) as answer:
                    assert (path, answer.status) == (path, status)
        await peers.close()


async def test_hosts_compare_and_mend_over_the_network(world: World) -> None:
    await world.write(100)
    part = Part("0", 0.0, float(2**40))
    async with host(world.context("one")) as (url, _), host(world.context("two")) as (other, _):
        peers = world.peers(url, other)
        deadline = Deadline.after(5.0, CLOCK)
        digests = [await peers.digest(each, part, deadline=deadline) for each in (url, other)]
        records = await peers.records(url, part, deadline=deadline)
        await peers.close()

    assert all(not isinstance(each, NotGiven) and each.lag_ms is not None for each in digests)
    assert len({each.sha256 for each in digests if not isinstance(each, NotGiven)}) == 1
    # Nothing has been handed over yet: there is nothing finished to compare.
    assert records == []


async def test_a_host_that_is_being_refilled_sends_everybody_elsewhere(world: World) -> None:
    await world.write(100)
    may_answer = asyncio.Event()
    owner = credentials.born(world.rng.randbytes)
    await give_birth(world.log, owner, author=world.author)

    async def hold_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await may_answer.wait()
        writer.close()

    async with host(world.context("one")) as (url, _):
        await world.trim()
        server = await asyncio.start_server(hold_back, "127.0.0.1", 0)
        held = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        context = world.context("two", held=held, one=url)
        stop, ready = asyncio.Event(), asyncio.Event()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with server, aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
                tasks.create_task(
                    serve(
                        context,
                        ["projector", "api"],
                        listener=listener,
                        stop=stop,
                        on_ready=ready.set,
                    )
                )
                own = url_of(listener)
                path = f"{own}/2010-04-01/Accounts/{owner.account_sid}/Messages.json"
                pair = f"{owner.account_sid}:{owner.auth_token}".encode()
                auth = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
                before = [
                    await asked(http, "GET", f"{own}/healthz", auth),
                    await asked(http, "GET", f"{own}/readyz", auth),
                    await asked(http, "GET", path, auth),
                    await asked(http, "POST", path, auth),
                    await asked(http, "GET", f"{own}/internal/snapshot", auth),
                ]
                may_answer.set()
                async with asyncio.timeout(WITHIN_S):
                    await ready.wait()
                after = [
                    await asked(http, "GET", f"{own}/readyz", auth),
                    await asked(http, "GET", path, auth),
                ]
                stop.set()

    assert before == [
        (200, None),
        (503, "5"),
        (503, "5"),
        (503, "5"),
        (503, "5"),
    ]
    assert after == [(200, None), (200, None)]


async def asked(
    http: aiohttp.ClientSession, method: str, url: str, auth: dict[str, str]
) -> tuple[int, str | None]:
    async with asyncio.timeout(WITHIN_S), http.request(method, url, headers=auth) as answer:
        return answer.status, answer.headers.get("Retry-After")
