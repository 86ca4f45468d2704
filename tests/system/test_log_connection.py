"""The log over a connection that loses things: a follower shows every event all the same."""

import asyncio
import contextlib
import random
import secrets
import shutil
import ssl
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.system.log_cluster import wait_for_listener

from trunkline.host.engine_child import answers
from trunkline.host.listen import Address, free_address
from trunkline.kernel import SystemClock
from trunkline.log.engines.jetstream import JetStreamLog, open_jetstream
from trunkline.log.interface import Accepted, LogUnavailable, Refused

pytestmark = [pytest.mark.system, pytest.mark.anyio, pytest.mark.timeout(60)]

SHARD = 4
LIMIT_S = 20.0


class Proxy:
    """Between a client and the server: can swallow what the server says, and cut."""

    def __init__(self, server: Address) -> None:
        self.is_swallowing = False
        self.port = 0
        self._server = server
        self._writers: list[asyncio.StreamWriter] = []

    @contextlib.asynccontextmanager
    async def running(self, tasks: asyncio.TaskGroup) -> AsyncIterator[None]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server = await asyncio.open_connection(self._server.host, self._server.port)
            self._writers += [writer, server[1]]
            tasks.create_task(self._pass(reader, server[1], is_answer=False))
            await self._pass(server[0], writer, is_answer=True)

        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            self.cut()
            listening.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if not (is_answer and self.is_swallowing):
                    writer.write(data)
                    await writer.drain()
        writer.close()


async def test_events_lost_with_a_connection_are_followed_all_the_same(tmp_path: Path) -> None:
    clock = SystemClock()
    async with server(tmp_path) as (address, token), asyncio.TaskGroup() as tasks:
        proxy = Proxy(address)
        async with (
            proxy.running(tasks),
            open_log(f"nats://{address}", token, clock) as direct,
            open_log(f"nats://127.0.0.1:{proxy.port}", token, clock) as log,
        ):
            follower = await log.follower(SHARD, after=0)
            seen: list[int] = []
            await put(direct, 3)
            while len(seen) < 3:
                seen += [stored.sequence for stored in await follower.fetch(10, LIMIT_S)]

            proxy.is_swallowing = True
            await put(direct, 3)
            with contextlib.suppress(LogUnavailable):
                assert list(await follower.fetch(10, 0.2)) == []
            proxy.is_swallowing = False
            proxy.cut()
            await put(direct, 40)

            async with asyncio.timeout(LIMIT_S):
                while len(seen) < 46:
                    with contextlib.suppress(LogUnavailable):
                        seen += [stored.sequence for stored in await follower.fetch(50, 0.2)]
            assert seen == list(range(1, 47))
            await follower.close()


async def test_a_message_that_is_too_large_is_surely_not_stored_and_costs_no_connection(
    tmp_path: Path,
) -> None:
    clock = SystemClock()
    async with (
        server(tmp_path) as (address, token),
        open_log(f"nats://{address}", token, clock) as log,
    ):
        answer = await log.publish(
            SHARD, f"ev.{SHARD}.x", b"x" * (1 << 20), expected=0, timeout_s=LIMIT_S
        )

        assert isinstance(answer, Refused)
        await put(log, 1)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")
async def test_the_log_is_spoken_to_over_tls_by_who_trusts_it(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    clock = SystemClock()
    with tls_server(tmp_path, certificate, key) as (address, token):
        async with open_jetstream(
            [f"nats://{address}"],
            token,
            clock=clock,
            rng=random.Random(),
            bytes_max=1 << 30,
            tls=ssl.create_default_context(cafile=certificate),
        ) as log:
            await put(log, 3)

        with pytest.raises(LogUnavailable, match="certificate verify failed"):
            async with open_jetstream(
                [f"nats://{address}"],
                token,
                clock=clock,
                rng=random.Random(),
                tls=ssl.create_default_context(),
            ):
                pass


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """One that vouches for itself, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ("-subj", "/CN=log", "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run(
        [*command.split(), *names, "-out", certificate, "-keyout", key],
        check=True,
        capture_output=True,
    )
    return certificate, key


@contextlib.contextmanager
def tls_server(folder: Path, certificate: Path, key: Path) -> Iterator[tuple[Address, str]]:
    address = free_address(Address("127.0.0.1", 0), setting="the test")
    token = secrets.token_hex(8)
    conf = folder / "nats.conf"
    conf.write_text(
        f'listen: "{address}"\nauthorization {{ token: "{token}" }}\n'
        f'tls {{ cert_file: "{certificate}", key_file: "{key}", handshake_first: true }}\n'
        f'jetstream {{ store_dir: "{folder}", sync_interval: always }}\n'
    )
    program = Path(sysconfig.get_path("scripts")) / "nats-server"
    process = subprocess.Popen([program, "-c", conf], stderr=subprocess.DEVNULL)
    try:
        wait_for_listener(address.port)
        yield address, token
    finally:
        process.terminate()
        process.wait(timeout=LIMIT_S)


def open_log(
    url: str, token: str, clock: SystemClock
) -> contextlib.AbstractAsyncContextManager[JetStreamLog]:
    return open_jetstream([url], token, clock=clock, rng=random.Random(), bytes_max=1 << 30)


async def put(log: JetStreamLog, count: int) -> None:
    for number in range(count):
        answer = await log.publish(
            SHARD,
            f"ev.{SHARD}.message.changed.AC1",
            b"%d" % number,
            expected=None,
            timeout_s=LIMIT_S,
        )
        assert isinstance(answer, Accepted)


@contextlib.asynccontextmanager
async def server(folder: Path) -> AsyncIterator[tuple[Address, str]]:
    address = free_address(Address("127.0.0.1", 0), setting="the test")
    token = secrets.token_hex(8)
    conf = folder / "nats.conf"
    conf.write_text(
        f'listen: "{address}"\nauthorization {{ token: "{token}" }}\n'
        f'jetstream {{ store_dir: "{folder}", sync_interval: always }}\n'
    )
    program = Path(sysconfig.get_path("scripts")) / "nats-server"
    process = subprocess.Popen([program, "-c", conf], stderr=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(LIMIT_S):
            while not await answers(address, token):
                await asyncio.sleep(0.01)
        yield address, token
    finally:
        process.terminate()
        process.wait(timeout=LIMIT_S)
