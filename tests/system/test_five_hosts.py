"""Five hosts in three zones: no zone has two copies of a shard, and the loss of a whole zone, with one
copy of everything, stops nothing."""

import asyncio
import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

import pytest
from tests.system.machines import (
    BACK_S,
    ENDED_S,
    create,
    expect_delivered_once,
    expect_told,
    kill_host,
    machines,
)
from tests.system.running import wait_until

from trunkline.host.engine import Door, open_door
from trunkline.host.layout import Layout
from trunkline.kernel import SystemClock
from trunkline.log.engines.jetstream import JetStreamLog
from trunkline.log.shards import SHARDS
from trunkline.log.timers import TIMER_SHARDS

pytestmark = [
    pytest.mark.system,
    pytest.mark.several,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="each host has a loopback address"),
]

ZONES: Final = {"a": "north", "b": "north", "c": "south", "d": "south", "e": "west"}
ASK_TIMEOUT_S: Final = 5.0


async def hosts_of_streams(data: Path) -> Mapping[str, set[str]]:
    """On which hosts each stream of the log stands."""
    names = [f"EV_{shard}" for shard in range(SHARDS)]
    names += [f"TIMER_{shard}" for shard in range(TIMER_SHARDS)]
    found = {}
    door = Door.find(Layout(data))
    async with open_door(door, clock=SystemClock(), rng=random.Random()) as log:
        for name in names:
            reply = await cast(JetStreamLog, log)._requests.ask(
                f"$JS.API.STREAM.INFO.{name}", timeout_s=ASK_TIMEOUT_S
            )
            assert isinstance(reply, bytes), reply
            cluster = json.loads(reply)["cluster"]
            found[name] = {cluster["leader"], *(peer["name"] for peer in cluster["replicas"])}
    return found


def test_five_hosts_in_three_zones_keep_a_copy_in_each_and_go_on_without_one(
    tmp_path: Path,
) -> None:
    with machines(tmp_path, ZONES) as cluster:
        hosts = {letter: cluster.start(letter) for letter in ZONES}
        wait_until(
            lambda: all(host.is_ready() for host in hosts.values()), "all to serve", within_s=BACK_S
        )
        facts = json.loads((tmp_path / "host-a" / "credentials.json").read_bytes())
        facts |= {"simulator_url": cluster.carrier}
        urls = {
            letter: json.loads(host.ready.read_bytes())["base_url"]
            for letter, host in hosts.items()
        }

        # Each stream has one copy in each zone.
        standing = asyncio.run(hosts_of_streams(tmp_path / "host-a"))
        assert len(standing) == SHARDS + TIMER_SHARDS
        for stream, names in standing.items():
            zones = {ZONES[name.removeprefix("host-")] for name in names}
            assert (len(names), zones) == (3, set(ZONES.values())), stream

        bodies = [f"through {letter}" for letter in ZONES]
        sids = [create(facts, url, body) for url, body in zip(urls.values(), bodies, strict=True)]
        expect_delivered_once(facts, bodies)

        # A zone is lost, and with it one copy of every shard.
        kill_host(hosts["e"].process.pid)
        hosts["e"].process.wait(timeout=ENDED_S)
        for letter in "abcd":
            bodies.append(f"without a zone, through {letter}")
            sids.append(create(facts, urls[letter], bodies[-1]))
        expect_delivered_once(facts, bodies)
        for sid in sids:
            expect_told(facts, urls["c"], sid)
