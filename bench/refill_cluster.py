"""`make bench-refill ARGS="--hosts 3"`: how long a whole host takes that has lost its disk.

Three hosts of `trunkline up`, each with a million finished messages in its copy: they are seeded in
bulk while the hosts are stopped. Then one host is killed and its folder removed, while creates go on
through the other two. `up` starts it again on nothing; what counts is when its own API is ready, and
answers a read of the oldest message and of one that was created while it was away.
"""

import asyncio
import base64
import contextlib
import json
import os
import random
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import aiohttp

from bench.seed import name_of, seed
from trunkline.drills.cluster import Host, UpCluster
from trunkline.drills.faults.kill import kill_host
from trunkline.drills.phones import phones
from trunkline.drills.processes import name_of as name_of_process
from trunkline.drills.processes import until
from trunkline.drills.stage import LOOPBACK
from trunkline.host.engine import Door, open_door
from trunkline.host.layout import Layout
from trunkline.kernel import SystemClock
from trunkline.log.interface import Unreadable

HOSTS: Final = 3
FIRST_CREATES: Final = 600
"""Some for each shard: creates stay with one for a fifth of a second."""
SETTLED_S: Final = 3.0
CREATES_EVERY_S: Final = 0.05
HANDSET: Final = "+12025550123"
POLL_S: Final = 0.1
ASK_TIMEOUT_S: Final = 5.0
GONE_S: Final = 5.0
WITHIN_S: Final = 180.0
CLOCK: Final = SystemClock()


async def measure(messages: int) -> dict[str, float]:
    """Seconds since the kill: until the host is ready, and until it answers both reads."""
    with tempfile.TemporaryDirectory(prefix="trunkline-refill-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            carrier = await stack.enter_async_context(
                phones(Path(folder) / "simulator", session, clock=CLOCK, seed=1, address=LOOPBACK)
            )
            cluster = UpCluster(
                Path(folder) / "hosts", hosts=HOSTS, carrier_url=carrier.url, clock=CLOCK
            )
            stack.push_async_callback(cluster.stop)
            await cluster.start()
            hosts = cluster.hosts()
            await cluster.stop()
            began = time.monotonic()
            await asyncio.to_thread(_seed_all, hosts, cluster.account.sid, messages)
            tell("seeded", began, messages=messages)
            began = time.monotonic()
            await cluster.start()
            tell("ready with it", began)
            await _trim(cluster)
            return await _lose(cluster)


def _seed_all(hosts: Sequence[Host], account: str, messages: int) -> None:
    """All copies of one log hold the same; so the first one's is made, and the others are given it."""
    first, *others = (Layout(host.data) for host in hosts)
    cluster = json.loads(first.format.read_bytes())["cluster"]
    seed(first.replica, cluster, account, messages, ended_at=CLOCK.wall() - 3600.0)
    for other in others:
        for path in other.replica.parent.glob(f"{other.replica.name}*"):
            path.unlink()
        shutil.copyfile(first.replica, other.replica)


async def _trim(cluster: UpCluster) -> None:
    """As after two days: the log alone makes no copy any more."""
    client, hosts = _Client(cluster), cluster.hosts()
    for number in range(FIRST_CREATES):
        await client.create(hosts[number % len(hosts)].base_url)
    await asyncio.sleep(SETTLED_S)
    rng = random.Random(os.getpid())  # noqa: S311 - a name for this process's questions
    door = Door.find(Layout(hosts[0].data))
    async with open_door(door, clock=CLOCK, rng=rng) as log:
        for shard in range(log.shards):
            last = await log.last_sequence(shard, timeout_s=ASK_TIMEOUT_S)
            if isinstance(last, Unreadable):
                raise ConnectionError(last.reason)
            await log.purge(shard, before=last, timeout_s=ASK_TIMEOUT_S)


async def _lose(cluster: UpCluster) -> dict[str, float]:
    client = _Client(cluster)
    *others, victim = cluster.hosts()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        creating = tasks.create_task(client.create_until(stop, others))
        await asyncio.sleep(2.0)
        cluster.hold_restarts()
        found = victim.processes()
        began = time.monotonic()
        kill_host(victim)
        await until(lambda: not any(map(name_of_process, found)), CLOCK, within_s=GONE_S)
        await asyncio.to_thread(shutil.rmtree, victim.data)
        sid = await client.create(others[0].base_url)
        cluster.let_restart()
        times: dict[str, float] = {}
        asked = {
            "ready": "/readyz",
            "oldest": client.path(f"SM{name_of(0)}"),
            "created meanwhile": client.path(sid),
        }
        while len(times) < len(asked) and time.monotonic() < began + WITHIN_S:
            for what in asked.keys() - times.keys():
                if await client.get(victim.base_url + asked[what]) == 200:
                    times[what] = time.monotonic() - began
                    tell(what, began)
            await asyncio.sleep(POLL_S)
        stop.set()
        accepted, longest_s = await creating
    tell("others", began, accepted=accepted, longest_gap_ms=round(longest_s * 1e3))
    if len(times) < len(asked):
        raise TimeoutError(f"{victim.name} does not serve: {sorted(times)}")
    return times


class _Client:
    """Of the API, over plain HTTP."""

    def __init__(self, cluster: UpCluster) -> None:
        account = cluster.account
        self._sender = account.phone_number
        self._base = f"/2010-04-01/Accounts/{account.sid}/Messages"
        pair = base64.b64encode(f"{account.sid}:{account.auth_token}".encode()).decode()
        self._headers = {"Authorization": f"Basic {pair}"}

    def path(self, sid: str) -> str:
        return f"{self._base}/{sid}.json"

    async def get(self, url: str) -> int:
        """The status; 0 where nobody answers."""
        return (await asyncio.to_thread(self._ask, url, None))[0]

    async def create(self, base_url: str) -> str:
        form = f"To=%2B{HANDSET[1:]}&From=%2B{self._sender[1:]}&Body=meanwhile"
        status, body = await asyncio.to_thread(
            self._ask, f"{base_url}{self._base}.json", form.encode()
        )
        if status != 201:
            raise ConnectionError(f"a create was answered {status}")
        sid: str = json.loads(body)["sid"]
        return sid

    async def create_until(self, stop: asyncio.Event, hosts: list[Host]) -> tuple[int, float]:
        """How many were accepted, and the longest time between two."""
        accepted, longest_s, last = 0, 0.0, time.monotonic()
        while not stop.is_set():
            await self.create(hosts[accepted % len(hosts)].base_url)
            now = time.monotonic()
            accepted, longest_s, last = accepted + 1, max(longest_s, now - last), now
            await asyncio.sleep(CREATES_EVERY_S)
        return accepted, longest_s

    def _ask(self, url: str, body: bytes | None) -> tuple[int, bytes]:
        request = urllib.request.Request(url, body, self._headers)
        try:
            with urllib.request.urlopen(request, timeout=ASK_TIMEOUT_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            return refusal.code, b""
        except OSError:
            return 0, b""


def tell(what: str, began: float, **facts: int) -> None:
    """One line of JSON, with the seconds since `began`."""
    seconds = round(time.monotonic() - began, 1)
    print(json.dumps({"what": what, "seconds": seconds, **facts}), flush=True)
