"""The log engine of a host that is cut off is stopped before it asks for votes that nobody hears.

Each vote that it asks for raises its term, on its disk. Back among the others it would have them all
step down for that, and shards that were well would have no leader for seconds. So once this host
hears no majority, and cannot reach one either, its engine is stopped (SIGSTOP); the earliest election
is 3 s after the cut, as the engine waits 4 s for a leader that speaks every second. When a majority
can be reached again the engine is killed, and its parent starts another one, which follows.

Reached is whoever takes a TCP connection where its engine listens, or refuses it. The system does that
for a program that is stopped, frozen or starved, too: so a slow machine stops nobody, and of hosts that were all cut
off from one another each finds the others again.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Final

import structlog

from trunkline.host.listen import Address
from trunkline.host.members import Members
from trunkline.host.put_down import engine_at
from trunkline.host.standing import MUTE_S, majority_of
from trunkline.kernel import Clock

log: Final = structlog.get_logger(__name__)

HOLD_AFTER_S: Final = MUTE_S
"""Without a majority; by then this host may not act any more."""

LOOK_EVERY_S: Final = 0.1
REACH_TIMEOUT_S: Final = 0.4
"""A connection in the same network takes a millisecond."""

Reach = Callable[[Address], Coroutine[None, None, bool]]


async def reaches(address: Address) -> bool:
    """Whether a TCP connection is taken there, or refused: then that host is there without its
    engine, which asks for no votes, and nobody is cut off."""
    try:
        async with asyncio.timeout(REACH_TIMEOUT_S):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


class CutOff:
    """Use as a support of the process that speaks for its host: `run` until cancelled. `places` says
    where the engine of each host listens; `engine_pid` is the file in which the own one's process
    stands."""

    name = "cut_off"

    def __init__(
        self,
        members: Members,
        places: Mapping[str, Address],
        *,
        engine_pid: Path,
        clock: Clock,
        reach: Reach = reaches,
    ) -> None:
        self._members = members
        self._others = tuple(at for host, at in places.items() if host != members.own)
        self._needed = majority_of(members.hosts) - 1
        self._engine_pid = engine_pid
        self._clock = clock
        self._reach = reach
        self._held: int | None = None

    async def run(self) -> None:
        """Until cancelled."""
        heard_at: float | None = None
        left = engine_at(self._engine_pid)
        if _is_stopped(left):  # by a process before this one, which was killed
            self._release(left)
        try:
            while True:
                is_connected = self._members.view().is_connected
                now = self._clock.monotonic()
                if is_connected:
                    heard_at = now
                is_due = heard_at is not None and now - heard_at >= HOLD_AFTER_S
                if self._held is None and is_due and not await self._reaches_majority():
                    self._hold()
                elif self._held is not None and (is_connected or await self._reaches_majority()):
                    self._release(self._held)
                await self._clock.sleep(LOOK_EVERY_S)
        finally:
            if self._held is not None:
                self._release(self._held)

    async def _reaches_majority(self) -> bool:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._reach(address)) for address in self._others]
        return sum(each.result() for each in asked) >= self._needed

    def _hold(self) -> None:
        pid = engine_at(self._engine_pid)
        if pid is None or self._members.view().is_connected:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            self._held = pid
            log.warning("engine.held", engine_pid=pid)

    def _release(self, pid: int | None) -> None:
        """It ends, and another one follows where this one would have led."""
        self._held = None
        if pid is None or engine_at(self._engine_pid) != pid:
            return
        log.warning("engine.released", engine_pid=pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_stopped(pid: int | None) -> bool:
    try:
        facts = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return facts.rpartition(") ")[2].startswith("T")
