"""Records of the directory that change: created, changed, deleted, each in one register of its own.

A register is one subject in the home shard of its name. Every event in it is the whole record, or says
that it was deleted, so the newest alone says what is so, and the copy, which reads a shard in order,
shows the last one. Each event is written on what its writer last saw: of two changes at once, one is
made on top of the other, and none is lost that touched another field; of two to one field, the last
counts. Of two creates at once, one finds the other. What is sent twice stands once.

There is no other shard to go to: while the home shard has no leader, the answer is `Undecidable`.
A kind of record is one row in `domain.events` (its body, `Kind`, `Settings`, `ONE_REGISTER`) and in
`log.carry`, a table and a fold in `replica`, and a module beside, which names its `Register` and gives
its `Collection`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, assert_never

from msgspec import structs

from trunkline.directory.spent import Spent as SpentSids
from trunkline.directory.spent import has, lately, spent_by, with_deletion
from trunkline.domain.events import Body, Deleted, Kind, Type
from trunkline.kernel import Clock, Deadline
from trunkline.log.author import Author
from trunkline.log.chain import Advanced, Overtaken, Stalled, advance
from trunkline.log.event import Event, created_subject, decode
from trunkline.log.interface import Log, Stored, Unreadable
from trunkline.log.limits import RETRY_PAUSE_S, TRY_TIMEOUT_S
from trunkline.log.shards import home

ANYBODY: Final = "any"
"""In place of the account, where a name is unique among all of them."""

BodyT = TypeVar("BodyT", bound=Body)


@dataclass(frozen=True, slots=True)
class Register(Generic[BodyT]):
    """Where one record stands. `name` is letters, digits, `_` and `-`; `placed_by` is what its home
    shard is computed from, where that is not the name; `of` is the struct of its whole state."""

    kind: Kind
    of: type[BodyT]
    name: str
    placed_by: str = ""

    def shard(self, log: Log) -> int:
        """The one shard in which this is decided."""
        return home(self.placed_by or self.name, log.shards)

    def subject(self, log: Log) -> str:
        return created_subject(self.shard(log), self.kind, ANYBODY, self.name)


@dataclass(frozen=True, slots=True)
class Record(Generic[BodyT]):
    """A record as the log has it, at `sequence` of `shard`. Times are seconds since the epoch."""

    account: str
    sid: str
    body: BodyT
    created_at: float
    changed_at: float
    shard: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Written(Generic[BodyT]):
    """The record is this now; `is_repeat` when it stood already under the same SID."""

    record: Record[BodyT]
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class Occupied(Generic[BodyT]):
    """Another record stands in the register."""

    record: Record[BodyT]


@dataclass(frozen=True, slots=True)
class Spent:
    """The record of this SID was created and has been deleted since: a repeat brings none back."""


@dataclass(frozen=True, slots=True)
class Missing:
    """There surely is no such record, or none of this account."""


@dataclass(frozen=True, slots=True)
class Removed:
    """The record is deleted, by the event at `sequence` of `shard`."""

    shard: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Undecidable:
    """The home shard did not answer in the deadline. What was asked for may yet come about."""

    reason: str


async def find(
    log: Log, register: Register[BodyT], *, timeout_s: float = TRY_TIMEOUT_S
) -> Record[BodyT] | Unreadable | None:
    """The record as the log itself has it; `None` only when there surely is none."""
    standing = await _newest(log, register, timeout_s)
    return standing.record if isinstance(standing, _Standing) else standing


async def create(
    log: Log,
    register: Register[BodyT],
    body: BodyT,
    *,
    sid: str,
    account: str,
    is_keyed: bool,
    author: Author,
    deadline: Deadline,
) -> Written[BodyT] | Occupied[BodyT] | Spent | Undecidable:
    """Put `body` into the register if nothing stands there. Repeatable with the same `sid`, for as
    long as keys count if `is_keyed`: without one, nobody can repeat it but within this call."""
    event = author.event(register.kind, Type.ORIGINAL, account, sid, body)
    event = structs.replace(event, spent=())  # where nothing stands, nothing was deleted lately
    standing: _Standing[BodyT] | None = None
    while True:  # bounded: each turn is one write of `_put`, which ends with the deadline
        if standing is not None and standing.record is not None:
            record = standing.record
            return Written(record, is_repeat=True) if record.sid == sid else Occupied(record)
        if standing is not None:
            spent = spent_by(standing.event, now=author.clock.wall())
            if is_keyed:
                read = await _spent(log, register, standing, author.clock, deadline)
                if isinstance(read, Undecidable):
                    return read
                if has(read, sid):
                    return Spent()
                spent = read
            event = structs.replace(event, spent=spent)
        expected = 0 if standing is None else standing.sequence
        answer = await _put(
            log, register, event, expected=expected, author=author, deadline=deadline
        )
        if isinstance(answer, Undecidable):
            return answer
        if isinstance(answer, int):
            return Written(_record(event, body, register.shard(log), answer))
        standing = answer


async def change(
    log: Log,
    register: Register[BodyT],
    edit: Callable[[BodyT], BodyT],
    *,
    sid: str,
    account: str,
    author: Author,
    deadline: Deadline,
) -> Written[BodyT] | Missing | Undecidable:
    """Make the record what `edit` makes of it. `edit` may be called several times, each time on the
    newest state, and must not change the SID. A change that changes nothing is not written."""
    while True:  # bounded: by the deadline, like every write
        own = await _own_in_time(log, register, sid, account, author, deadline)
        if not isinstance(own, _Own):
            return own
        record = own.record
        edited = edit(record.body)
        if edited == record.body:
            return Written(record, is_repeat=True)
        event = author.event(register.kind, Type.CHANGE, account, sid, edited)
        event = structs.replace(
            event, created_at=record.created_at, changed_at=event.at, spent=own.spent
        )
        answer = await _put(
            log, register, event, expected=record.sequence, author=author, deadline=deadline
        )
        if isinstance(answer, int):
            return Written(_record(event, edited, register.shard(log), answer))
        if isinstance(answer, Undecidable):
            return answer


async def delete(
    log: Log,
    register: Register[BodyT],
    *,
    sid: str,
    account: str,
    author: Author,
    deadline: Deadline,
) -> Removed | Missing | Undecidable:
    """Take the record out of the register, which is free again then. A second one is `Missing`."""
    event = author.event(register.kind, Type.DELETED, account, sid, Deleted())
    while True:  # bounded: by the deadline, like every write
        own = await _own_in_time(log, register, sid, account, author, deadline)
        if not isinstance(own, _Own):
            return own
        event = structs.replace(event, spent=with_deletion(own.spent, event))
        answer = await _put(
            log, register, event, expected=own.record.sequence, author=author, deadline=deadline
        )
        if isinstance(answer, int):
            return Removed(register.shard(log), answer)
        if isinstance(answer, Undecidable):
            return answer


async def was_here(
    log: Log, register: Register[BodyT], sid: str, *, clock: Clock, deadline: Deadline
) -> bool | Undecidable:
    """Whether the record of `sid` stands here, or did and was deleted so lately that its key counts."""
    bound_s = min(TRY_TIMEOUT_S, deadline.remaining_s())
    newest = await _newest(log, register, bound_s)
    if newest is None:
        return False
    if isinstance(newest, Unreadable):
        return Undecidable(newest.reason)
    if newest.record is not None and newest.record.sid == sid:
        return True
    spent = await _spent(log, register, newest, clock, deadline)
    return spent if isinstance(spent, Undecidable) else has(spent, sid)


async def _spent(
    log: Log,
    register: Register[BodyT],
    newest: "_Standing[BodyT]",
    clock: Clock,
    deadline: Deadline,
) -> SpentSids | Undecidable:
    """What was deleted here lately. Where an older version wrote the newest event, it is read from the
    whole chain, event by event: its beginning is kept for longer than a key."""
    told = spent_by(newest.event, now=clock.wall())
    if told is not None:
        return told
    shard, subject, after = register.shard(log), register.subject(log), 0
    deleted: SpentSids = ()
    while not deadline.has_passed():
        found = await log.read_next(shard, subject, after=after, timeout_s=TRY_TIMEOUT_S)
        if isinstance(found, Unreadable):
            return Undecidable(found.reason)
        if found is None:
            return deleted
        event = decode(found.payload)
        if event.type is Type.DELETED:
            deleted = lately((*deleted, (event.sid, event.at)), now=clock.wall())
        after = found.sequence
    return Undecidable("the deadline had passed")


async def _newest(
    log: Log, register: Register[BodyT], timeout_s: float
) -> "_Standing[BodyT] | Unreadable | None":
    newest = await log.read_last(register.shard(log), register.subject(log), timeout_s=timeout_s)
    return _standing(register, newest) if isinstance(newest, Stored) else newest


@dataclass(frozen=True, slots=True)
class _Standing(Generic[BodyT]):
    """The newest event of a register; without a record it is a deletion."""

    sequence: int
    event: Event
    record: Record[BodyT] | None


@dataclass(frozen=True, slots=True)
class _Own(Generic[BodyT]):
    """A record of whoever asks for it, and what was deleted before it in its register."""

    record: Record[BodyT]
    spent: SpentSids | None


async def _put(
    log: Log,
    register: Register[BodyT],
    event: Event,
    *,
    expected: int,
    author: Author,
    deadline: Deadline,
) -> int | _Standing[BodyT] | Undecidable:
    """Write `event` behind `expected`: where it stands, or what stands there instead."""
    shard, subject = register.shard(log), register.subject(log)
    answer = await advance(
        log, shard, subject, event, expected=expected, clock=author.clock, deadline=deadline
    )
    match answer:
        case Advanced(sequence=sequence):
            return sequence
        case Overtaken(newest=newest):
            # Ours may have landed, its answer lost, and another one stand on top of it already.
            after = await log.read_next(shard, subject, after=expected, timeout_s=TRY_TIMEOUT_S)
            if not isinstance(after, Stored):
                return Undecidable("what was written first cannot be read")
            if _is_same(decode(after.payload), event):
                return after.sequence
            return _standing(register, newest)
        case Stalled(reason=reason):
            return Undecidable(reason)
        case other:
            assert_never(other)


async def _own_in_time(
    log: Log,
    register: Register[BodyT],
    sid: str,
    account: str,
    author: Author,
    deadline: Deadline,
) -> _Own[BodyT] | Missing | Undecidable:
    """The account's record of this SID. While its shard has no leader it is asked for again, as a
    write is repeated."""
    reason = "the deadline had passed"
    while not deadline.has_passed():
        bound_s = min(TRY_TIMEOUT_S, deadline.remaining_s())
        found = await _newest(log, register, bound_s)
        if found is None:
            return Missing()
        if isinstance(found, _Standing):
            record = found.record
            if record is None or (record.sid, record.account) != (sid, account):
                return Missing()
            return _Own(record, spent_by(found.event, now=author.clock.wall()))
        reason = found.reason
        await author.clock.sleep(min(RETRY_PAUSE_S, deadline.remaining_s()))
    return Undecidable(reason)


def _is_same(stored: Event, event: Event) -> bool:
    """Whether it is that event, perhaps carried forward since."""
    return _marks(stored) == _marks(event)


def _marks(event: Event) -> tuple[object, ...]:
    return event.id, event.type, event.sid, event.record_changed_at, bytes(event.data)


def _standing(register: Register[BodyT], stored: Stored) -> _Standing[BodyT]:
    event = decode(stored.payload)
    body = event.body()
    record = None
    if isinstance(body, register.of):
        record = _record(event, body, stored.shard, stored.sequence)
    return _Standing(stored.sequence, event, record)


def _record(event: Event, body: BodyT, shard: int, sequence: int) -> Record[BodyT]:
    return Record(
        account=event.account,
        sid=event.sid,
        body=body,
        created_at=event.record_created_at,
        changed_at=event.record_changed_at,
        shard=shard,
        sequence=sequence,
    )
