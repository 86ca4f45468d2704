"""Asks the cluster: one host after another, until one answers, the deadline passes or the program is gone.

A round is what the pool does: up to three tries on different hosts, each within its bound. Between
rounds there is a pause, as long as the hosts asked for or longer each time, because what every host
refuses now (a log without a leader, hosts that restart) passes in seconds.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from trunkline.kernel import (
    DEADLINE_HEADER,
    Backoff,
    Budget,
    BudgetLimits,
    Clock,
    Deadline,
    Failed,
    Fault,
    Pool,
    PoolLimits,
)
from trunkline.redirect.asked import Asked, Replied, Unsent
from trunkline.redirect.repeats import Repeats, keyed, repeats_of

REQUEST_DEADLINE_S: Final = 25.0
"""The Node SDK gives up after 30 s, and a program should hear why before that."""

TRY_TIMEOUT_S: Final = 3.0
"""A host that is well answers a create in some milliseconds, and a loaded one within a second."""

ROUND_PAUSE_S: Final = 0.25
ROUND_PAUSE_CAP_S: Final = 2.0
ROUND_BUDGET: Final = BudgetLimits(ratio=1.0, per_s=5.0)
"""Further rounds, in ten seconds, while nobody is answered. Without budget a request waits for its turn
until its deadline: the program is told no sooner than it must be, and an outage is not stormed."""

UNSENT_ROUNDS_MAX: Final = 8
"""How often what may not be repeated is tried while it never left."""

_FAULTY: Final = frozenset({502, 503, 504})
_LIMITS: Final = PoolLimits(try_timeout_s=TRY_TIMEOUT_S, tries_max=3)


class Wire(Protocol):
    """Sends one request to one host. Raises `Unsent`, or another `OSError` when the host may have it."""

    async def send(self, host: str, asked: Asked, *, bound_s: float) -> Replied: ...


@dataclass(frozen=True, slots=True)
class NotAnswered:
    """No host answered. `is_unsent` where surely none has seen the request."""

    reason: str
    is_unsent: bool


@dataclass(slots=True)
class _Tries:
    """What became of the tries of one request: of how many the outcome is unknown."""

    asked: Asked
    unknown: int = 0


@dataclass(slots=True)
class Counts:
    """Of requests that were answered, and those that were not; they only grow."""

    answered: int = 0
    unanswered: int = 0
    rounds: int = field(default=0)


class Cluster:
    """The hosts. Any number of requests may be under way at once."""

    def __init__(
        self, hosts: Sequence[str], wire: Wire, *, clock: Clock, rng: random.Random
    ) -> None:
        self.counts = Counts()
        self.pool: Pool[str] = Pool("hosts", hosts, limits=_LIMITS, clock=clock, rng=rng)
        self._wire = wire
        self._clock = clock
        self._pause = Backoff(ROUND_PAUSE_S, ROUND_PAUSE_CAP_S, rng)
        self._budget = Budget(ROUND_BUDGET)
        self._answered_at = float("-inf")

    async def ask(self, asked: Asked, *, deadline: Deadline) -> Replied | NotAnswered:
        """The best answer there was by the deadline. Never raises for what hosts and networks do."""
        repeats = repeats_of(asked.method, asked.path)
        tries = _Tries(keyed(asked) if repeats is Repeats.WITH_KEY else asked)
        self._budget.deposit(self._clock.monotonic())
        attempt = 0
        while True:
            answer = await self._round(tries, repeats, deadline)
            if not _is_worth_another(answer, tries, repeats, attempt):
                break
            if not await self._may_go_on(answer, asked, attempt, deadline):
                break
            attempt += 1
        if isinstance(answer, Failed):
            self.counts.unanswered += 1
            return NotAnswered(answer.reason, is_unsent=not tries.unknown)
        self.counts.answered += 1
        if answer.status not in _FAULTY:
            self._answered_at = self._clock.monotonic()
        if asked.method == "DELETE" and answer.status == 404 and tries.unknown:
            # It was there until one of the tries that were not answered: that one deleted it.
            return Replied(204, "No Content", headers=_without_content(answer))
        return answer

    async def _round(self, tries: _Tries, repeats: Repeats, deadline: Deadline) -> Replied | Failed:
        async def act(host: str, bound_s: float) -> Replied:
            sent = _with_deadline(tries.asked, bound_s)
            is_known = False
            try:
                answer = await self._wire.send(host, sent, bound_s=bound_s)
                is_known = answer.status not in _FAULTY
                return answer
            except Unsent:
                is_known = True
                raise
            finally:
                tries.unknown += not is_known

        return await self.pool.call(
            act,
            deadline=deadline,
            is_repeatable=repeats is not Repeats.IF_UNSENT,
            classify=_fault_of,
        )

    async def _may_go_on(
        self, answer: Replied | Failed, asked: Asked, attempt: int, deadline: Deadline
    ) -> bool:
        """Wait for the next round's turn. False if nobody waits for it any more."""
        failed_at = self._clock.monotonic()
        pause_s = self._pause.delay_s(attempt)
        if isinstance(answer, Replied):
            pause_s += _retry_after_s(answer)
        while pause_s < deadline.remaining_s():
            await self._clock.sleep(pause_s)
            if asked.has_gone():
                return False
            # Once any request is answered again, those that waited need not wait for a turn.
            if self._answered_at > failed_at or self._budget.withdraw(self._clock.monotonic()):
                self.counts.rounds += 1
                return True
            pause_s = self._pause.delay_s(attempt) + ROUND_PAUSE_S
        return False


def _is_worth_another(
    answer: Replied | Failed, tries: _Tries, repeats: Repeats, attempt: int
) -> bool:
    if isinstance(answer, Replied) and answer.status == 429:
        return True  # it says that nothing was done
    if isinstance(answer, Replied) and answer.status not in _FAULTY:
        return False
    if repeats is Repeats.IF_UNSENT:
        return not tries.unknown and attempt < UNSENT_ROUNDS_MAX
    return True


def _fault_of(answer: Replied) -> Fault | None:
    if answer.status not in _FAULTY:
        return None
    return Fault(f"answered {answer.status}", _retry_after_s(answer))


def _retry_after_s(answer: Replied) -> float:
    """Seconds; the other form, a date, is no host's of ours, and counts as none."""
    text = answer.header(b"retry-after") or b""
    return float(int(text)) if text.isdigit() and len(text) < 6 else 0.0


def _with_deadline(asked: Asked, bound_s: float) -> Asked:
    name = DEADLINE_HEADER.encode()
    if any(known.lower() == name.lower() for known, _ in asked.headers):
        return asked
    return asked.with_header(name, str(int(bound_s * 1000.0)).encode())


def _without_content(answer: Replied) -> tuple[tuple[bytes, bytes], ...]:
    content = (b"content-type", b"content-length", b"transfer-encoding")
    return tuple(each for each in answer.headers if each[0].lower() not in content)


async def reachable(cluster_hosts: Sequence[str], wire: Wire, *, bound_s: float) -> dict[str, str]:
    """Why each host that does not answer does not; a host that is not ready answers too."""
    failed: dict[str, str] = {}

    async def look(host: str) -> None:
        try:
            async with asyncio.timeout(bound_s):
                await wire.send(host, Asked("GET", "/healthz"), bound_s=bound_s)
        except OSError as error:
            failed[host] = str(error) or f"no answer in {bound_s:g} s"

    async with asyncio.TaskGroup() as looks:
        for host in cluster_hosts:
            looks.create_task(look(host))
    return failed
