"""The model behind `make bench-kernel`: replicas, a load and faults, in virtual time, by seed.

The kernel's own classes make every decision, on both sides; only the work is made up. A client
that gives up does not stop the server: what was begun is done, for nobody, as over a network.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from trunkline.kernel import (
    Admission,
    Admitted,
    Deadline,
    Failed,
    Fault,
    Pool,
    PoolLimits,
    Priority,
    ServerLimits,
    Shed,
    VirtualClock,
    Waiting,
    run_in_virtual_time,
)

REPLICAS: Final = 5
WORKERS: Final = 8
SERVICE_S: Final = 0.02
SERVICE_SHAPE: Final = 4.0
"""Gamma: the 99th percentile is two and a half times the mean."""
FAST_FAILURE_S: Final = 0.001
CLIENTS: Final = 4
REQUEST_DEADLINE_S: Final = 1.0
TRY_TIMEOUT_CAP_S: Final = 0.25
NO_LIMIT: Final = 1_000_000


@dataclass(slots=True)
class Server:
    """One replica: eight workers behind an `Admission`."""

    rng: random.Random
    loop: asyncio.AbstractEventLoop
    admission: Admission
    is_failing: bool = False
    is_frozen: bool = False
    slowness: float = 1.0
    taken: int = 0

    def ask(self, bound_s: float | None) -> asyncio.Future[bool | Shed]:
        """One request, whose caller waits `bound_s`; `None` if it does not say."""
        self.taken += 1
        answer: asyncio.Future[bool | Shed] = self.loop.create_future()
        if self.is_frozen:
            return answer
        if self.is_failing:
            self.loop.call_later(FAST_FAILURE_S, _fail, answer)
            return answer
        now = self.loop.time()
        deadline_at = float("inf") if bound_s is None else now + bound_s
        match self.admission.arrive(Priority.READ, deadline_at=deadline_at, now=now):
            case Admitted():
                self._begin(answer)
            case Waiting() as waiting:
                waiting.on_turn = lambda shed: self._on_turn(answer, shed)
            case Shed() as shed:
                answer.set_result(shed)
        return answer

    def _on_turn(self, answer: asyncio.Future[bool | Shed], shed: Shed | None) -> bool:
        if shed is None:
            self._begin(answer)
        elif not answer.done():
            answer.set_result(shed)
        return True

    def _begin(self, answer: asyncio.Future[bool | Shed]) -> None:
        service_s = self.rng.gammavariate(SERVICE_SHAPE, SERVICE_S / SERVICE_SHAPE)
        self.loop.call_later(service_s * self.slowness, self._end, answer)

    def _end(self, answer: asyncio.Future[bool | Shed]) -> None:
        if self.is_frozen:
            return
        self.admission.leave(now=self.loop.time())
        if not answer.done():
            answer.set_result(True)


def _fail(answer: asyncio.Future[bool | Shed]) -> None:
    if not answer.done():
        answer.set_exception(ConnectionResetError("made to fail"))


@dataclass(frozen=True, slots=True)
class Request:
    """What came of one request."""

    began: float
    took_s: float
    is_success: bool


@dataclass(frozen=True, slots=True)
class Setup:
    """One column of decisions that the experiments compare."""

    name: str
    limits: PoolLimits | None
    """`None`: no pool, each replica in turn, one try."""
    may_hedge: bool = False
    tells_deadline: bool = True
    queue_wait_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class Experiment:
    """A load, and what happens to the replicas when."""

    rps: float
    length_s: float
    fault_from_s: float
    fault_until_s: float
    strike: Callable[[Sequence[Server]], None]
    relieve: Callable[[Sequence[Server]], None]


@dataclass(slots=True)
class Result:
    """What an experiment showed, under one setup."""

    setup: Setup
    experiment: Experiment
    requests: list[Request] = field(default_factory=list)
    tries: int = 0
    tries_at_first: int = 0
    """Of them, those that replica number one got while the fault lasted."""
    tries_in_fault: int = 0
    hedges: int = 0

    def success(self, since_s: float = 0.0, until_s: float = float("inf")) -> float:
        """The share of the requests begun in this time that succeeded."""
        chosen = [each.is_success for each in self.requests if since_s <= each.began < until_s]
        return sum(chosen) / len(chosen) if chosen else 0.0

    def percentile_s(self, share: float) -> float:
        """Of the requests begun since the fault, failed ones included with the time they took."""
        since_s = self.experiment.fault_from_s
        ordered = sorted(each.took_s for each in self.requests if each.began >= since_s)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    def share_at_first(self) -> float:
        return self.tries_at_first / max(1, self.tries_in_fault)

    def tries_per_request(self) -> float:
        return self.tries / len(self.requests)

    def tries_per_request_in_fault(self) -> float:
        """What the servers got while it lasted, beside what was asked for in that time."""
        experiment = self.experiment
        asked = sum(
            experiment.fault_from_s <= each.began < experiment.fault_until_s
            for each in self.requests
        )
        return self.tries_in_fault / max(1, asked)

    def hedges_per_request(self) -> float:
        return self.hedges / len(self.requests)

    def recovery_s(self, bin_s: float = 0.5, success_least: float = 0.99) -> float | None:
        """How long after the fault every half second is good again; `None` if it never is."""
        end_s = self.experiment.fault_until_s
        recovered_s: float | None = None
        for start_s in itertools.takewhile(
            lambda at: at + bin_s <= self.experiment.length_s, itertools.count(end_s, bin_s)
        ):
            if self.success(start_s, start_s + bin_s) < success_least:
                recovered_s = None
            elif recovered_s is None:
                recovered_s = start_s - end_s
        return recovered_s


def run(setup: Setup, experiment: Experiment, *, seed: int) -> Result:
    """The same result for the same seed, every time."""
    return run_in_virtual_time(_run(setup, experiment, seed))


async def _run(setup: Setup, experiment: Experiment, seed: int) -> Result:
    loop = asyncio.get_running_loop()
    bounds = ServerLimits(WORKERS, queue_wait_s=setup.queue_wait_s, queue_max=NO_LIMIT)
    servers = [
        Server(dice(f"{seed} server {number}"), loop, Admission(bounds))
        for number in range(REPLICAS)
    ]
    result = Result(setup, experiment)
    clients = [_client(setup, servers, result, seed, number) for number in range(CLIENTS)]
    taken_before: list[int] = []

    def strike() -> None:
        taken_before.extend(server.taken for server in servers)
        experiment.strike(servers)

    def relieve() -> None:
        taken = [
            server.taken - before for server, before in zip(servers, taken_before, strict=True)
        ]
        result.tries_at_first, result.tries_in_fault = taken[0], sum(taken)
        experiment.relieve(servers)

    loop.call_at(experiment.fault_from_s, strike)
    loop.call_at(experiment.fault_until_s, relieve)
    arrivals = dice(f"{seed} arrivals")
    async with asyncio.TaskGroup() as tasks:
        for number in itertools.count():
            await asyncio.sleep(arrivals.expovariate(experiment.rps))
            if loop.time() >= experiment.length_s:
                break
            tasks.create_task(clients[number % CLIENTS].request())
    result.tries = sum(server.taken for server in servers)
    result.hedges = sum(client.pool.hedges for client in clients if client.pool)
    return result


def dice(seed: str) -> random.Random:
    """Dice that fall the same way each time."""
    return random.Random(seed)  # noqa: S311 - a model must be repeatable, and keeps no secrets


def _client(
    setup: Setup, servers: Sequence[Server], result: Result, seed: int, number: int
) -> "Client":
    clock = VirtualClock()
    rng = dice(f"{seed} client {number}")
    pool = (
        None
        if setup.limits is None
        else Pool(f"client {number}", servers, limits=setup.limits, clock=clock, rng=rng)
    )
    return Client(setup, pool, itertools.cycle(servers), clock, result)


@dataclass(frozen=True, slots=True)
class Client:
    """One process that asks."""

    setup: Setup
    pool: Pool[Server] | None
    in_turn: "itertools.cycle[Server]"
    clock: VirtualClock
    result: Result

    async def request(self) -> None:
        began = self.clock.monotonic()
        deadline = Deadline.after(REQUEST_DEADLINE_S, self.clock)
        if self.pool is None:
            is_success = await self._ask_next(deadline)
        else:
            answer = await self.pool.call(
                self._act,
                deadline=deadline,
                is_repeatable=True,
                may_hedge=self.setup.may_hedge,
                classify=_fault,
            )
            is_success = not isinstance(answer, Failed | Shed)
        self.result.requests.append(Request(began, self.clock.monotonic() - began, is_success))

    def _act(self, server: Server, bound_s: float) -> Awaitable[bool | Shed]:
        return server.ask(bound_s if self.setup.tells_deadline else None)

    async def _ask_next(self, deadline: Deadline) -> bool:
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                return await self._act(next(self.in_turn), deadline.remaining_s()) is True
        except OSError:
            return False


def _fault(answer: bool | Shed) -> Fault | None:
    if isinstance(answer, Shed):
        return Fault(answer.reason.value, retry_after_s=answer.retry_after_s)
    return None
