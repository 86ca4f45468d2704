"""What is started anew in a cluster gives way to whoever serves meanwhile, until it is back.

A log engine reads its store and fetches what it missed, and a host's processes load their program,
which keeps a core busy for seconds. That is needed by nobody at that moment: the others of the cluster
have a majority without it, and creates go on through them. So its processor time counts less for a
while (niceness, and that of its session where the kernel shares time out by session: sched(7), The
autogroup feature). It matters where hosts share a machine.
"""

import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from trunkline.kernel import Clock

FOR_S: Final = 10.0
"""It is back within two seconds after some seconds of absence; one that has much more to fetch does
the rest as fast as it can."""
NICER_BY: Final = 10
"""A tenth of the share of processes that do not give way."""
AGAIN_AFTER_S: Final = 0.1
"""The kernel lets others than root change a session once in so long, all of them together."""
AGAIN_MAX: Final = 50
_NICENESS_MAX: Final = 19
_NICENESS_ZERO: Final = 20
"""`RLIMIT_NICE` counts downwards: a process may set itself to 20 minus the limit (getrlimit(2))."""


@contextlib.asynccontextmanager
async def giving_way(pid: int, clock: Clock, *, for_s: float = FOR_S) -> AsyncIterator[None]:
    """The process gives way for the first `for_s` of the block. A process that is gone, or a machine
    that does not let it come back to its former place, changes nothing."""
    if sys.platform != "linux":
        yield
        return
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(_for_a_while(pid, clock, for_s))
        try:
            yield
        finally:
            waiting.cancel()


def step_back() -> None:
    """This process gives way from now on, and its children, each with a session of its own, do not."""
    _set_session(os.getpid(), NICER_BY)


@contextlib.asynccontextmanager
async def coming_back(
    is_back: asyncio.Event, clock: Clock, *, for_s: float = FOR_S
) -> AsyncIterator[None]:
    """A process that has stepped back no longer gives way once it is back, or after `for_s`."""
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(_until_back(is_back, clock, for_s))
        try:
            yield
        finally:
            waiting.cancel()


async def _until_back(is_back: asyncio.Event, clock: Clock, for_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(for_s):
            await is_back.wait()
    await _leave_session_alone(os.getpid(), clock)


async def _for_a_while(pid: int, clock: Clock, for_s: float) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    is_restored = may_return_to(ours)
    if is_restored:
        _set_niceness(pid, min(ours + NICER_BY, _NICENESS_MAX))
    _set_session(pid, NICER_BY)
    try:
        await clock.sleep(for_s)
    finally:
        if is_restored:
            _set_niceness(pid, ours)
        _set_session(pid, 0)
    await _leave_session_alone(pid, clock)


def may_return_to(niceness: int) -> bool:
    """Whether this process may set another one of its user to `niceness`, once it is higher."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NICE)
    unlimited = limit == resource.RLIM_INFINITY
    return os.geteuid() == 0 or unlimited or niceness >= _NICENESS_ZERO - limit


def _set_niceness(pid: int, niceness: int) -> None:
    """Every thread of it, since each has a niceness of its own."""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness)


async def _leave_session_alone(pid: int, clock: Clock) -> None:
    """Set it to 0, which the kernel may put off."""
    for _ in range(AGAIN_MAX):
        if _set_session(pid, 0):
            return
        await clock.sleep(AGAIN_AFTER_S)


def _set_session(pid: int, niceness: int) -> bool:
    """False if the kernel puts it off. A process that is gone, or a kernel that knows no such thing, is
    nothing to try again."""
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
