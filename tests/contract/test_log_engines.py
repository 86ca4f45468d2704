"""Both engines do what `log/interface.py` promises."""

import contextlib
import random
import secrets
import socket
import subprocess
import sysconfig
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tests.system.log_cluster import Cluster, cluster

from trunkline.kernel import SystemClock
from trunkline.log.contract import CHECKS
from trunkline.log.engines.jetstream import open_jetstream
from trunkline.log.engines.memory import MemoryLog
from trunkline.log.interface import ClusteredLog

Check = Callable[[ClusteredLog], Awaitable[None]]
STARTS_S = 5.0


@pytest.fixture(params=CHECKS, ids=lambda check: check.__name__)
def check(request: pytest.FixtureRequest) -> Check:
    chosen: Check = request.param
    return chosen


@pytest.mark.anyio
async def test_memory_engine(check: Check) -> None:
    await check(MemoryLog(clock=SystemClock()))


@pytest.mark.anyio
@pytest.mark.system
async def test_jetstream_engine(check: Check, jetstream: tuple[str, str]) -> None:
    url, token = jetstream
    # Not a fixed seed: inboxes of one name would get what the server still owes an earlier check.
    async with open_jetstream(
        [url], token, clock=SystemClock(), rng=random.Random(), bytes_max=1 << 30
    ) as log:
        await check(log)


@pytest.mark.anyio
@pytest.mark.system
async def test_jetstream_engine_on_three_servers(check: Check, servers: Cluster) -> None:
    async with servers.open() as log:
        await check(log)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(scope="module")
def jetstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A real server on a free port, flushing every message, ended when the module is done."""
    folder = tmp_path_factory.mktemp("nats")
    token = secrets.token_hex(16)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\nauthorization {{ token: "{token}" }}\n'
        f'jetstream {{ store_dir: "{folder}", sync_interval: always }}\n'
    )
    binary = Path(sysconfig.get_path("scripts")) / "nats-server"
    server = subprocess.Popen([str(binary), "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        _wait_for_port(port)
        yield f"nats://127.0.0.1:{port}", token
    finally:
        server.terminate()
        server.wait(timeout=STARTS_S)


def _wait_for_port(port: int) -> None:
    """Bounded by the number of tries; each one waits for the server's first line."""
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as peer:
            if peer.recv(5) == b"INFO ":
                return
        subprocess.run(["sleep", "0.01"], check=True)
    raise AssertionError("nats-server did not start")
