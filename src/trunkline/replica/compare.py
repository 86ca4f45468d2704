"""The service `comparison`: copies of two hosts are held against each other, and ours is mended.

Every part of the finished messages comes round once a day or oftener. Where the hashes differ, the
records are fetched and merged into ours; what a peer lacks, it finds out itself. Nothing waits for it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from trunkline.domain.message import Message, merge
from trunkline.domain.sid import digits_of
from trunkline.kernel import Clock, Deadline
from trunkline.replica.digest import DIGITS, digest_of, records_named
from trunkline.replica.peers import RECORDS_AT_ONCE_MAX, NotGiven, Part, Peers

PREFIX_DIGITS: Final = 3
"""4,096 parts: of ten million messages, 2,400 in each."""

PASS_S: Final = 6 * 3600.0
"""One walk over all parts: one part every five seconds."""

QUIET_S: Final = 600.0
"""How long nothing may have been heard of a message: longer than any copy may lag and serve."""

LAG_MAX_MS: Final = 60_000.0
ASK_TIMEOUT_S: Final = 30.0
DEPTH_MAX: Final = 8
"""Digits of a prefix at most: with more than 64 messages behind one, something else is wrong."""

DISPUTED_MAX: Final = 1_000
"""Disputed messages that are told of once each; then no more are."""

MARGIN_S: Final = 2 * 86_400.0
"""What is about to be forgotten is not compared: one host may have forgotten it a day before."""

log: Final = structlog.get_logger(__name__)


class Counter(Protocol):
    """Something that counts; a metric does."""

    def inc(self, amount: float = 1.0) -> None: ...


@dataclass(frozen=True, slots=True)
class Counters:
    """Parts that were compared, and records of ours that were mended."""

    parts: Counter
    repairs: Counter


Mend = Callable[[Sequence[Message]], Awaitable[None]]
"""Have these merged into the copy by whoever writes it."""


class Comparison:
    """Use as a support: `run` until cancelled."""

    def __init__(  # noqa: PLR0913 - each is a part that the composition root names
        self,
        copy: Path,
        peers: Peers,
        mend: Mend,
        lag_ms: Callable[[], float],
        *,
        counters: Counters,
        keep_s: float | None,
        clock: Clock,
        rng: random.Random,
        pass_s: float = PASS_S,
    ) -> None:
        self._copy = copy
        self._peers = peers
        self._mend = mend
        self._lag_ms = lag_ms
        self._counters = counters
        self._keep_s = keep_s
        self._clock = clock
        self._rng = rng
        self._pause_s = pass_s / len(DIGITS) ** PREFIX_DIGITS
        self._disputed: set[str] = set()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="comparison")

    async def run(self) -> None:
        """Until cancelled. A fault of ours ends the look at one part, and nothing else."""
        parts = len(DIGITS) ** PREFIX_DIGITS
        # Hosts begin at different places, or all would ask at once for the same.
        number = self._rng.randrange(parts)
        try:
            while True:
                await self._clock.sleep(self._pause_s)
                number = (number + 1) % parts
                try:
                    await self.once(f"{number:0{PREFIX_DIGITS}x}")
                except Exception:
                    # Nobody waits for it, and the services must not end because of it.
                    log.exception("comparison.failed")
        finally:
            self.close()

    def close(self) -> None:
        """End its thread, when what is under way there has ended."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def once(self, prefix: str) -> int:
        """Compare what begins with `prefix` with one peer; how many records of ours were mended."""
        urls = self._peers.urls()
        if not urls or self._lag_ms() > LAG_MAX_MS:
            return 0
        now = self._clock.wall()
        since = 0.0 if self._keep_s is None else now - self._keep_s + MARGIN_S
        peer = self._rng.choice(tuple(urls))
        return await self._compare(peer, Part(prefix, since, now - QUIET_S))

    async def _compare(self, peer: str, part: Part) -> int:
        deadline = Deadline.after(ASK_TIMEOUT_S, self._clock)
        theirs = await self._peers.digest(peer, part, deadline=deadline)
        if isinstance(theirs, NotGiven) or theirs.lag_ms is None or theirs.lag_ms > LAG_MAX_MS:
            return 0
        ours = await asyncio.get_running_loop().run_in_executor(
            self._thread, digest_of, self._copy, part
        )
        self._counters.parts.inc()
        if ours.sha256 == theirs.sha256 or not theirs.records:
            return 0
        if max(ours.records, theirs.records) <= RECORDS_AT_ONCE_MAX:
            return await self._repair(peer, part)
        if len(part.prefix) >= DEPTH_MAX:
            return 0
        mended = 0
        for digit in DIGITS:
            below = msgspec.structs.replace(part, prefix=part.prefix + digit)
            mended += await self._compare(peer, below)
        return mended

    async def _repair(self, peer: str, part: Part) -> int:
        """Merge what the peer has and we have not."""
        deadline = Deadline.after(ASK_TIMEOUT_S, self._clock)
        theirs = await self._peers.records(peer, part, deadline=deadline)
        if isinstance(theirs, NotGiven):
            return 0
        ours = await asyncio.get_running_loop().run_in_executor(
            self._thread, records_named, self._copy, [digits_of(their.sid) for their in theirs]
        )
        mended = []
        for their in theirs:
            our = ours.get(digits_of(their.sid))
            merged = their if our is None else merge(our, their)
            if merged != our:
                mended.append(their)
                what = "was missing" if our is None else "knew less"
                log.warning("replica.repaired", sid=their.sid, peer=peer, what=what)
            elif our != their and merge(their, our) == their:
                self._dispute(their.sid, peer)
        if mended:
            await self._mend(mended)
            self._counters.repairs.inc(len(mended))
        return len(mended)

    def _dispute(self, sid: str, peer: str) -> None:
        """Both say the same has happened and mean different things: one of the two is spoilt, and
        merging cannot say which."""
        if sid not in self._disputed and len(self._disputed) < DISPUTED_MAX:
            self._disputed.add(sid)
            log.error("replica.disputed", sid=sid, peer=peer)
