"""What the log engine takes for what it retains, and what a purge gives back.

    python -m bench.retention [--messages N] [--settle-s S] [--environment NAME=VALUE ...]

Loads originals of one subject each, straight into an engine that is configured as a host configures
it, many at once because each is flushed; then purges all of them, as the trimmer would. Linux only.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.processes import tree
from trunkline.domain.events import Kind, MessageCreated, Type
from trunkline.host.engine_conf import EnginePlan, find_program, render
from trunkline.host.listen import Address, free_address
from trunkline.kernel import SystemClock
from trunkline.log.author import Author
from trunkline.log.engines.jetstream import JetStreamLog, open_jetstream
from trunkline.log.event import created_subject, encode
from trunkline.log.interface import Accepted, Exists, Extent

ACCOUNT: Final = "AC" + "a" * 32
TOKEN: Final = "bench"  # noqa: S105 - of an engine that lives for minutes, on loopback
UNDER_WAY: Final = 600
MIB: Final = 1024 * 1024
BYTES_MAX: Final = 64 * 1024 * MIB


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--settle-s", type=float, default=300.0)
    parser.add_argument("--environment", nargs="*", default=[])
    chosen = parser.parse_args()
    environment = dict(pair.split("=", 1) for pair in chosen.environment)
    with tempfile.TemporaryDirectory() as folder, engine(Path(folder), environment) as found:
        process, url = found
        asyncio.run(measure(process.pid, url, Path(folder), chosen.messages, chosen.settle_s))


@contextmanager
def engine(
    folder: Path, environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A log engine, and its URL."""
    address = free_address(Address.parse("127.0.0.1:0"), setting="")
    plan = EnginePlan("bench", None, folder / "log", folder, BYTES_MAX)
    (folder / "nats.conf").write_text(render(plan, address, TOKEN))
    command = [str(find_program(None)), "-c", str(folder / "nats.conf")]
    process = subprocess.Popen(command, env={**os.environ, **environment})  # noqa: TID251 - what it is started with
    try:
        yield process, f"nats://{address}"
    finally:
        process.terminate()
        process.wait()


async def measure(pid: int, url: str, folder: Path, count: int, settle_s: float) -> None:
    clock = SystemClock()
    for _ in range(100):
        if (folder / "nats.log").exists():
            break
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    rng = random.Random(1)  # noqa: S311 - the same load each time
    async with open_jetstream([url], TOKEN, clock=clock, rng=rng, bytes_max=BYTES_MAX) as log:
        tell(pid, "empty", 0.0)
        began = time.monotonic()
        await load(log, Author("bench", clock, rng.randbytes), count)
        held = await extents(log)
        size = sum(each.bytes for each in held.values())
        resident = tell(pid, "loaded", time.monotonic() - began, messages=count, bytes=size)
        print(json.dumps({"bytes_each": size // count, "resident_each": resident // count}))
        await wait(pid, "loaded, idle", 30.0)
        began = time.monotonic()
        for shard, extent in held.items():
            await log.purge(shard, before=extent.last, timeout_s=60.0)
        tell(pid, "purged", time.monotonic() - began, bytes=await disk(folder))
        for share in (0.1, 0.4, 0.5):
            await wait(pid, "purged, idle", settle_s * share)


async def load(log: JetStreamLog, author: Author, count: int) -> None:
    numbers = iter(range(count))

    async def put() -> None:
        for number in numbers:
            name, shard = f"{number:032x}", number % log.shards
            body = MessageCreated(
                sid="SM" + name, sender="+15550001", recipient="+15550002", text="x" * 80
            )
            event = author.event(Kind.MESSAGE, Type.ORIGINAL, ACCOUNT, "SM" + name, body)
            subject = created_subject(shard, Kind.MESSAGE, ACCOUNT, name)
            answer: object = None
            while not isinstance(answer, Accepted | Exists):  # a busy machine may take its time
                answer = await log.publish(shard, subject, encode(event), expected=0, timeout_s=5.0)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(UNDER_WAY):
            tasks.create_task(put())


async def extents(log: JetStreamLog) -> dict[int, Extent]:
    found: dict[int, Extent] = {}
    for shard in range(log.shards):
        extent = await log.extent(shard, timeout_s=10.0)
        assert isinstance(extent, Extent)
        found[shard] = extent
    return found


async def wait(pid: int, what: str, seconds: float) -> None:
    await asyncio.sleep(seconds)
    tell(pid, what, seconds)


async def disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "log").rglob("*") if path.is_file())


def tell(pid: int, what: str, seconds: float, **facts: int) -> int:
    """The engine's resident memory now."""
    resident = tree(pid)[pid].resident_bytes
    line = {"what": what, "seconds": round(seconds, 1), "resident_mib": resident // MIB, **facts}
    print(json.dumps(line), flush=True)
    return resident


if __name__ == "__main__":
    main()
