"""How far each host's copy is, told to the others: nobody trims what any of them may need."""

import asyncio
import functools
import random

from tests.unit.host.host_network import MemoryBus

from trunkline.host.cursors import SAID_EVERY_S, CursorExchange
from trunkline.host.members import Members
from trunkline.host.membership import Membership
from trunkline.kernel.virtual import VirtualClock, run_in_virtual_time

NAMES = ("a", "b", "c")


def test_one_that_never_said_anything_holds_up_all_and_one_that_is_away_what_it_had() -> None:
    async def main() -> None:
        clock, buses = VirtualClock(), MemoryBus.joined(len(NAMES))
        floors = {"a": [9, 9], "b": [5, 7], "c": [3, 3]}
        exchanges = []
        for name, bus in zip(NAMES, buses, strict=True):
            membership = Membership(NAMES, name, now=0.0)
            members = Members(bus, membership, clock=clock, rng=random.Random(1))
            exchanges.append(
                CursorExchange(
                    bus,
                    members,
                    shards=2,
                    own=functools.partial(floors.__getitem__, name),
                    clock=clock,
                )
            )
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each.run()) for each in exchanges[:2]]
            await asyncio.sleep(SAID_EVERY_S + 0.1)
            assert exchanges[0].floors(0) == {"copy of b": 5, "copy of c": 0}
            assert exchanges[0].floors(1) == {"copy of b": 7, "copy of c": 0}

            running.append(tasks.create_task(exchanges[2].run()))
            floors["b"] = [2, 8]  # its disk was lost, and its copy is being made
            await asyncio.sleep(SAID_EVERY_S + 0.1)
            assert exchanges[0].floors(0) == {"copy of b": 2, "copy of c": 3}

            buses[2].is_cut = True
            floors["c"] = [8, 8]
            await asyncio.sleep(10 * SAID_EVERY_S)
            assert exchanges[0].floors(0) == {"copy of b": 2, "copy of c": 3}

            buses[1].send("cursors.b", b'{"host":"b","floors":[1]}')
            buses[1].send("cursors.c", b'{"host":"b","floors":[1,1]}')
            buses[1].send("cursors.b", b"no")
            assert exchanges[0].floors(0) == {"copy of b": 2, "copy of c": 3}
            for task in running:
                task.cancel()

    run_in_virtual_time(main())
