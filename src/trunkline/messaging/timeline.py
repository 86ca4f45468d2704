"""The timeline of one message: every event of it that the log still holds, from all shards.

Only the original has a place that follows from the SID. What came later may stand in any shard, so
each is read from the moment of the create on: that moment is found by halving, as what a shard holds
was stored in the order of time.
"""

import asyncio
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from trunkline.domain.events import Type
from trunkline.domain.sid import digits_of
from trunkline.kernel import Clock, Deadline
from trunkline.log.event import Event, UnreadableEvent, decode_all
from trunkline.log.interface import Extent, LogUnavailable, RetainedLog, Stored, Unreadable

BEFORE_S: Final = 300.0
"""How far before the create is read: hosts and shards each have a clock of their own, and one that is
further off than half of this takes part in nothing."""

FETCH_MAX: Final = 1_000
FETCH_WAIT_S: Final = 0.2
READ_MAX_S: Final = 2.0
HALVINGS_MAX: Final = 64

EVENTS_MAX: Final = 10_000
"""Of one message: its attempts, receipts and callbacks with all their copies are some dozens."""

_NOT_SHOWN: Final = frozenset(
    {"text", "media_urls", "fingerprint", "kept", "dropped", "pieces", "media"}
)
"""What a message said is nobody's business here, nor what stands for it; and the SID of a piece of media
is all that its URL needs."""

_USERINFO: Final = re.compile(r"(?<=://)[^/?#\s]*@")
"""A name and a password in a URL, as customers write them for a webhook that asks for them."""

