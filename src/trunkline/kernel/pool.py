"""The one seam through which remote acts go: replicas, a bound for each try, another replica next.

An act is given a replica and a bound in seconds. It returns its answer, or raises `OSError` or
`TimeoutError`, which is what a pool calls a failure; anything else it raises is a bug and passes
through. Only acts that are idempotent or carry a key may be tried again; all others are tried once
and the caller is told that nothing is known.
"""

import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from trunkline.kernel import outermost
from trunkline.kernel.alarms import Alarms, Bound
from trunkline.kernel.backoff import Backoff
from trunkline.kernel.budget import HEDGE_BUDGET, RETRY_BUDGET, Budget, BudgetLimits
from trunkline.kernel.clock import Clock
from trunkline.kernel.deadline import Deadline
from trunkline.kernel.ejection import (
    EJECTION,
    Ejection,
    EjectionLimits,
    Health,
    Standing,
    ejections_count,
)
from trunkline.kernel.hedge import hedge_delay_s, race
from trunkline.kernel.latency import (
    CENSORED_FACTOR,
    TRY_TIMEOUT_FLOOR_S,
    PeakEwma,
    RecentLatencies,
    failure_cost_s,
    try_timeout_s,
)

Replica = TypeVar("Replica")
Answer = TypeVar("Answer")

OVERTAKEN: Final = "another replica, asked later, answered first"

LATENCY_LEAST_S: Final = 0.0001
"""Below a tenth of a millisecond, what is under way tells more about a replica than latency."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The bounds of one pool, in force for every call through it.

    A try's bound is either fixed, `try_timeout_s`, or follows what was observed, up to
    `try_timeout_cap_s`. Fixed is for peers who may be slow today though they were fast yesterday.
    """

    try_timeout_s: float | None = None
    try_timeout_cap_s: float | None = None
    tries_max: int = 3
    backoff_base_s: float = 0.025
    backoff_cap_s: float = 1.0
    retry_budget: BudgetLimits = RETRY_BUDGET
    hedge_budget: BudgetLimits = HEDGE_BUDGET
    ejection: EjectionLimits = EJECTION

    def __post_init__(self) -> None:
        if (self.try_timeout_s is None) == (self.try_timeout_cap_s is None):
            raise ValueError("give a pool either try_timeout_s or try_timeout_cap_s")
        if self.tries_max < 1:
            raise ValueError("a pool must be allowed one try at least")


@dataclass(frozen=True, slots=True)
class Failed:
    """No try gave an answer. `sent` is false when surely nothing left this process."""

    reason: str
    tries: int
    sent: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """What `classify` makes of an answer that speaks against the replica: a 503, say.

    `retry_after_s` is how long the replica asked to be left alone.
    """

    reason: str
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Out(Generic[Replica]):
    """A replica that is out of rotation: for how long already, and in how many seconds it is probed; 0
    where its probe is due or under way. `is_ignored` where so many are out that it is asked all the same."""

    replica: Replica
    ejection: Ejection
    out_for_s: float
    probed_in_s: float
    is_ignored: bool


@dataclass(frozen=True, slots=True)
class _Lost(Generic[Answer]):
    """A try that is worth another one. `answers` holds the answer, if there was one, faulty."""

    reason: str
    answers: tuple[Answer, ...] = ()

    def told(self, *, tries: int) -> Answer | Failed:
        """What the caller gets when there is no further try."""
        return self.answers[0] if self.answers else Failed(self.reason, tries, sent=True)


class _Member(Generic[Replica]):
    """A replica, what the pool thinks of it, and when each try under way there began."""

    __slots__ = ("cost", "health", "replica", "under_way")

    def __init__(self, replica: Replica, cost: PeakEwma, health: Health) -> None:
        self.replica = replica
        self.cost = cost
        self.health = health
        self.under_way: dict[Bound, float] = {}

    def load(self, now: float) -> float:
        cost_s = self.cost.cost_s(now)
        for oldest in self.under_way.values():
            # A try that is not answered yet took so long already: who waits for the bound to learn
            # that a replica hangs sends it half as many again.
            cost_s = max(cost_s, now - oldest)
            break
        return (cost_s + LATENCY_LEAST_S) * (len(self.under_way) + 1)


