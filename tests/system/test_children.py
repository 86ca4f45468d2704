"""Children and engines as processes: they die with their parent, and come back when they die."""

import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from trunkline.host import durable, engine_child, engine_conf, listen
from trunkline.host.engine_child import (
    EngineChild,
    EngineDied,
    EngineMoved,
    EngineNews,
    EngineReady,
)
from trunkline.host.engine_cluster import EngineCluster
from trunkline.host.engine_conf import EnginePlan
from trunkline.host.give_way import NICER_BY, may_return_to
from trunkline.host.listen import Address, open_listener
from trunkline.host.refusal import ChildError, EngineError
from trunkline.host.roster import Member
from trunkline.host.setting_kinds import GIB
from trunkline.host.supervise import Child, ChildDied, ChildNews, ChildPlan, ChildReady
from trunkline.kernel import Backoff, SystemClock

pytestmark = pytest.mark.system

BOUND_S: Final = 15.0

CHILD_OF_OURS: Final = """
import sys, threading
from trunkline.kernel.lifeline import die_with_parent
die_with_parent(portable={portable})
print("tied", flush=True)
threading.Event().wait()
"""

PARENT: Final = """
import subprocess, sys, threading
from trunkline.kernel.lifeline import leashed
{start}
print(child.pid, flush=True)
threading.Event().wait()
"""

START_OURS: Final = """
child = subprocess.Popen((sys.executable, "-c", {child!r}), stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
child.stdout.readline()
"""

