"""`make bench-refill`: how long a whole host takes that has lost its disk.

Three hosts of `trunkline up`, each with a million finished messages in its copy: they are seeded in
bulk while the hosts are stopped. Then one host is killed and its folder removed, while creates go on
through the other two. `up` starts it again on nothing; what counts is when its own API is ready, and
answers a read of the oldest message and of one that was created while it was away. Told besides: what each host cost in CPU until then, what was fetched from a peer and
when that was done, and what the others' clients noticed.
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import aiohttp

from bench.processes import Cost
from bench.processes import tree as costs_below
from bench.seed import name_of, seed
from trunkline.drills.cluster import Host, UpCluster
from trunkline.drills.faults.kill import kill_host
from trunkline.drills.phones import phones
from trunkline.drills.processes import name_of as name_of_process
from trunkline.drills.processes import until
from trunkline.drills.refusal import DrillError
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
REASON_CHARS_MAX: Final = 200
REFILLED: Final = '"replica.refilled"'
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
        found, costs = victim.processes(), _costs(cluster)
        began, began_at = time.monotonic(), CLOCK.wall()
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
        made = await creating
    tell("CPU seconds", began, **_spent_s(costs, _costs(cluster)))
    _tell_of_refills(cluster, victim, began, began_at)
    gap_ms = round(made.longest_gap_s * 1e3)
    tell("others", began, accepted=made.accepted, failed=made.failed, longest_gap_ms=gap_ms)
    if len(times) < len(asked):
        raise TimeoutError(f"{victim.name} does not serve: {sorted(times)}")
    if made.failed:
        raise DrillError(f"{made.failed} creates failed at hosts that were up", "see them above")
    return times


def _costs(cluster: UpCluster) -> dict[str, dict[int, Cost]]:
    """CPU up to now, by host and process, its log server included."""
    return {host.name: costs_below(host.pid) for host in cluster.hosts() if host.pid}


def _spent_s(
    before: Mapping[str, Mapping[int, Cost]], after: Mapping[str, Mapping[int, Cost]]
) -> dict[str, float]:
    """By host, in seconds. Of a host that was started again, all that its new processes used."""
    spent = {}
    for host, costs in after.items():
        earlier = before.get(host, {})
        parts = [
            cost.cpu_s - (earlier[pid].cpu_s if pid in earlier else 0.0)
            for pid, cost in costs.items()
        ]
        spent[host] = round(sum(parts), 1)
    return spent


def _tell_of_refills(cluster: UpCluster, victim: Host, began: float, began_at: float) -> None:
    """What it fetched, by its own words, and what is on its disk now; `began` and `began_at` are the
    kill by both clocks."""
    for line in cluster.words.read_text("utf-8").splitlines():
        if REFILLED not in line:
            continue
        said = json.loads(line)
        if said["host"] == victim.name:
            done_s = datetime.fromisoformat(said["timestamp"]).timestamp() - began_at
            tell(
                "fetched",
                began,
                mib=said["bytes"] >> 20,
                took_s=round(said["took_s"], 1),
                done_after_s=round(done_s, 1),
                behind=said["behind"],
            )
    layout = Layout(victim.data)
    tell("on its disk", began, log_mib=_mib(layout.log), all_mib=_mib(layout.data))


def _mib(folder: Path) -> int:
    """What the files below take; one that goes away meanwhile counts nothing."""
    found = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found += path.stat().st_size if path.is_file() else 0
    return found >> 20


@dataclass
class _Creates:
    """What came of them, and the longest time between two that were accepted."""

    accepted: int = 0
    failed: int = 0
    longest_gap_s: float = 0.0


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
        """Its SID. Raises `ConnectionError` with what came instead."""
        form = f"To=%2B{HANDSET[1:]}&From=%2B{self._sender[1:]}&Body=meanwhile"
        status, body = await asyncio.to_thread(
            self._ask, f"{base_url}{self._base}.json", form.encode()
        )
        if status != 201:
            what = body.decode("utf-8", "replace")[:REASON_CHARS_MAX]
            raise ConnectionError(f"a create at {base_url} was answered {status} ({what})")
        sid: str = json.loads(body)["sid"]
        return sid

    async def create_until(self, stop: asyncio.Event, hosts: list[Host]) -> "_Creates":
        """Twenty a second, one after the other."""
        made, number = _Creates(), 0
        due = last = time.monotonic()
        while not stop.is_set():
            asked = time.monotonic()
            try:
                await self.create(hosts[number % len(hosts)].base_url)
            except ConnectionError as error:
                made.failed += 1
                tell("create failed", asked, at=CLOCK.wall(), why=str(error))
                now = time.monotonic()
            else:
                now = time.monotonic()
                made.accepted += 1
                made.longest_gap_s = max(made.longest_gap_s, now - last)
                last = now
            number += 1
            # What was late is not made up for: after a pause there is no burst.
            due = max(now, due + CREATES_EVERY_S)
            await asyncio.sleep(due - now)
        return made

    def _ask(self, url: str, body: bytes | None) -> tuple[int, bytes]:
        request = urllib.request.Request(url, body, self._headers)
        try:
            with urllib.request.urlopen(request, timeout=ASK_TIMEOUT_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read()
        except OSError as error:
            return 0, repr(error).encode()


def tell(what: str, began: float, **facts: float | str) -> None:
    """One line of JSON, with the seconds since `began`."""
    seconds = round(time.monotonic() - began, 1)
    print(json.dumps({"what": what, "seconds": seconds, **facts}), flush=True)