_PLACES: Final = frozenset({"sender", "recipient", "status_callback"})
"""Who wrote to whom, and who was told: of a deleted message not to be shown any more."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One event. `at` is by the clock of `host`, `stored_at` by that of the shard that has it; an
    event that was stored again, as its answer was lost, has more than one of `places`: shard and
    sequence. `facts` is what it says, but for the message's own words and for passwords in URLs."""

    at: float
    host: str
    what: str
    stored_at: float
    places: tuple[tuple[int, int], ...]
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Timeline:
    """What the log holds of a message, in the order of time; `unread` says what could not be read,
    and why: without any, this is all there is."""

    happenings: tuple[Happening, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def has_deletion(self) -> bool:
        """Whether the message was deleted, as far as the log shows."""
        return any(each.what == Type.DELETED for each in self.happenings)

    def without_places(self) -> "Timeline":
        """The same of a deleted message: without from, to and URLs."""
        return replace(self, happenings=tuple(map(_without_places, self.happenings)))


@dataclass(slots=True)
class _Found:
    """What the readers of all shards have found up to now."""

    by_id: dict[str, Happening] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    is_over_full: bool = False


async def read_timeline(
    log: RetainedLog, sid: str, *, since: float, clock: Clock, deadline: Deadline
) -> Timeline:
    """Everything about `sid` that was stored at `since` or later, until the deadline."""
    found = _Found()
    async with asyncio.TaskGroup() as tasks:
        for shard in range(log.shards):
            tasks.create_task(_read_shard(log, shard, sid, since, clock, deadline, found))
    if found.is_over_full:
        found.unread.append(f"more than {EVENTS_MAX} events of this message")
    return Timeline(tuple(sorted(found.by_id.values(), key=_order)), tuple(sorted(found.unread)))


def _order(happening: Happening) -> tuple[float, bool, float, tuple[tuple[int, int], ...]]:
    """By time; of the same moment, nothing comes before the message itself."""
    is_later = happening.what != Type.ORIGINAL
    return happening.at, is_later, happening.stored_at, happening.places


async def _read_shard(
    log: RetainedLog,
    shard: int,
    sid: str,
    since: float,
    clock: Clock,
    deadline: Deadline,
    found: _Found,
) -> None:
    extent = await log.extent(shard, timeout_s=min(READ_MAX_S, deadline.remaining_s()))
    if isinstance(extent, Unreadable):
        found.unread.append(f"shard {shard}: {extent.reason}")
        return
    try:
        after = await _last_before(log, shard, extent, since - BEFORE_S)
        follower = await log.follower(shard, after=after)
    except LogUnavailable as error:
        found.unread.append(f"shard {shard}: {error}")
        return
    name = digits_of(sid).encode()
    try:
        while after < extent.last:
            if deadline.has_passed():
                found.unread.append(f"shard {shard}: the time was over")
                return
            taken = await follower.fetch(FETCH_MAX, FETCH_WAIT_S)
            for stored in taken:
                if name in stored.payload:
                    _note(stored, sid, found)
            after = taken[-1].sequence if taken else after
            if not taken and follower.is_at_end:
                return
            await clock.sleep(0.0)
    except LogUnavailable as error:
        found.unread.append(f"shard {shard}: {error}")
    finally:
        await follower.close()


async def _last_before(log: RetainedLog, shard: int, extent: Extent, moment: float) -> int:
    """A sequence up to which all was stored before `moment`. Raises `LogUnavailable`."""
    known, beyond = extent.first - 1, extent.last
    for _ in range(HALVINGS_MAX):
        if known >= beyond:
            break
        middle = (known + beyond) // 2
        standing = await log.read_next(shard, f"ev.{shard}.>", after=middle, timeout_s=READ_MAX_S)
        if isinstance(standing, Unreadable):
            raise LogUnavailable(standing.reason)
        if standing is None or standing.at >= moment:
            beyond = middle
        else:
            known = max(standing.sequence, middle + 1)
    return known


def _note(stored: Stored, sid: str, found: _Found) -> None:
    try:
        events = decode_all(stored.payload)
    except UnreadableEvent as error:
        found.unread.append(f"shard {stored.shard}, sequence {stored.sequence}: {error}")
        return
    for event in events:
        if digits_of(event.sid) == digits_of(sid):
            if len(found.by_id) >= EVENTS_MAX and event.id not in found.by_id:
                found.is_over_full = True
                continue
            place = (stored.shard, stored.sequence)
            known = found.by_id.get(event.id)
            places = (place,) if known is None else tuple(sorted({*known.places, place}))
            stored_at = stored.at if known is None else min(known.stored_at, stored.at)
            found.by_id[event.id] = Happening(
                event.at, event.by_host, event.type.value, stored_at, places, _facts(event)
            )


def _facts(event: Event) -> dict[str, Any]:
    try:
        body: dict[str, Any] = msgspec.to_builtins(event.body())
    except msgspec.MsgspecError as error:
        return {"unreadable": str(error)}
    facts = {name: value for name, value in body.items() if name not in _NOT_SHOWN}
    pieces: list[dict[str, Any]] | None = body.get("pieces")
    if pieces is not None:
        facts["types"] = [piece["content_type"] for piece in pieces]
        facts["size_bytes"] = sum(piece["size_bytes"] for piece in pieces)
    if "media" in body:
        facts["removed"] = len(body["media"])
    return {name: without_passwords(value) for name, value in facts.items()}


def _without_places(happening: Happening) -> Happening:
    facts = {
        name: value
        for name, value in happening.facts.items()
        if name not in _PLACES and "://" not in str(value)
    }
    return replace(happening, facts=facts)


def without_passwords(value: Any) -> Any:
    """A fact with `***` in place of every name and password in a URL; anything but text, or a list of
    it, is as it was."""
    if isinstance(value, str):
        return _USERINFO.sub("***@", value)
    return [without_passwords(each) for each in value] if isinstance(value, list) else value


def gaps_s(happenings: Sequence[Happening]) -> list[float]:
    """The seconds between each and the one before it; 0 for the first. Clocks of two hosts may make
    one of them negative."""
    if not happenings:
        return []
    pairs = itertools.pairwise(each.at for each in happenings)
    return [0.0, *(later - earlier for earlier, later in pairs)]
