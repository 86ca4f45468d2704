"""What a scenario is given to act on, and what it says of itself."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import aiohttp

from trunkline.drills import processes
from trunkline.drills.backlog import Backlog
from trunkline.drills.checker import Terms
from trunkline.drills.cluster import Cluster, Host
from trunkline.drills.load import Load
from trunkline.drills.observer.receiver import Receiver
from trunkline.drills.phones import Phones
from trunkline.drills.refusal import NotRecovered
from trunkline.kernel import Clock

LOOPBACK: Final = "127.0.0.1"
WINDOW: Final = 10
"""`carrier.window`: what one lost link can leave ambiguous."""
BACK_MAX_S: Final = 60.0
PROMISED_GAP_MS: Final = 100.0
HOSTS_PROMISED_MIN: Final = 3
"""One host alone pauses while it starts again; of a cluster it is promised that it does not."""
WAIT_MAX_MS: Final = 4_000.0
"""A leader of the log takes longer than this to replace, and the way round it a quarter of a second:
far enough from both for a machine that is slow."""
PROBE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the one who calls chose. `seconds` is how long a fault lasts, where the drill has a say;
    `is_timing_judged` makes a breach of the promised accept gap a failure."""

    hosts: int = 3
    seed: int = 1
    rate_per_s: float = 50.0
    seconds: float | None = None
    is_keyed: bool = True
    is_timing_judged: bool = False
    broken: str = ""
    """The one protection that is switched off, to see the judge find it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened in the drill, for its timeline."""

    at: float
    what: str


@dataclass(slots=True)
class Stage:
    """One drill under way."""

    cluster: Cluster
    phones: Phones
    receiver: Receiver
    load: Load
    session: aiohttp.ClientSession
    options: Options
    folder: Path
    clock: Clock
    rng: random.Random
    marks: list[Mark] = field(default_factory=list)
    backlog: Backlog | None = None
    """What waited for the carrier, in the drill that is about it."""

    def mark(self, what: str) -> None:
        """The first mark is when the fault begins."""
        self.marks.append(Mark(self.clock.monotonic(), what))

    def pick_host(self) -> Host:
        """Any of them, as the seed has it."""
        return self.rng.choice(self.cluster.hosts())

    async def wait(self, seconds: float) -> None:
        """The load goes on meanwhile."""
        await asyncio.sleep(seconds)

    async def until_replaced(self, gone: Host) -> Host:
        """Until the host runs in another process and takes requests; that one."""

        def is_replaced() -> bool:
            now = self.host(gone.name)
            return now.pid not in (0, gone.pid) and bool(processes.name_of(now.pid))

        if not await processes.until(is_replaced, self.clock, within_s=BACK_MAX_S):
            raise NotRecovered(f"{gone.name} was not started again", "see what `up` says")
        await self.until_ready(gone.name)
        return self.host(gone.name)

    async def until_ready(self, name: str) -> None:
        """Until `/readyz` of the host is 200."""
        give_up_at = self.clock.monotonic() + BACK_MAX_S
        while not await self.is_ready(self.host(name)):
            if self.clock.monotonic() > give_up_at:
                raise NotRecovered(f"{name} did not get ready in {BACK_MAX_S:g} s", "see its words")
            await asyncio.sleep(processes.LOOK_EVERY_S)

    async def is_ready(self, host: Host) -> bool:
        try:
            async with self.session.get(
                f"{host.base_url}/readyz", timeout=aiohttp.ClientTimeout(total=PROBE_S)
            ) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def until_accepting(self) -> None:
        """Until a create is accepted that was answered from now on."""
        await self.until_accepted(len(self.load.tally.accepted) + 1)

    async def until_accepted(self, count: int) -> None:
        """Until so many creates were accepted since the drill began."""
        accepted = self.load.tally.accepted
        before, give_up_at = -1, 0.0
        while len(accepted) < count:
            if len(accepted) > before:
                before, give_up_at = len(accepted), self.clock.monotonic() + BACK_MAX_S
            if self.clock.monotonic() > give_up_at:
                raise NotRecovered(
                    f"nothing was accepted for {BACK_MAX_S:g} s", "see the hosts' words"
                )
            await asyncio.sleep(processes.LOOK_EVERY_S)

    def host(self, name: str) -> Host:
        return next(each for each in self.cluster.hosts() if each.name == name)


def no_terms(_: Options) -> Terms:
    """Nothing is excused."""
    return Terms()


def links_lost(links: int) -> Callable[[Options], Terms]:
    """So many links to the carrier may be lost with messages under way in their windows."""
    return lambda _: Terms(ambiguous_max=links * WINDOW)


def never_waiting(terms: Callable[[Options], Terms]) -> Callable[[Options], Terms]:
    """The same, of a fault that leaves every host's API in reach: in a cluster no create waits."""

    def waited(options: Options) -> Terms:
        most_ms = WAIT_MAX_MS if options.hosts >= HOSTS_PROMISED_MIN else None
        return replace(terms(options), wait_max_ms=most_ms, gap_max_ms=most_ms)

    return waited


def nothing_needed(_: Options) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One drill: `act` does the harm and undoes it, under load.

    `needs` gives the reason why it cannot be run here, or nothing. `prepare` is called before the
    load begins, with the cluster running. `fault_s` is how long the fault lasts by default.
    """

    name: str
    summary: str
    act: Callable[[Stage], Awaitable[None]]
    hosts_min: int = 1
    is_quick: bool = True
    lengths_s: tuple[float, ...] = ()
    """How long the fault lasts in the full run, one length after the other."""
    is_deep: bool = False
    """It is worth ten seeds rather than three in the full run."""
    before_s: float = 3.0
    after_s: float = 4.0
    fault_s: float = 0.0
    terms: Callable[[Options], Terms] = no_terms
    needs: Callable[[Options], str] = nothing_needed
    prepare: Callable[[Stage], Awaitable[None]] | None = None
    tidy: Callable[[Stage], Awaitable[None]] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    ground: Callable[[Path], AbstractContextManager[None]] | None = None
    """What the hosts' folder stands on, made before they are."""
    is_networked: bool = False
    """Each host runs in a network of its own, which can be cut."""

    def seconds(self, options: Options) -> float:
        return self.fault_s if options.seconds is None else options.seconds


Scenarios = Sequence[Scenario]
