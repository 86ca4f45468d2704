"""The memory engine behind a network in which every call is a question to the test.

Nothing here runs on an event loop: code under test is a coroutine that hands out its next `Call`
and stands still until somebody gives it an answer. `Network` holds what is stored and what is under
way; with a `Rule` left out it does wrong what that rule of the protocol forbids.
"""

import types
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import cached_property
from typing import Any, Final, TypeAlias, TypeVar

from trunkline.domain.events import Kind, Type
from trunkline.domain.sid import digits_of
from trunkline.kernel import Clock
from trunkline.log.engines.memory import MemoryLog
from trunkline.log.event import Event, changed_subject, decode_all, is_changed
from trunkline.log.interface import (
    Accepted,
    Consumer,
    Exists,
    Follower,
    LogUnavailable,
    PublishAnswer,
    ReadAnswer,
    Stored,
    Timers,
    Undecided,
    Unreadable,
)
from trunkline.log.limits import TRY_TIMEOUT_S
from trunkline.messaging.carrier import Submission

NEVER_GIVEN: Final = "a test hands its deliveries out itself"

Answer = TypeVar("Answer")


class Rule(Enum):
    """A rule of the protocol that the network, or a worker, can be made to break."""

    POSITION = "a keyed copy stands behind its position, not behind the shards its host names"
    PASSED_OVER = "what was refused or passed over counts as earlier, too"
    SAME_BYTES = "a second try at a register sends the same bytes"
    FENCE = "earlier shards are closed before anything is done"
    UNDECIDED = "another publish under way is no record"
    NO_ENGINE_ID = "a conditional publish carries no message id of the engine"
    LATE_IS_CLOSED = "a late original counts as closed"
    CLAIM = "an attempt is claimed by compare-and-set"
    NONCE = "a claim belongs to a task, not to a name"
    ACK_LAST = "the engine is answered when the end is durable"
    AUTHOR_RESOLVES = "a process marks the claims of its own tasks that are gone"
    OUTCOME_IN_CHAIN = "the outcome is a link of the chain"


@dataclass(frozen=True, eq=False)
class Publish:
    """One try to write."""

    shard: int
    subject: str
    payload: bytes
    expected: int | None

    @cached_property
    def events(self) -> tuple[Event, ...]:
        return decode_all(self.payload)

    @property
    def event(self) -> Event:
        """The first of them: a register holds no more."""
        return self.events[0]


@dataclass(frozen=True, eq=False)
class Read:
    """A look at the oldest record on a subject behind a sequence; without one, at the newest."""

    shard: int
    subject: str
    after: int | None


@dataclass(frozen=True, eq=False)
class Submit:
    """A message that is about to leave."""

    submission: Submission


@dataclass(frozen=True, eq=False)
class Settle:
    """The answer to a delivery: done, or again after a while."""

    stored: Stored
    again_after_s: float | None


@dataclass(frozen=True, eq=False)
class Sleep:
    """A wait until a moment of the monotonic clock."""

    until: float


@dataclass(frozen=True, eq=False)
class Connect:
    """A wait for the engine."""


Call: TypeAlias = Publish | Read | Submit | Settle | Sleep | Connect


@types.coroutine
def asked(call: Call) -> Generator[Call, Any, Any]:
    """Stand still until the test answers `call`."""
    return (yield call)


@dataclass
class VirtualTime:
    """What all clocks of a cluster read."""

    now: float = 0.0
    wall_at_start: float = 1_700_000_000.0


@dataclass(frozen=True)
class HostClock:
    """One host's clock. Its wall time may be off; implements `Clock`."""

    time: VirtualTime
    skew_s: float = 0.0

    def wall(self) -> float:
        return self.time.wall_at_start + self.skew_s + self.time.now

    def monotonic(self) -> float:
        return self.time.now

    async def sleep(self, seconds: float) -> None:
        await asked(Sleep(self.time.now + max(0.0, seconds)))


class HostLog:
    """The log as one host sees it: every act is a question. Implements `Log`."""

    def __init__(self, shards: int) -> None:
        self.is_connected = True
        self._shards = shards

    @property
    def shards(self) -> int:
        return self._shards

    async def wait_until_connected(self, wait_s: float) -> bool:
        del wait_s
        is_connected: bool = await asked(Connect())
        return is_connected

    @property
    def try_timeout_s(self) -> float:
        return TRY_TIMEOUT_S

    def clock_off_s(self, shard: int) -> float:
        del shard
        return 0.0

    def is_nearly_full(self, shard: int) -> bool:
        del shard
        return False

    async def publish(
        self, shard: int, subject: str, payload: bytes, *, expected: int | None, timeout_s: float
    ) -> PublishAnswer:
        del timeout_s
        answer: PublishAnswer = await asked(Publish(shard, subject, payload, expected))
        return answer

    async def read_first(self, shard: int, subject: str, *, timeout_s: float) -> ReadAnswer:
        return await self.read_next(shard, subject, after=0, timeout_s=timeout_s)

    async def read_next(
        self, shard: int, subject: str, *, after: int, timeout_s: float
    ) -> ReadAnswer:
        del timeout_s
        answer: ReadAnswer = await asked(Read(shard, subject, after))
        return answer

    async def read_last(self, shard: int, subject: str, *, timeout_s: float) -> ReadAnswer:
        del timeout_s
        answer: ReadAnswer = await asked(Read(shard, subject, None))
        return answer

    async def last_sequence(self, shard: int, *, timeout_s: float) -> int | Unreadable:
        del shard, timeout_s
        return Unreadable(NEVER_GIVEN)

    async def consumer(self, shard: int, service: str, filters: Sequence[str]) -> Consumer:
        del shard, service, filters
        raise LogUnavailable(NEVER_GIVEN)

    async def follower(self, shard: int, *, after: int) -> Follower:
        del shard, after
        raise LogUnavailable(NEVER_GIVEN)

    @property
    def timers(self) -> Timers:
        raise LogUnavailable(NEVER_GIVEN)

    async def close(self) -> None:
        return


