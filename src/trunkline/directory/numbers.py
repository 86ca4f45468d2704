"""Owning a telephone number: decided in one place, the number's home shard, and never diverted."""

from dataclasses import dataclass
from typing import Final, assert_never

from trunkline.domain.events import Kind, NumberOwned, Type
from trunkline.domain.number import Number, is_e164
from trunkline.kernel import Deadline
from trunkline.log.author import Author
from trunkline.log.chain import Advanced, Overtaken, Stalled, advance
from trunkline.log.event import Event, created_subject, decode
from trunkline.log.interface import Log, Stored, Unreadable
from trunkline.log.shards import home
from trunkline.replica.queries import Replica

ANYBODY: Final = "any"
ASK_TIMEOUT_S: Final = 0.5
SHOWN_MAX_S: Final = 1.0
"""How long an answer waits for this host's copy to show the number."""


@dataclass(frozen=True, slots=True)
class Owned:
    """The account owns the number now; `is_repeat` when it already did under the same SID."""

    number: Number
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """Somebody owns it already."""


@dataclass(frozen=True, slots=True)
class Undecidable:
    """The home shard could not be reached in the deadline. Nothing is known to have changed."""

    reason: str


OwnAnswer = Owned | Taken | Undecidable


class Numbers:
    """Numbers as the API owns them: what was just owned is also seen by the next read here."""

    def __init__(self, log: Log, replica: Replica, *, author: Author) -> None:
        self._log = log
        self._replica = replica
        self._author = author

    async def own(self, account: str, settings: NumberOwned, *, deadline: Deadline) -> OwnAnswer:
        """Make `settings.phone_number` the account's; repeatable with the same `settings.sid`."""
        answer = await own_number(
            self._log, account, settings, author=self._author, deadline=deadline
        )
        if isinstance(answer, Owned):
            shard = home(settings.phone_number, self._log.shards)
            last = await self._log.last_sequence(shard, timeout_s=ASK_TIMEOUT_S)
            if isinstance(last, int):
                shown_by = Deadline.after(SHOWN_MAX_S, self._author.clock)
                await self._replica.wait_until_seen(shard, last, deadline=shown_by)
        return answer


async def own_number(
    log: Log, account: str, settings: NumberOwned, *, author: Author, deadline: Deadline
) -> OwnAnswer:
    """Claim the number's register in its home shard, where nobody else's claim can pass it."""
    shard = home(settings.phone_number, log.shards)
    event = author.event(Kind.NUMBER, Type.ORIGINAL, account, settings.sid, settings)
    subject = _subject(shard, settings.phone_number)
    answer = await advance(
        log, shard, subject, event, expected=0, clock=author.clock, deadline=deadline
    )
    match answer:
        case Advanced():
            return Owned(_number(event, settings))
        case Overtaken(newest=newest):
            standing = decode(newest.payload)
            body = standing.body()
            if standing.sid == settings.sid and isinstance(body, NumberOwned):
                return Owned(_number(standing, body), is_repeat=True)
            return Taken()
        case Stalled(reason=reason):
            return Undecidable(reason)
        case other:
            assert_never(other)


async def find_number(
    log: Log, phone_number: str, *, timeout_s: float
) -> Number | Unreadable | None:
    """The number as the log itself has it; `None` only when surely nobody owns it."""
    if not is_e164(phone_number):
        return None  # carriers may say anything, and a subject has words and wildcards of its own
    shard = home(phone_number, log.shards)
    standing = await log.read_last(shard, _subject(shard, phone_number), timeout_s=timeout_s)
    if not isinstance(standing, Stored):
        return standing
    event = decode(standing.payload)
    body = event.body()
    return _number(event, body) if isinstance(body, NumberOwned) else None


def _subject(shard: int, phone_number: str) -> str:
    """The account is no part of the register's name: it is one register for everybody."""
    return created_subject(shard, Kind.NUMBER, ANYBODY, phone_number.removeprefix("+"))


def _number(event: Event, settings: NumberOwned) -> Number:
    return Number(
        account=event.account, settings=settings, created_at=event.at, updated_at=event.at
    )