@dataclass(frozen=True, slots=True)
class _Act(Generic[Replica, Answer]):
    """One call: what to do, until when, and what to think of an answer."""

    do: Callable[[Replica, float], Awaitable[Answer]]
    deadline: Deadline
    classify: Callable[[Answer], Fault | None] | None


class Pool(Generic[Replica]):
    """Homogeneous replicas of one service, of which each will do.

    Two are drawn and the less loaded one is asked. Everything the pool counts is a plain integer
    that only grows: `calls`; `failures`, tries without a good answer, of which `timeouts` ran into
    their bound; `retries`; `hedges`, of which `hedges_won` answered first; `unaffordable`, retries
    and hedges for which there was no budget; `ejections` of replicas, failed probes included.
    """

    def __init__(
        self,
        name: str,
        replicas: Sequence[Replica],
        *,
        limits: PoolLimits,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.name = name
        self.limits = limits
        self.calls = 0
        self.failures = 0
        self.timeouts = 0
        self.retries = 0
        self.hedges = 0
        self.hedges_won = 0
        self.unaffordable = 0
        self.ejections = 0
        self._clock = clock
        self._rng = rng
        self._backoff = Backoff(limits.backoff_base_s, limits.backoff_cap_s, rng)
        self._retry_budget = Budget(limits.retry_budget)
        self._hedge_budget = Budget(limits.hedge_budget)
        self._recent = RecentLatencies()
        self._alarms = Alarms()
        self._members: tuple[_Member[Replica], ...] = ()
        self.replace(replicas)

    def replace(self, replicas: Sequence[Replica]) -> None:
        """From now on these are the replicas. Those that were already there keep their record; a
        new one starts at the median, neither shunned nor flooded."""
        if not replicas:
            raise ValueError(f"pool {self.name!r} has no replicas")
        now = self._clock.monotonic()
        known = self._members
        costs_s = sorted(member.cost.cost_s(now) for member in known) or [0.0]
        usual_s = costs_s[len(costs_s) // 2]

        def member_of(replica: Replica) -> _Member[Replica]:
            for member in known:
                if member.replica == replica:
                    return member
            health = Health(self.limits.ejection, self._rng)
            return _Member(replica, PeakEwma(usual_s, now=now), health)

        self._members = tuple(map(member_of, replicas))

    @property
    def size(self) -> int:
        """How many replicas it has."""
        return len(self._members)

    def out(self) -> Iterable[Out[Replica]]:
        """The replicas that are out of rotation, and why."""
        now = self._clock.monotonic()
        is_ignored = not ejections_count([member.health for member in self._members])
        for member in self._members:
            ejection = member.health.ejection
            if ejection is not None:
                left_s = max(0.0, ejection.until - now)
                yield Out(member.replica, ejection, now - ejection.since, left_s, is_ignored)

    async def call(
        self,
        act: Callable[[Replica, float], Awaitable[Answer]],
        *,
        deadline: Deadline,
        is_repeatable: bool,
        may_hedge: bool = False,
        classify: Callable[[Answer], Fault | None] | None = None,
    ) -> Answer | Failed:
        """Run `act` until it answers; `Failed` after the last try, past the deadline, or when there
        is no budget for another try.

        `classify` may find fault with an answer. It then counts as a failure and is retried as one;
        if nothing better comes, the caller gets the faulty answer itself.
        """
        if may_hedge and not is_repeatable:
            raise ValueError("an act that may be hedged must be repeatable")
        self.calls += 1
        left_s = deadline.remaining_s()
        if left_s <= 0.0:
            return Failed("the deadline had passed before the first try", 0, sent=False)
        call = _Act(act, deadline, classify)
        if is_repeatable and self.limits.tries_max > 1 and not outermost.is_retried_above():
            token = outermost.enter()
            try:
                return await self._call_repeatedly(call, may_hedge=may_hedge)
            finally:
                outermost.leave(token)
        outcome = await self._try(call, self._pick(()), left_s)
        return outcome.told(tries=1) if isinstance(outcome, _Lost) else outcome

    async def _call_repeatedly(
        self, call: _Act[Replica, Answer], *, may_hedge: bool
    ) -> Answer | Failed:
        now = self._clock.monotonic()
        self._retry_budget.deposit(now)
        tried: list[_Member[Replica]] = []
        while True:
            member = self._pick(tried)
            tried.append(member)
            if may_hedge and len(tried) == 1:
                outcome = await self._try_hedged(call, member, tried)
            else:
                outcome = await self._try(call, member, call.deadline.remaining_s())
            if not isinstance(outcome, _Lost):
                return outcome
            if not await self._may_try_again(call, len(tried)):
                return outcome.told(tries=len(tried))

    async def _may_try_again(self, call: _Act[Replica, Answer], tries: int) -> bool:
        """Wait for the next try's turn. False if there is none, by count, time or budget."""
        if tries >= self.limits.tries_max:
            return False
        delay_s = self._backoff.delay_s(tries - 1)
        if delay_s >= call.deadline.remaining_s():
            return False
        if not self._retry_budget.withdraw(self._clock.monotonic()):
            self.unaffordable += 1
            return False
        self.retries += 1
        await self._clock.sleep(delay_s)
        return not call.deadline.has_passed()

    async def _try_hedged(
        self,
        call: _Act[Replica, Answer],
        first: _Member[Replica],
        tried: list[_Member[Replica]],
    ) -> Answer | _Lost[Answer]:
        """One try, and a second one on another replica if the first takes long. `tried` grows by
        the second."""
        began = self._clock.monotonic()
        self._hedge_budget.deposit(began)
        delay_s = hedge_delay_s(self._recent)
        if delay_s is None or len(self._members) == 1:
            return await self._try(call, first, call.deadline.remaining_s())

        def second() -> Awaitable[Answer | _Lost[Answer]]:
            tried.append(self._pick(tried))
            return self._try(call, tried[-1], call.deadline.remaining_s())

        raced = await race(
            lambda: self._try(call, first, call.deadline.remaining_s()),
            second,
            delay_s=delay_s,
            may_start=self._may_hedge_now,
            is_good=lambda outcome: not isinstance(outcome, _Lost),
            alarms=self._alarms,
        )
        if raced.is_overtaken:
            self.hedges_won += 1
            self._record_overtaken(first, began, self._clock.monotonic())
        return raced.outcome

    def _may_hedge_now(self) -> bool:
        if not self._hedge_budget.withdraw(self._clock.monotonic()):
            self.unaffordable += 1
            return False
        self.hedges += 1
        return True

    async def _try(
        self, call: _Act[Replica, Answer], member: _Member[Replica], left_s: float
    ) -> Answer | _Lost[Answer]:
        """One try, within the bound of tries and `left_s`, and what it says about the replica."""
        usual_s = self._bound_s()
        bound_s = min(usual_s, left_s)
        began = self._clock.monotonic()
        bound = Bound(self._alarms, bound_s)
        member.under_way[bound] = began
        is_told = False
        try:
            with bound:
                answer = await call.do(member.replica, bound_s)
            now = self._clock.monotonic()
            if call.classify is not None and (fault := call.classify(answer)) is not None:
                self._record_failure(
                    member, began, now, error=fault.reason, retry_after_s=fault.retry_after_s
                )
                is_told = True
                return _Lost(fault.reason, (answer,))
            self._record_success(member, began, now)
            is_told = True
            return answer
        except OSError as error:
            now = self._clock.monotonic()
            if bound.has_expired:
                self.failures += 1
                self.timeouts += 1
                reason = f"no answer in {bound_s:.3g} s"
                # Who had less time left than any try is given has learnt nothing of the replica.
                if bound_s >= min(usual_s, TRY_TIMEOUT_FLOOR_S):
                    is_told = True
                    self._record_timeout(member, began, now, error=reason)
                return _Lost(reason)
            is_told = True
            reason = f"{type(error).__name__}: {error}"
            self._record_failure(member, began, now, error=reason)
            return _Lost(reason)
        finally:
            del member.under_way[bound]
            if not is_told:
                member.health.abandon(began=began)

    def _bound_s(self) -> float:
        fixed_s = self.limits.try_timeout_s
        if fixed_s is not None:
            return fixed_s
        cap_s = self.limits.try_timeout_cap_s
        return try_timeout_s(self._recent, cap_s if cap_s is not None else float("inf"))

    def _pick(self, tried: Sequence[_Member[Replica]]) -> _Member[Replica]:
        """Of two drawn at random the less loaded one; not one of `tried` while there is another."""
        members: Sequence[_Member[Replica]] = self._members
        if len(members) == 1:
            return members[0]
        now = self._clock.monotonic()
        if not all([member.health.is_in for member in members]):  # noqa: C419 - a list is faster
            members, due = self._in_rotation(now)
            for member in due:
                if member not in tried:
                    member.health.probe(now)
                    return member
        if tried:
            members = (
                [member for member in members if member not in tried]
                or [member for member in self._members if member not in tried]
                or members
            )
        return self._less_loaded(members, now)

    def _in_rotation(
        self, now: float
    ) -> tuple[Sequence[_Member[Replica]], Sequence[_Member[Replica]]]:
        """Those that are not ejected, and those that one call should probe."""
        members = self._members
        if not ejections_count([member.health for member in members]):
            return members, ()
        standings = [(member, member.health.standing(now)) for member in members]
        return (
            [member for member, standing in standings if standing is Standing.IN],
            [member for member, standing in standings if standing is Standing.DUE],
        )

    def _less_loaded(self, members: Sequence[_Member[Replica]], now: float) -> _Member[Replica]:
        count = len(members)
        if count == 1:
            return members[0]
        one = int(self._rng.random() * count)
        other = int(self._rng.random() * (count - 1))
        first, second = members[one], members[other + (other >= one)]
        return first if first.load(now) <= second.load(now) else second

    def _record_success(self, member: _Member[Replica], began: float, now: float) -> None:
        self._recent.record(now - began)
        if len(self._members) > 1:
            member.cost.observe(now - began, now)
            member.health.succeed(began=began, now=now)

    def _record_failure(
        self,
        member: _Member[Replica],
        began: float,
        now: float,
        *,
        error: str,
        retry_after_s: float = 0.0,
    ) -> None:
        # A failure says nothing about how long answers take, so the bound of tries ignores it.
        self.failures += 1
        if len(self._members) > 1:
            member.cost.observe(failure_cost_s(now - began, retry_after_s), now)
            self.ejections += member.health.fail(began=began, now=now, error=error)

    def _record_timeout(
        self, member: _Member[Replica], began: float, now: float, *, error: str
    ) -> None:
        censored_s = CENSORED_FACTOR * (now - began)
        self._recent.record(censored_s)
        if len(self._members) > 1:
            member.cost.observe(failure_cost_s(censored_s), now)
            self.ejections += member.health.fail(began=began, now=now, error=error)

    def _record_overtaken(self, member: _Member[Replica], began: float, now: float) -> None:
        """A try was given up because its hedge had answered. Once, that befalls every replica one
        time in twenty; twice in a row is a failure."""
        censored_s = CENSORED_FACTOR * (now - began)
        self._recent.record(censored_s)
        self.ejections += member.health.fail(began=began, now=now, error=OVERTAKEN)
        is_failure = member.health.in_a_row > 1
        member.cost.observe(failure_cost_s(censored_s) if is_failure else censored_s, now)

    def __repr__(self) -> str:
        out = sum(not member.health.is_in for member in self._members)
        under_way = sum(len(member.under_way) for member in self._members)
        return (
            f"<Pool {self.name!r}: {len(self._members)} replicas, {out} ejected, "
            f"{under_way} under way; {self.calls} calls, {self.failures} failures "
            f"({self.timeouts} timeouts), {self.retries} retries, {self.hedges} hedges "
            f"({self.hedges_won} won), {self.unaffordable} unaffordable; "
            f"a try may take {self._bound_s():.3g} s>"
        )
