"""Append: put a new resource into the first shard of its order that takes it.

The walk goes strictly forward, once. A keyed original carries only its position: it stands behind
every earlier shard of its order, whatever its host saw. A keyless one names the shards that did not
give a sure answer. If no shard took it and some did not answer, those are asked again with the very
same bytes, which a register cannot tell from a slow network: it is how a create outlives a restart
of the engine. Counter-examples for every shortcut are in docs/design/append.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

import msgspec

from trunkline.domain.events import Body, Kind, Type
from trunkline.domain.sid import digits_of
from trunkline.kernel import Clock
from trunkline.log.author import Author
from trunkline.log.clock_check import Stopwatch, can_be_trusted
from trunkline.log.event import Event, UnreadableEvent, created_subject, decode, encode_all
from trunkline.log.interface import (
    Accepted,
    Exists,
    Log,
    Refused,
    Stored,
    Undecided,
    Unknown,
)
from trunkline.log.limits import (
    ANSWER_MAX_S,
    EJECTED_S,
    LATE_MAX_S,
    RETRY_PAUSE_S,
    SETTLE_MAX_S,
    TRY_TIMEOUT_S,
)
from trunkline.log.shards import order

NEARLY_FULL: Final = "the log is nearly full"
CLOCK_OFF: Final = "this host's clock and the log's are too far apart"


class Draft(msgspec.Struct, frozen=True):
    """A resource to be created; and `others` of its account, keyless as it is, in the same register.
    `name` names the register where that is not the SID's digits."""

    kind: Kind
    sid: str
    account: str
    body: Body
    is_keyed: bool
    name: str = ""
    others: "tuple[Draft, ...]" = ()

    @property
    def register(self) -> str:
        return self.name or digits_of(self.sid)


class Appended(msgspec.Struct, frozen=True):
    """It is stored and flushed; `event` is the stored original, and `others` are those beside it."""

    event: Event
    shard: int
    sequence: int
    others: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The key already names this original; whether it is the same request is for the caller."""

    event: Event


@dataclass(frozen=True, slots=True)
class NotStored:
    """Surely nowhere."""

    reason: str


@dataclass(frozen=True, slots=True)
class Uncertain:
    """It may be stored, or was stored too late to be answered."""

    reason: str


AppendAnswer = Appended | Found | NotStored | Uncertain


@dataclass(slots=True)
class ShardHealth:
    """Which shards new creates pass over for the moment, because they did not answer."""

    clock: Clock
    _until: dict[int, float] = field(default_factory=dict)

    def eject(self, shard: int) -> None:
        self._until[shard] = self.clock.monotonic() + EJECTED_S

    def is_ejected(self, shard: int) -> bool:
        until = self._until.get(shard)
        return until is not None and self.clock.monotonic() < until

    def passable(self, shards: Iterable[int]) -> list[int]:
        """Those of `shards` that are not ejected."""
        if not self._until:  # nearly always: no shard has ever failed to answer
            return list(shards)
        return [shard for shard in shards if not self.is_ejected(shard)]


async def append(
    log: Log, draft: Draft, *, author: Author, health: ShardHealth, at: float | None = None
) -> AppendAnswer:
    """Store `draft`, walking the shards of its order; see the module for the rules.

    `at` is when the caller asked the copy whether it has the resource already, and so the time of
    the original: if this task is frozen in between for so long that the resource could be finished
    and trimmed meanwhile, what it then stores is late. Without it, the time is now.
    """
    clock = author.clock
    watch = Stopwatch(clock)
    waited_s = 0.0 if at is None else abs(clock.wall() - at)
    if waited_s >= ANSWER_MAX_S:
        # Stored now, it would count as late, or nearly so: never to be sent, and answered 201.
        return NotStored("it waited too long before it could be stored")
    answer_until = clock.monotonic() + ANSWER_MAX_S - waited_s
    walked = await _walk(log, draft, author=author, health=health, at=at)
    if isinstance(walked, tuple):
        until = min(answer_until, clock.monotonic() + SETTLE_MAX_S)
        walked = await _settle(log, walked, clock=clock, until=until)
    if isinstance(walked, Appended) and clock.monotonic() >= answer_until:
        return Uncertain("stored, but too late to be answered")
    if isinstance(walked, Appended) and not can_be_trusted(watch.stepped_s()):
        # Its own time is from before the step, and the time of storing may be from after it: it may
        # count as late, and then it is never sent.
        return Uncertain("the clock was set while it was stored")
    return walked


@dataclass(frozen=True, slots=True)
class _Try:
    """What was published where, without a sure answer."""

    shard: int
    subject: str
    events: tuple[Event, ...]
    payload: bytes
    reason: str

    def stored_at(self, sequence: int) -> Appended:
        return Appended(self.events[0], self.shard, sequence, self.events[1:])


async def _walk(
    log: Log, draft: Draft, *, author: Author, health: ShardHealth, at: float | None
) -> AppendAnswer | tuple[_Try, ...]:
    """One walk; the tries of unknown outcome if nothing better came of it."""
    name = draft.register
    walk = order(name, log.shards)
    written = [
        author.event(draft.kind, Type.ORIGINAL, draft.account, each.sid, each.body)
        for each in (draft, *draft.others)
    ]
    if at is not None:
        written = [msgspec.structs.replace(event, at=at) for event in written]
    tries: list[_Try] = []
    refusal: str | None = None
    for position, shard in _healthy(log, health, walk):
        prior = None if draft.is_keyed else tuple(each.shard for each in tries)
        events = tuple(
            msgspec.structs.replace(event, position=position, prior=prior) for event in written
        )
        payload = encode_all(events)
        subject = created_subject(shard, draft.kind, draft.account, name)
        wait_s = min(TRY_TIMEOUT_S, log.try_timeout_s)
        answer = await log.publish(shard, subject, payload, expected=0, timeout_s=wait_s)
        match answer:
            case Accepted(sequence=sequence):
                return Appended(events[0], shard, sequence, events[1:])
            case Refused(reason=refusal):
                continue
            case Unknown(reason=reason):
                health.eject(shard)
            case Undecided():
                reason = "another create of the same resource is under way"
            case Exists():
                standing = await log.read_first(shard, subject, timeout_s=TRY_TIMEOUT_S)
                # Nobody else knows the name of a keyless one: what stands there is a tombstone.
                found = _as_answer(standing) if draft.is_keyed else None
                if found is not None:
                    return found
                reason = "the register holds no answer"
            case other:
                assert_never(other)
        tries.append(_Try(shard, subject, events, payload, reason))
    return tuple(tries) if tries else NotStored(refusal or _why_nowhere(log, walk))


def _why_nowhere(log: Log, walk: Sequence[int]) -> str:
    """Why no shard may take it."""
    return NEARLY_FULL if all(map(log.is_nearly_full, walk)) else CLOCK_OFF


def _healthy(log: Log, health: ShardHealth, walk: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Those of `walk` that may take it, with their places in it; ejected ones only where all others
    are full or off, too. Nearly always the first takes it, and the others are not looked at."""
    first, *others = walk
    if _is_timely(log, first) and not health.is_ejected(first):
        yield 0, first
        healthy = health.passable([shard for shard in others if _is_timely(log, shard)])
    else:
        timely = [shard for shard in walk if _is_timely(log, shard)]
        healthy = health.passable(timely) or timely
    for shard in healthy:
        yield walk.index(shard), shard