class HostDelivery:
    """One original in the hands of one worker. Implements `Delivery`."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored

    async def ack(self) -> None:
        await asked(Settle(self.stored, None))

    async def nak(self, delay_s: float) -> None:
        await asked(Settle(self.stored, delay_s))


class Transit(Enum):
    """Where something under way is."""

    DELAYED = auto()
    """In the network; its receiver has not seen it."""
    PROPOSED = auto()
    """With the shard's leader, not committed: what comes meanwhile is undecided."""


@dataclass(frozen=True, eq=False)
class UnderWay:
    """A publish or a hand-over of which nobody waits for the answer any more."""

    cargo: Publish | Submission
    transit: Transit


@dataclass
class Network:
    """What is stored, and what may yet be."""

    clock: Clock
    shards: int
    without: Rule | None = None
    on_stored: Callable[[Stored, Event], None] = lambda _stored, _event: None
    under_way: list[UnderWay] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    """Everything, in the order in which it was stored."""

    def __post_init__(self) -> None:
        self._log = MemoryLog(clock=self.clock, shards=self.shards)

    def store(self, publish: Publish) -> PublishAnswer:
        """What the shard does with a publish that has reached it."""
        if publish.expected is not None and self.proposed(publish.subject) is not None:
            return self._meet_proposal(publish)
        if publish.event.type is Type.TOMBSTONE and self.without is Rule.FENCE:
            return Accepted(0)
        return self._write(self._bent(publish))

    def read(self, call: Read) -> ReadAnswer:
        """What the shard's leader shows."""
        if self.without is Rule.UNDECIDED:
            proposed = self.proposed(call.subject)
            if proposed is not None:
                return Stored(call.shard, call.subject, 1, self.clock.wall(), proposed.payload)
        answer: ReadAnswer = at_once(
            self._log.read_last(call.shard, call.subject, timeout_s=0.0)
            if call.after is None
            else self._log.read_next(call.shard, call.subject, after=call.after, timeout_s=0.0)
        )
        if self.without is Rule.LATE_IS_CLOSED and isinstance(answer, Stored):
            return replace(answer, at=decode_all(answer.payload)[0].at)
        return answer

    def read_before(self, call: Read) -> ReadAnswer:
        """What a leader shows that has not applied the newest record."""
        before = self.standing(call.subject)[:-1]
        if call.after is None:
            return before[-1] if before else None
        return next((each for each in before if each.sequence > (call.after or 0)), None)

    def standing(self, subject: str) -> list[Stored]:
        """What stands on a subject that is written by compare-and-set, oldest first."""
        shard = int(subject.split(".")[1])
        return self._log._shards[shard].chains.get(subject, [])

    def chain(self, shard: int, digits: str) -> list[Event]:
        """What stands in a message's register, and the records of its chain, oldest first."""
        return [
            event
            for each in self.stored
            if each.shard == shard and not is_changed(each.subject)
            for event in decode_all(each.payload)
            if digits_of(event.sid) == digits
        ]

    def land(self, arrived: UnderWay) -> None:
        """A publish that was under way commits, if its register still allows it."""
        self.under_way.remove(arrived)
        if isinstance(arrived.cargo, Publish):
            self.store(arrived.cargo)

    def proposed(self, subject: str) -> Publish | None:
        """What the register's leader has taken up and not committed."""
        for each in self.under_way:
            cargo = each.cargo
            if (
                each.transit is Transit.PROPOSED
                and isinstance(cargo, Publish)
                and cargo.subject == subject
            ):
                return cargo
        return None

    def _meet_proposal(self, publish: Publish) -> PublishAnswer:
        if self.without is Rule.UNDECIDED:
            return Exists()
        if self.without is Rule.NO_ENGINE_ID and publish.event.type is Type.TOMBSTONE:
            return Accepted(0)  # "a duplicate", and nothing is written
        return Undecided()

    def _bent(self, publish: Publish) -> Publish:
        """The publish as it is when a rule is left out."""
        event = publish.event
        if self.without is Rule.CLAIM and event.type is Type.CLAIM:
            standing = self.standing(publish.subject)
            return replace(publish, expected=standing[-1].sequence if standing else 0)
        if self.without is Rule.OUTCOME_IN_CHAIN and event.type is Type.OUTCOME:
            beside = changed_subject(publish.shard, Kind.MESSAGE, event.account)
            return replace(publish, subject=beside, expected=None)
        return publish

    def _write(self, publish: Publish) -> PublishAnswer:
        answer: PublishAnswer = at_once(
            self._log.publish(
                publish.shard,
                publish.subject,
                publish.payload,
                expected=publish.expected,
                timeout_s=0.0,
            )
        )
        if isinstance(answer, Accepted):
            stored = self._log._shards[publish.shard].messages[-1]
            self.stored.append(stored)
            for event in publish.events:
                self.on_stored(stored, event)
        return answer


def at_once(act: Coroutine[Any, Any, Answer]) -> Answer:
    """What `act` returns, which waits for nothing."""
    try:
        act.send(None)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    raise AssertionError("it waits")
