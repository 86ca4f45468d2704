"""What a host leaves of itself, and what `trunkline status` makes of it."""

import asyncio
import json
import random
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from trunkline.cli.main import application
from trunkline.host import status
from trunkline.host.queues import QueueLine
from trunkline.host.reasons import reasons
from trunkline.host.status import STALE_S, StatusFile
from trunkline.kernel import Deadline, Pool, PoolLimits, SystemClock
from trunkline.kernel.virtual import VirtualClock, run_in_virtual_time
from trunkline.replica.progress import Progress

AN_EJECTION = status.OutLine(
    replica="n1",
    rule="5 failures in a row",
    failures=5,
    outcomes=9,
    last_error="refused",
    out_for_s=7.0,
    probed_in_s=1.5,
    is_ignored=False,
)


class Owner:
    """Owns one pool, of which one replica fails for as long as it is asked."""

    def __init__(self, clock: VirtualClock) -> None:
        limits = PoolLimits(try_timeout_s=1.0)
        self.clock = clock
        self.pool = Pool("log", ["one", "two"], limits=limits, clock=clock, rng=random.Random(1))

    def pools(self) -> Iterable[Pool[Any]]:
        return (self.pool,)

    async def use(self) -> None:
        async def act(replica: str, bound_s: float) -> str:
            del bound_s
            if replica == "two":
                raise OSError("it is gone")
            return replica

        while not any(self.pool.out()):
            deadline = Deadline.after(5.0, self.clock)
            await self.pool.call(act, deadline=deadline, is_repeatable=True)
            await self.clock.sleep(1.0)  # or it is shunned for what it cost, and not put out


@pytest.mark.parametrize("not_ready", [[], ["log"]])
def test_a_host_says_each_second_how_it_is_and_nothing_once_it_is_gone(
    tmp_path: Path, not_ready: list[str]
) -> None:
    async def main() -> None:
        clock = VirtualClock()
        owner = Owner(clock)
        with closing(Progress(tmp_path / "progress", shards=2, clock=clock)) as progress:
            file = StatusFile(
                status.path_of(tmp_path, 7),
                host="host-1",
                services=["api"],
                readiness=lambda: not_ready,
                progress=progress,
                part=None,
                owners=lambda: (owner, None),
                queues=lambda: [QueueLine(service="dispatch", oldest_s=3.0)],
                clock=clock,
            )
            await owner.use()
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(file.run())
                await asyncio.sleep(1.5)
                (found,) = status.read(tmp_path, wall=clock.wall())
                assert found.not_ready == tuple(not_ready)
                assert found.copy_lag_ms == -1.0
                assert [line.pool for line in found.pools] == ["log"]
                (out,) = found.pools[0].out
                assert out.replica == "two"
                assert out.rule == "5 failures in a row"
                assert out.failures == out.outcomes >= 1
                assert out.last_error == "OSError: it is gone"
                assert out.out_for_s >= 1.0
                assert found.queues == (QueueLine(service="dispatch", oldest_s=3.0),)
                assert status.read(tmp_path, wall=clock.wall() + STALE_S + 1.1) == []
                running.cancel()
        assert status.read(tmp_path, wall=clock.wall()) == []

    run_in_virtual_time(main())


def test_a_folder_that_cannot_be_written_to_ends_no_host(tmp_path: Path) -> None:
    async def main() -> None:
        clock, folder = VirtualClock(), tmp_path / "run"
        with closing(Progress(tmp_path / "progress", shards=2, clock=clock)) as progress:
            file = StatusFile(
                status.path_of(folder, 7),
                host="host-1",
                services=["api"],
                readiness=list,
                progress=progress,
                part=None,
                owners=lambda: (),
                queues=list,
                clock=clock,
            )
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(file.run())
                await asyncio.sleep(1.5)
                assert status.read(folder, wall=clock.wall()) == []

                folder.mkdir()
                await asyncio.sleep(1.5)
                assert len(status.read(folder, wall=clock.wall())) == 1
                running.cancel()

    run_in_virtual_time(main())


def a_host(name: str, state: str) -> status.HostLine:
    return status.HostLine(
        host=name,
        state=state,
        may_act=True,
        incarnation="1",
        base_url="",
        zone="",
        heard_for_s=0.0,
        unheard_s=9.0,
    )


def test_a_host_without_a_majority_names_those_it_does_not_hear() -> None:
    hosts = (a_host("a", "ready"), a_host("b", "gone"), a_host("c", "unknown"))
    found = [
        status.ProcessStatus(
            at=0.0, host="a", services=(), not_ready=words, copy_lag_ms=0.0, hosts=hosts
        )
        for words in (("majority", "room"), ("majority",))
    ]

    majority, room = reasons(found)

    assert majority.startswith("majority: this host hears 1 of 3 hosts, itself included, and 2 are")
    assert "Not heard: b, c." in majority
    assert room.startswith("room: the disk is nearly full")


def test_the_command_shows_it_and_its_exit_code_says_whether_all_is_well(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    runner = CliRunner()
    arguments = ["status", "--data", str(tmp_path)]

    assert runner.invoke(application(["status"]), arguments).exit_code != 0, "no host runs"

    for not_ready, exit_code in (((), 0), (("room",), 1)):
        line = status.ShardLine(stream="EV_0", owner="a", leader="b", consumers={"dispatch": "a"})
        said = status.ProcessStatus(
            at=SystemClock().wall(),
            host="a",
            services=("api",),
            not_ready=not_ready,
            copy_lag_ms=12.0,
            shards=(line,),
            pools=(status.PoolLine(pool="log", replicas=3, out=(AN_EJECTION,)),),
            queues=(QueueLine(service="dispatch", oldest_s=42.0, unknown_shards=2),),
        )
        status.path_of(run, 7).write_bytes(status.encode(said))
        shown = runner.invoke(application(["status"]), arguments)
        as_json = runner.invoke(application(["status"]), [*arguments, "--json"])

        assert shown.exit_code == as_json.exit_code == exit_code
        assert "EV_0" in shown.stdout
        assert "12 ms" in shown.stdout
        assert "42.0 s" in shown.stdout
        assert "refused" in shown.stdout
        assert json.loads(as_json.stdout)["processes"][0]["shards"][0]["leader"] == "b"