def _is_timely(log: Log, shard: int) -> bool:
    """Whether it has room, and a clock that can be trusted."""
    return not log.is_nearly_full(shard) and can_be_trusted(log.clock_off_s(shard))


async def _settle(log: Log, tries: tuple[_Try, ...], *, clock: Clock, until: float) -> AppendAnswer:
    """Send the same bytes again, first shard first, until one is known to hold the resource."""
    closed: set[int] = set()
    while len(closed) < len(tries):
        for attempt in tries:
            if attempt.shard in closed:
                continue
            if clock.monotonic() >= until:
                return Uncertain(attempt.reason)
            settled = await _try_again(log, attempt)
            if settled is None:
                break  # its fate decides about those behind it
            if not isinstance(settled, _Closed):
                return settled
            closed.add(attempt.shard)
        else:
            break
        await clock.sleep(RETRY_PAUSE_S)
    return Uncertain("every register it was sent to has been closed")


class _Closed:
    """A register that can no longer take the resource."""


async def _try_again(log: Log, attempt: _Try) -> Appended | Found | _Closed | None:
    """What stands in the try's register now; `None` if that is still not known."""
    answer = await log.publish(
        attempt.shard, attempt.subject, attempt.payload, expected=0, timeout_s=TRY_TIMEOUT_S
    )
    if isinstance(answer, Accepted):
        return attempt.stored_at(answer.sequence)
    if not isinstance(answer, Exists):
        return None
    standing = await log.read_first(attempt.shard, attempt.subject, timeout_s=TRY_TIMEOUT_S)
    if not isinstance(standing, Stored):
        return None
    if standing.payload == attempt.payload and not is_late(attempt.events[0], standing.at):
        return attempt.stored_at(standing.sequence)
    return (_as_answer(standing) if attempt.events[0].is_keyed else None) or _Closed()


def is_late(event: Event, stored_at: float) -> bool:
    """Whether a copy was stored so far from its own time that it counts as closed."""
    return abs(stored_at - event.at) > LATE_MAX_S


def _as_answer(standing: object) -> Found | None:
    """The original that stands there, unless it is late, a tombstone, missing or unreadable."""
    if not isinstance(standing, Stored):
        return None
    try:
        event = decode(standing.payload)
    except UnreadableEvent:
        return None
    if event.type is not Type.ORIGINAL or is_late(event, standing.at):
        return None
    return Found(event)
