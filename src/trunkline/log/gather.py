"""Keyless creates of the same moment share a register, and with it one flush.

Nobody else knows the SID of a keyless resource, so nobody minds if several of them are one thing to
the protocol: they are appended, fenced and closed together, and only then go their own ways. What
their SIDs begin with names the register. While a few walks are under way, what comes gathers for the
next one; so a quiet host waits for nothing, and the busier one is, the more each flush carries.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from trunkline.log.append import AppendAnswer, Appended, Draft, Uncertain
from trunkline.log.author import Author
from trunkline.log.names import SHARED_DIGITS, Names

WALKS_MAX: Final = 1
"""Walks under way before others gather."""

WALK_EVERY_S: Final = 0.001
"""Between the beginnings of two walks: a create that comes right behind another one joins the next
walk. It is paid only then."""

GATHER_MAX_S: Final = 0.005
"""How long one may be kept waiting by walks under way, which may meet a shard that is silent."""

GATHERED_MAX: Final = 64
GATHERED_BYTES_MAX: Final = 256 * 1024
"""A quarter of what the engine takes in one message; the longest body is a fifth of it."""

_DRAFT_BYTES: Final = 300
"""What an event takes beside its body."""


@dataclass(slots=True, eq=False)
class _Pack:
    """Creates that will be stored together, and who waits for the answer."""

    name: str
    drafts: list[Draft] = field(default_factory=list)
    answers: "list[asyncio.Future[AppendAnswer]]" = field(default_factory=list)
    size_bytes: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.drafts) >= GATHERED_MAX or self.size_bytes >= GATHERED_BYTES_MAX

    def draft(self) -> Draft:
        first, *others = self.drafts
        return msgspec.structs.replace(first, others=tuple(others))

    def settle(self, answer: AppendAnswer) -> None:
        """Tell everybody but the first, who knows."""
        for number, waiting in enumerate(self.answers, start=1):
            if not waiting.done():
                waiting.set_result(share(answer, number))


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a register: the SID of what will stand there. To be taken at once."""

    sid: str
    pack: _Pack
    account: str


class Gatherer:
    """Gathers keyless creates; `walk` stores what was gathered, as `append` does."""

    def __init__(
        self,
        walk: Callable[[Draft], Awaitable[AppendAnswer]],
        *,
        author: Author,
        names: Names,
        walks_max: int = WALKS_MAX,
        walk_every_s: float = WALK_EVERY_S,
    ) -> None:
        self._walk = walk
        self._author = author
        self._names = names
        self._walks_max = walks_max
        self._walk_every_s = walk_every_s
        self._walked_at = float("-inf")
        self._walking = 0
        self._open: dict[str, _Pack] = {}
        self._turns: deque[asyncio.Future[None]] = deque()

    def place(self, prefix: str, account: str) -> Place:
        """Where a new resource of `account` will stand, beside others or alone."""
        pack = self._open.get(account)
        if pack is None:
            pack = _Pack(self._names.next())
            self._open[account] = pack
        own = self._author.entropy(16 - SHARED_DIGITS // 2).hex()
        return Place(prefix + pack.name + own, pack, account)

    async def append(self, place: Place, draft: Draft) -> AppendAnswer:
        """Store `draft`, whose SID is the place's, with whatever else is gathered there."""
        pack = place.pack
        pack.drafts.append(msgspec.structs.replace(draft, name=pack.name))
        pack.size_bytes += len(msgspec.json.encode(draft.body)) + _DRAFT_BYTES
        if pack.is_full:
            self._close(place)
        if len(pack.drafts) == 1:
            return await self._lead(place)
        answer: asyncio.Future[AppendAnswer] = asyncio.get_running_loop().create_future()
        pack.answers.append(answer)
        return await answer

    async def _lead(self, place: Place) -> AppendAnswer:
        """Walk for all that gather; whoever came first does it."""
        answer: AppendAnswer = Uncertain("its walk was given up")
        try:
            await self._gather()
            self._close(place)
            self._walking += 1
            try:
                answer = await self._walk(place.pack.draft())
            finally:
                self._walking -= 1
                self._next()
        finally:
            self._close(place)
            place.pack.settle(answer)
        return share(answer, 0)

    async def _gather(self) -> None:
        """Give others the time to join."""
        clock = self._author.clock
        early_s = self._walked_at + self._walk_every_s - clock.monotonic()
        if early_s > 0.0:
            await clock.sleep(early_s)
        if self._walking >= self._walks_max:
            await self._turn()
        self._walked_at = clock.monotonic()

    def _close(self, place: Place) -> None:
        """Whoever comes now gathers elsewhere."""
        if self._open.get(place.account) is place.pack:
            del self._open[place.account]

    async def _turn(self) -> None:
        """Until a walk ends; but not for long, whatever that walk has met."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._turns.append(turn)
        alarm = loop.call_later(GATHER_MAX_S, _wake, turn)
        try:
            await turn
        finally:
            alarm.cancel()

    def _next(self) -> None:
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return


def share(answer: AppendAnswer, number: int) -> AppendAnswer:
    """What the answer to all is for one of them."""
    if not isinstance(answer, Appended) or not number:
        return answer
    return Appended(answer.others[number - 1], answer.shard, answer.sequence)


def _wake(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)
