"""The one seam through which remote acts go: replicas, a bound for each try, another replica next.

An act is given a replica and a bound in seconds. It returns its answer, or raises `OSError` or
`TimeoutError`, which is what a pool calls a failure. Only acts that are idempotent or carry a key
may be tried again; all others are tried once and the caller is told that nothing is known.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from trunkline.kernel.backoff import Backoff
from trunkline.kernel.clock import Clock
from trunkline.kernel.deadline import Deadline

Replica = TypeVar("Replica")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The bounds of one pool, in force for every call through it."""

    try_timeout_s: float
    tries_max: int = 3
    backoff_base_s: float = 0.025
    backoff_cap_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Failed:
    """No try gave an answer. `sent` is false when surely nothing left this process."""

    reason: str
    tries: int
    sent: bool


class Pool(Generic[Replica]):
    """Homogeneous replicas of one service, tried in turn from the least recently failed on."""

    def __init__(
        self,
        name: str,
        replicas: Sequence[Replica],
        *,
        limits: PoolLimits,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        if not replicas:
            raise ValueError(f"pool {name!r} has no replicas")
        self.name = name
        self.limits = limits
        self.calls = 0
        self.failures = 0
        self._replicas = tuple(replicas)
        self._failed_at = [float("-inf")] * len(self._replicas)
        self._clock = clock
        self._backoff = Backoff(limits.backoff_base_s, limits.backoff_cap_s, rng)
        self._turn = rng.randrange(len(self._replicas))

    async def call(
        self,
        act: Callable[[Replica, float], Awaitable[Answer]],
        *,
        deadline: Deadline,
        is_repeatable: bool,
    ) -> Answer | Failed:
        """Run `act` until it answers; `Failed` after the last try or past the deadline."""
        self.calls += 1
        tries_max = self.limits.tries_max if is_repeatable else 1
        reason = "the deadline had passed before the first try"
        tries = 0
        while tries < tries_max and not deadline.has_passed():
            if tries:
                await self._clock.sleep(
                    min(self._backoff.delay_s(tries - 1), deadline.remaining_s())
                )
                if deadline.has_passed():
                    break
            index = self._pick()
            bound_s = min(self.limits.try_timeout_s, deadline.remaining_s())
            tries += 1
            try:
                async with asyncio.timeout(bound_s):
                    return await act(self._replicas[index], bound_s)
            except TimeoutError:
                reason = f"no answer in {bound_s:.3g} s"
            except OSError as error:
                reason = f"{type(error).__name__}: {error}"
            self.failures += 1
            self._failed_at[index] = self._clock.monotonic()
        return Failed(reason, tries, sent=tries > 0)

    def _pick(self) -> int:
        count = len(self._replicas)
        self._turn = (self._turn + 1) % count
        order = ((self._turn + step) % count for step in range(count))
        return min(order, key=self._failed_at.__getitem__)
