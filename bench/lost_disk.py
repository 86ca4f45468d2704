"""`python -m bench.lost_disk`: what three log engines do when one of them loses its disk.

Three engines with replicas on all, flushing before each acknowledgement. Every message that was
acknowledged is written down with its shard, sequence and payload; afterwards the emptied engine is
made the leader of each shard in turn, and asked for every one of them.

    wiped       one engine is killed under load, its store removed, and it is started empty
    stale       one engine is down while the other two acknowledge; then one of these dies, the
                other one's store is removed, and it is started empty beside the one that was down

    together    the same, and then all three are started at once, in any order

    two_lost    the same, and the store of the one that had everything is removed too

    reborn      the same, and the two emptied ones are started without the third, which comes later

In the second, none of the disks that are there has everything: it shows whether engines serve all
the same (docs/design/refill.md). Linux only.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from trunkline.host.engine_conf import EnginePlan, find_program, render
from trunkline.host.listen import Address, free_address
from trunkline.kernel import SystemClock
from trunkline.log.engines.jetstream import JetStreamLog, open_jetstream
from trunkline.log.engines.jetstream.api import stream_name
from trunkline.log.interface import Accepted, LogUnavailable, Stored, Unreadable

TOKEN: Final = "bench"  # noqa: S105 - of engines that live for minutes, on loopback
BYTES_MAX: Final = 8 * 1024 * 1024 * 1024
UNDER_WAY: Final = 300
TRIES_MAX: Final = 600
POLL_S: Final = 0.1
LEADERS_S: Final = 60.0
OPEN_S: Final = 120.0
READS_MAX: Final = 4
ASK_TIMEOUT_S: Final = 5.0
NAMES: Final = ("a", "b", "c")
PAYLOAD: Final = "Your parcel leaves today and arrives tomorrow before noon. " * 5


@dataclass
class Engines:
    """Three engines, each with a store of its own."""

    folder: Path
    addresses: dict[str, Address]
    routes: dict[str, Address]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        run = self.folder / name
        run.mkdir(exist_ok=True)
        plan = EnginePlan(name, None, run / "log", run, BYTES_MAX)
        others = [f"nats://{self.routes[each]}" for each in NAMES if each != name]
        cluster = {"name": "bench", "listen": str(self.routes[name]), "routes": others}
        text = render(plan, self.addresses[name], TOKEN) + f"cluster: {json.dumps(cluster)}\n"
        (run / "nats.conf").write_text(text)
        command = [str(find_program(None)), "-c", str(run / "nats.conf")]
        self.running[name] = subprocess.Popen(command)

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def wipe(self, name: str) -> None:
        shutil.rmtree(self.folder / name / "log")

    def url(self, name: str) -> str:
        return f"nats://{self.addresses[name]}"


@dataclass
class Ledger:
    """What was acknowledged: shard and sequence, and the digest of the payload."""

    acknowledged: dict[tuple[int, int], bytes] = field(default_factory=dict)
    unknown: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=sorted(SCENARIOS))
    parser.add_argument("--messages", type=int, default=100_000)
    chosen = parser.parse_args()
    scenario = SCENARIOS[chosen.scenario]
    with tempfile.TemporaryDirectory(prefix="trunkline-lost-disk-") as folder:
        addresses = [free_address(Address.parse("127.0.0.1:0"), setting="") for _ in range(6)]
        engines = Engines(
            Path(folder),
            dict(zip(NAMES, addresses[:3], strict=True)),
            dict(zip(NAMES, addresses[3:], strict=True)),
        )
        try:
            for name in NAMES:
                engines.start(name)
            asyncio.run(scenario(engines, chosen.messages))
        finally:
            for name in tuple(engines.running):
                engines.kill(name)


async def wiped(engines: Engines, count: int) -> None:
    ledger = Ledger()
    async with opened(engines, "a") as log:
        began = time.monotonic()
        await load(log, ledger, range(count))
        tell("loaded", began, acknowledged=len(ledger.acknowledged), unknown=ledger.unknown)
        engines.kill("c")
        engines.wipe("c")
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load(log, ledger, range(count, count + count // 10)))
            engines.start("c")
            tasks.create_task(until_current(log, "c", began))
        tell("loaded more", began, acknowledged=len(ledger.acknowledged), unknown=ledger.unknown)
        await until_current(log, "c", time.monotonic())
        await lead(log, "c")
        await compare(log, ledger, "c")


async def stale(engines: Engines, count: int) -> None:
    ledger = await behind(engines, count)
    began = time.monotonic()
    engines.start("a")
    engines.start("c")
    async with opened(engines, "a") as log:
        tell("a, and c emptied, without b", began, led=await leaders(log))
        await compare(log, ledger, "a and c")
        more = Ledger()
        await load(log, more, range(2 * count, 2 * count + 1_000))
        tell("they acknowledge", began, acknowledged=len(more.acknowledged))
        engines.start("b")
        tell("b is back", 0.0, led=await leaders(log))
        await until_current(log, "b", time.monotonic())
        await compare(log, ledger, "all, b back")


async def together(engines: Engines, count: int) -> None:
    ledger = await behind(engines, count)
    began = time.monotonic()
    for name in random.sample(NAMES, len(NAMES)):
        engines.start(name)
    async with opened(engines, "a") as log:
        tell("all three, a behind and c emptied", began, led=await leaders(log))
        await until_current(log, "c", began)
        await compare(log, ledger, "all three")


async def two_lost(engines: Engines, count: int) -> None:
    ledger = await behind(engines, count)
    engines.wipe("b")
    began = time.monotonic()
    for name in random.sample(NAMES, len(NAMES)):
        engines.start(name)
    async with opened(engines, "a") as log:
        tell("all three, a behind, b and c emptied", began, led=await leaders(log))
        await compare(log, ledger, "all three")
        more = Ledger()
        await load(log, more, range(2 * count, 2 * count + 1_000))
        tell("they acknowledge", began, acknowledged=len(more.acknowledged))


async def reborn(engines: Engines, count: int) -> None:
    ledger = await behind(engines, count)
    engines.wipe("b")
    began = time.monotonic()
    engines.start("b")
    engines.start("c")
    more = Ledger()
    try:
        async with opened(engines, "b", within_s=LEADERS_S) as log:
            tell("b and c emptied, without a, have made streams", began, led=await leaders(log))
            await load(log, more, range(2 * count, 2 * count + 1_000))
    except TimeoutError:
        pass
    tell("b and c emptied, without a", began, acknowledged=len(more.acknowledged))
    engines.start("a")
    async with opened(engines, "a") as log:
        tell("a is back", began, led=await leaders(log))
        await compare(log, ledger, "all three")
        await compare(log, more, "all three, what b and c took")


async def behind(engines: Engines, count: int) -> Ledger:
    """All are down now; `b` has everything that was acknowledged, `a` what was before it went down,
    and `c` nothing any more."""
    ledger = Ledger()
    async with opened(engines, "b") as log:
        await load(log, ledger, range(count))
        await until_current(log, "a", time.monotonic())
        before = len(ledger.acknowledged)
        engines.kill("a")
        await leaders(log)
        await load(log, ledger, range(count, count + count // 10))
        tell("loaded without a", 0.0, before=before, acknowledged=len(ledger.acknowledged))
    for name in ("b", "c"):
        engines.kill(name)
    engines.wipe("c")
    return ledger


@contextlib.asynccontextmanager
async def opened(
    engines: Engines, name: str, *, within_s: float = OPEN_S
) -> AsyncIterator[JetStreamLog]:
    """The log through one of the engines, as soon as they have made their streams."""
    rng = random.Random(1)  # noqa: S311 - the same load each time
    async with contextlib.AsyncExitStack() as stack:
        log: JetStreamLog | None = None
        give_up_at = time.monotonic() + within_s
        while time.monotonic() < give_up_at:
            try:
                log = await stack.enter_async_context(
                    open_jetstream(
                        engines.url(name),
                        TOKEN,
                        clock=SystemClock(),
                        rng=rng,
                        replicas=3,
                        bytes_max=BYTES_MAX,
                    )
                )
                break
            except* (LogUnavailable, OSError):
                pass
            await asyncio.sleep(POLL_S)
        if log is None:
            raise TimeoutError("the engines make no streams")
        yield log


async def load(log: JetStreamLog, ledger: Ledger, numbers: range) -> None:
    """Publish each once; what was not answered may stand or not, and is no loss either way."""
    rest = iter(numbers)

    async def put() -> None:
        for number in rest:
            shard, payload = number % log.shards, f"{number} {PAYLOAD}".encode()
            subject = f"ev.{shard}.message.created.AC.{number:032x}"
            answer = await log.publish(shard, subject, payload, expected=0, timeout_s=ASK_TIMEOUT_S)
            if isinstance(answer, Accepted):
                place = (shard, answer.sequence)
                ledger.acknowledged[place] = hashlib.sha256(payload).digest()
            else:
                ledger.unknown += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(UNDER_WAY):
            tasks.create_task(put())


async def ask(log: JetStreamLog, subject: str, question: bytes = b"") -> dict[str, Any]:
    reply = await log._requests.request(subject, question, timeout_s=ASK_TIMEOUT_S)  # noqa: SLF001 - no interface for it
    found: dict[str, Any] = json.loads(reply) if isinstance(reply, bytes) else {}
    return found


async def clusters(log: JetStreamLog) -> list[Mapping[str, Any]]:
    """Of each shard who leads and who follows how far behind."""
    subjects = [f"$JS.API.STREAM.INFO.{stream_name(shard)}" for shard in range(log.shards)]
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(ask(log, subject)) for subject in subjects]
    return [task.result().get("cluster", {}) for task in asked]


async def leaders(log: JetStreamLog) -> int:
    """How many shards have one, when all have or a minute has passed."""
    give_up_at = time.monotonic() + LEADERS_S
    while True:
        led = sum(bool(each.get("leader")) for each in await clusters(log))
        if led == log.shards or time.monotonic() >= give_up_at:
            return led
        await asyncio.sleep(POLL_S)


async def until_current(log: JetStreamLog, name: str, began: float) -> None:
    """Return when `name` has all of each shard."""
    for _ in range(TRIES_MAX):
        if all(_is_current(each, name) for each in await clusters(log)):
            tell(f"{name} has caught up", began)
            return
        await asyncio.sleep(POLL_S)
    raise TimeoutError(f"{name} does not catch up")


def _is_current(cluster: Mapping[str, Any], name: str) -> bool:
    if cluster.get("leader") == name:
        return True
    return any(
        each["name"] == name and each["current"] and not each.get("lag")
        for each in cluster.get("replicas", ())
    )


async def lead(log: JetStreamLog, name: str) -> None:
    """Make `name` the leader of every shard."""
    question = json.dumps({"placement": {"preferred": name}}).encode()
    for _ in range(TRIES_MAX):
        led = [each.get("leader") for each in await clusters(log)]
        if all(leader == name for leader in led):
            return
        for shard, leader in enumerate(led):
            if leader and leader != name:
                await ask(log, f"$JS.API.STREAM.LEADER.STEPDOWN.{stream_name(shard)}", question)
        await asyncio.sleep(1.0)
    raise TimeoutError(f"{name} does not lead")


async def compare(log: JetStreamLog, ledger: Ledger, who: str) -> None:
    """Ask the leaders for everything that was acknowledged."""
    began = time.monotonic()
    found: dict[tuple[int, int], bytes] = {}
    silent: list[int] = []

    async def read(shard: int) -> None:
        after, tries = 0, 0
        while tries < TRIES_MAX:
            answer = await log.read_next(
                shard, f"ev.{shard}.>", after=after, timeout_s=ASK_TIMEOUT_S
            )
            if isinstance(answer, Unreadable):
                tries += 1
                await asyncio.sleep(POLL_S)
                if tries >= READS_MAX:
                    silent.append(shard)
                    return
            elif isinstance(answer, Stored):
                after = answer.sequence
                found[shard, after] = hashlib.sha256(answer.payload).digest()
            else:
                return

    async with asyncio.TaskGroup() as tasks:
        for shard in range(log.shards):
            tasks.create_task(read(shard))
    missing = sum(place not in found for place in ledger.acknowledged)
    altered = sum(
        place in found and found[place] != digest for place, digest in ledger.acknowledged.items()
    )
    tell(
        f"compared: {who}",
        began,
        stand=len(found),
        missing=missing,
        altered=altered,
        silent=len(silent),
    )


def tell(what: str, began: float, **facts: int) -> None:
    seconds = round(time.monotonic() - began, 1) if began else 0.0
    print(json.dumps({"what": what, "seconds": seconds, **facts}), flush=True)


SCENARIOS: Final = {
    "wiped": wiped,
    "stale": stale,
    "together": together,
    "two_lost": two_lost,
    "reborn": reborn,
}

if __name__ == "__main__":
    main()