START_FOREIGN: Final = """
how = leashed(("sleep", "60"), portable={portable})
child = subprocess.Popen(how.argv, **how.arguments)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("is_ours", [True, False])
def test_a_child_ends_when_its_parent_is_killed(*, is_ours: bool, portable: bool) -> None:
    ours = START_OURS.format(child=CHILD_OF_OURS.format(portable=portable))
    start = ours if is_ours else START_FOREIGN.format(portable=portable)
    with subprocess.Popen(
        (sys.executable, "-c", PARENT.format(start=start)), stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_alive(child)

        parent.kill()
        parent.wait()

    give_up_at = time.monotonic() + BOUND_S
    while is_alive(child):
        assert time.monotonic() < give_up_at, "the child outlived its parent"
        time.sleep(0.01)


class News:
    """What was told, and a way to wait for the next telling."""

    def __init__(self) -> None:
        self.all: list[object] = []
        self._told = asyncio.Event()

    def __call__(self, news: EngineNews | ChildNews) -> None:
        self.all.append(news)
        self._told.set()

    async def until(self, kind: type, count: int = 1) -> None:
        async with asyncio.timeout(BOUND_S):
            while sum(isinstance(news, kind) for news in self.all) < count:
                self._told.clear()
                await self._told.wait()


def plan(folder: Path) -> EnginePlan:
    for name in ("log", "run"):
        (folder / name).mkdir(exist_ok=True)
    return EnginePlan("host-1", None, folder / "log", folder / "run", GIB)


@asynccontextmanager
async def running(
    folder: Path, news: News, *, portable: bool = False, cluster: EngineCluster | None = None
) -> AsyncIterator[EngineChild]:
    child = EngineChild(
        replace(plan(folder), cluster=cluster),
        clock=SystemClock(),
        backoff=Backoff(0.05, 0.05, random.Random(1)),
        notify=news,
        portable=portable,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(child.run())
        yield child
        child.stop()


@pytest.mark.anyio
@pytest.mark.parametrize("portable", [False, True])
async def test_an_engine_answers_its_token_only_and_ends_when_asked(
    tmp_path: Path, *, portable: bool
) -> None:
    news = News()

    async with running(tmp_path, news, portable=portable) as engine:
        await news.until(EngineReady)
        address = Address.parse(engine.url.removeprefix("nats://"))
        assert await engine_child.answers(address, engine.token)
        assert not await engine_child.answers(address, "wrong")
        pid = engine.pid

    assert pid is not None
    assert not is_alive(pid)
    assert not engine.ready.is_set()
    assert (tmp_path / "run" / "nats.conf").stat().st_mode & 0o777 == 0o600


@pytest.mark.anyio
async def test_an_engine_that_dies_on_a_full_disk_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path), content)

    news = News()
    async with running(tmp_path, news) as engine:
        await news.until(EngineReady)
        assert engine.pid is not None
        monkeypatch.setattr(durable, "write_file", no_room)
        os.kill(engine.pid, signal.SIGKILL)
        await news.until(EngineReady, 2)


@pytest.mark.anyio
@pytest.mark.parametrize("portable", [False, True])
async def test_a_killed_engine_comes_back_at_the_same_place(
    tmp_path: Path, *, portable: bool
) -> None:
    news = News()

    async with running(tmp_path, news, portable=portable) as engine:
        await news.until(EngineReady)
        url, first = engine.url, engine.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await news.until(EngineReady, 2)
        assert engine.url == url
        assert engine.pid != first

    assert [type(item) for item in news.all] == [EngineReady, EngineDied, EngineReady]


@pytest.mark.anyio
@pytest.mark.parametrize("is_clustered", [True, False])
async def test_an_engine_that_comes_back_gives_way_where_others_serve_meanwhile(
    tmp_path: Path, *, is_clustered: bool
) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    if not may_return_to(ours):
        pytest.skip("this user may not lower a niceness again: run it as root")
    news = News()

    async with running(tmp_path, news, cluster=of_one() if is_clustered else None) as engine:
        await news.until(EngineReady)
        assert engine.pid is not None
        assert os.getpriority(os.PRIO_PROCESS, engine.pid) == ours
        os.kill(engine.pid, signal.SIGKILL)
        await news.until(EngineReady, 2)
        back = os.getpriority(os.PRIO_PROCESS, engine.pid)

    assert back == (min(ours + NICER_BY, 19) if is_clustered else ours)


def of_one() -> EngineCluster:
    """A cluster whose other hosts are not there."""
    free = (listen.free_address(Address("127.0.0.1", 0), setting="") for _ in range(4))
    own = Member("host-1", next(free), next(free))
    peer = Member("host-2", *free)
    return EngineCluster("c1", own, (peer,), "client-token", "route-password")


@pytest.mark.anyio
async def test_an_engine_whose_port_was_taken_moves_and_says_so(tmp_path: Path) -> None:
    news = News()

    async with running(tmp_path, news) as engine:
        await news.until(EngineReady)
        address = Address.parse(engine.url.removeprefix("nats://"))
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGSTOP)  # nobody takes the port from a living engine
        os.kill(engine.pid, signal.SIGKILL)
        thief = None
        async with asyncio.timeout(BOUND_S):
            while thief is None:
                with suppress(Exception):
                    thief = open_listener(address, setting="")
                if EngineReady in {type(item) for item in news.all[1:]}:
                    pytest.skip("the engine was back before its port could be taken")
                await asyncio.sleep(0)
        with thief:
            await news.until(EngineReady, 2)

    assert EngineMoved in {type(item) for item in news.all}


@pytest.mark.anyio
async def test_an_engine_that_cannot_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    program = tmp_path / "engine"
    program.write_text("#!/bin/sh\necho 'the disk is on fire' >&2\nexit 3\n")
    program.chmod(0o755)
    broken = EngineChild(
        EnginePlan("host-1", program, tmp_path / "log", tmp_path, GIB),
        clock=SystemClock(),
        backoff=Backoff(0.05, 0.05, random.Random(1)),
        notify=News(),
    )

    with pytest.raises(EngineError, match=r"exit code 3.*the disk is on fire"):
        await broken.run()


def child(folder: Path, script: str, news: News) -> Child:
    ready = folder / "child.ready"
    return Child(
        ChildPlan("child", (sys.executable, "-c", script, str(ready)), ready),
        clock=SystemClock(),
        backoff=Backoff(0.01, 0.01, random.Random(1)),
        notify=news,
    )


WELL_BEHAVED: Final = """
import pathlib, sys, threading
pathlib.Path(sys.argv[1]).write_text('{"answer": 42}')
threading.Event().wait()
"""

DEAF: Final = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WELL_BEHAVED


@pytest.mark.anyio
async def test_a_child_that_dies_is_started_again_until_it_is_stopped(tmp_path: Path) -> None:
    news = News()
    supervised = child(tmp_path, WELL_BEHAVED, news)

    async with asyncio.TaskGroup() as group:
        group.create_task(supervised.run())
        await news.until(ChildReady)
        assert supervised.facts == {"answer": 42}
        assert supervised.pid is not None
        os.kill(supervised.pid, signal.SIGKILL)
        await news.until(ChildReady, 2)
        assert await supervised.stop(within_s=BOUND_S)

    assert [type(item) for item in news.all] == [ChildReady, ChildDied, ChildReady]
    assert not is_alive(supervised.pid)


@pytest.mark.anyio
async def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    news = News()
    supervised = child(tmp_path, DEAF, news)

    async with asyncio.TaskGroup() as group:
        group.create_task(supervised.run())
        await news.until(ChildReady)
        assert not await supervised.stop(within_s=0.1)

    assert supervised.pid is not None
    assert not is_alive(supervised.pid)


@pytest.mark.anyio
async def test_a_child_that_never_was_ready_is_an_error(tmp_path: Path) -> None:
    supervised = child(tmp_path, "raise SystemExit(7)", News())

    with pytest.raises(ChildError, match="exit code 7"):
        await supervised.run()


def test_the_engine_of_the_wheel_is_found() -> None:
    assert engine_conf.find_program(None).name == "nats-server"
