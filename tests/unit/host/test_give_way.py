"""A process that is to give way does so for a while, with all its threads; one that starts, until it
is ready."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.host import give_way
from trunkline.host.give_way import AGAIN_AFTER_S, FOR_S, NICER_BY, giving_way, may_return_to
from trunkline.kernel.virtual import VirtualClock, run_in_virtual_time

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the niceness of threads is Linux's"
)

THREADS = """
import threading
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
threading.Event().wait()
"""


RETURNING = """
import asyncio
from pathlib import Path
from trunkline.host.give_way import coming_back, step_back
from trunkline.kernel import SystemClock

def session():
    return Path("/proc/self/autogroup").read_text().split()[-1]

async def until(value):
    async with asyncio.timeout(30):
        while session() != value:
            await asyncio.sleep(0.01)

async def main(for_s):
    step_back()
    before, is_back = session(), asyncio.Event()
    async with coming_back(is_back, SystemClock(), for_s=for_s):
        await asyncio.sleep(0)
        meanwhile = session()
        if for_s > 30.0:
            is_back.set()
        await until("0")
    print(before, meanwhile, session())

asyncio.run(main(%s))
"""


@pytest.fixture
def pid() -> Iterator[int]:
    process = subprocess.Popen(
        (sys.executable, "-c", THREADS), stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    process.kill()
    process.communicate(timeout=10)


def niceness(pid: int) -> list[int]:
    """Of each thread."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [os.getpriority(os.PRIO_PROCESS, int(thread.name)) for thread in threads]


def of_session(pid: int) -> str:
    file = Path(f"/proc/{pid}/autogroup")
    return file.read_text().split()[-1] if file.exists() else ""


def test_all_threads_give_way_for_a_while_and_then_no_longer(pid: int) -> None:
    if not may_return_to(os.getpriority(os.PRIO_PROCESS, 0)):
        pytest.skip("this user may not lower a niceness again: run it as root")
    clock, before = VirtualClock(), niceness(pid)
    seen: dict[float, tuple[list[int], str]] = {}

    async def play() -> None:
        async with giving_way(pid, clock):
            for at in (1.0, FOR_S + 1.0):
                await clock.sleep(at - clock.monotonic())
                seen[at] = niceness(pid), of_session(pid)

    run_in_virtual_time(play())

    has_sessions = Path("/proc/self/autogroup").exists()
    assert len(before) == 4
    assert seen == {
        1.0: ([min(each + NICER_BY, 19) for each in before], str(NICER_BY) if has_sessions else ""),
        FOR_S + 1.0: (before, "0" if has_sessions else ""),
    }


def test_who_leaves_early_no_longer_gives_way(pid: int) -> None:
    clock, before = VirtualClock(), niceness(pid)

    async def play() -> None:
        async with giving_way(pid, clock):
            await clock.sleep(1.0)

    run_in_virtual_time(play())

    assert niceness(pid) == before


def test_who_may_not_come_back_keeps_its_niceness(
    pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, before = VirtualClock(), niceness(pid)
    monkeypatch.setattr(give_way, "may_return_to", lambda _: False)
    seen = []

    async def play() -> None:
        async with giving_way(pid, clock):
            await clock.sleep(1.0)
            seen.append(niceness(pid))

    run_in_virtual_time(play())

    assert seen == [before]


def test_a_process_that_is_gone_is_nobody_that_could_give_way(pid: int) -> None:
    clock = VirtualClock()
    os.kill(pid, 9)
    os.waitpid(pid, 0)

    async def play() -> None:
        async with giving_way(pid, clock):
            await clock.sleep(FOR_S + 1.0)

    run_in_virtual_time(play())


@pytest.mark.parametrize(
    ("limit", "niceness", "may"), [(0, 0, False), (20, 0, True), (20, -1, False), (10, 10, True)]
)
def test_the_limit_of_the_user_says_who_may_come_back(
    monkeypatch: pytest.MonkeyPatch, *, limit: int, niceness: int, may: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))

    assert may_return_to(niceness) is may


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel has no sessions")
@pytest.mark.parametrize("for_s", [3600.0, 0.05], ids=["ready", "not-ready-in-time"])
def test_a_process_that_returns_gives_way_until_it_is_ready_or_a_while_has_passed(
    for_s: float,
) -> None:
    said = subprocess.run(
        (sys.executable, "-c", RETURNING % for_s),
        capture_output=True,
        check=True,
        timeout=60,
        start_new_session=True,
    )

    assert said.stdout.split() == [b"%d" % NICER_BY] * 2 + [b"0"]


def test_a_change_that_the_kernel_puts_off_is_tried_again(
    pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock()
    asked: list[tuple[float, str]] = []

    def write_text(path: Path, text: str) -> int:
        asked.append((clock.monotonic(), text))
        if text == "0" and len(asked) < 4:
            raise BlockingIOError
        return len(text)

    monkeypatch.setattr(Path, "write_text", write_text)

    async def play() -> None:
        async with giving_way(pid, clock):
            await clock.sleep(2 * FOR_S)

    run_in_virtual_time(play())

    again = pytest.approx(FOR_S + AGAIN_AFTER_S)
    assert asked == [(0.0, str(NICER_BY)), (FOR_S, "0"), (FOR_S, "0"), (again, "0")]
