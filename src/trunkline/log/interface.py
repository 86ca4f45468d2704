"""What an engine promises: shards that are registers under compare-and-set, and durable reading.

The classes of answer are those of the protocol page: a publish was `Accepted`; or its register
already holds something (`Exists`); or another publish is under way (`Undecided`); or it was surely
not stored (`Refused`); everything else is `Unknown`. An engine never raises for any of these.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Accepted:
    """Stored, flushed, at this sequence of its shard."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Exists:
    """The register did not hold what was expected; read before any conclusion."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """Another publish to the register is in flight; it may land or be lost. Not a fault."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Surely not stored. `is_full` when the shard has no room."""

    reason: str
    is_full: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have been stored."""

    reason: str


PublishAnswer = Accepted | Exists | Undecided | Refused | Unknown


@dataclass(frozen=True, slots=True)
class Stored:
    """A message of a shard. `at` is the engine's time of storing it, in seconds since the epoch."""

    shard: int
    subject: str
    sequence: int
    at: float
    payload: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The shard could not be asked."""

    reason: str


@dataclass(frozen=True, slots=True)
class Extent:
    """What a shard holds now. `first` is the sequence of its oldest message, and `last + 1` where
    there is none; what stood before `first` was purged."""

    first: int
    last: int
    bytes: int
    bytes_max: int
    subjects: int


ReadAnswer = Stored | None | Unreadable
"""`None` proves nothing about publishes that are still under way."""


class Delivery(Protocol):
    """One message handed to a service. It is kept in hand by the engine until answered, for at
    most the bound on work; unanswered, it is delivered again, perhaps to another process."""

    @property
    def stored(self) -> Stored: ...

    async def ack(self) -> None:
        """Done: it is not delivered to this service again (unless this answer is lost)."""

    async def nak(self, delay_s: float) -> None:
        """Deliver it again after `delay_s`."""


class Consumer(Protocol):
    """The deliveries of one shard to one service; several processes may share the service's name.
    On one host they share what comes; on several, those that do not `rest` each get all of it."""

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[Delivery]:
        """Up to `items_max` deliveries, as soon as there is one; empty after `wait_s` without, or
        sooner where they cannot be had at the moment. Never raises for what the engine does."""

    async def rest(self) -> None:
        """Until the next fetch, leave what there is to others: what has come and was not fetched is
        given back. What is in hand may come to others, too."""

    async def redeliver(self) -> bool:
        """Have everything again that was delivered to anybody and is not acknowledged, because
        somebody is gone. What others still have in hand comes too. Whether it will come."""

    async def close(self) -> None: ...


class Follower(Protocol):
    """All messages of one shard, in order, from a sequence on; nothing is remembered for it."""

    async def fetch(self, items_max: int, wait_s: float) -> Sequence[Stored]:
        """Up to `items_max` messages, as soon as there is one; empty after `wait_s` without, or
        sooner where they cannot be had at the moment. Raises `LogUnavailable` where none can come.
        """

    @property
    def is_at_end(self) -> bool:
        """Whether there surely was nothing behind what the last fetch gave, when it began or within
        the second before."""

    async def close(self) -> None: ...


class Timers(Protocol):
    """Timers, in a few shards of their own that no trimmer touches: one may have to stand for longer
    than anything else in the log. A name is one or more of letters, digits, `_` and `-`.

    What is written stands flushed until it is due, and then becomes a delivery, once or more often.
    Written again under its name, a timer moves; but if the earlier moment comes just then, it is the
    earlier one that fires, and perhaps alone. So a name always carries the same payload, and after
    each `Accepted` at least one delivery comes, which may be early: its receiver looks at the time.
    """

    @property
    def shards(self) -> int: ...

    @property
    def is_nearly_full(self) -> bool:
        """Whether nothing more should be accepted that will need one; what was accepted finds room."""

    async def write(
        self, shard: int, name: str, due_at: float, payload: bytes, *, timeout_s: float
    ) -> PublishAnswer:
        """Have `payload` delivered at `due_at`, in seconds since the epoch; at once if that is past.
        `Accepted`, `Refused` or `Unknown`; the latter may be repeated, also in another shard."""

    async def drop(self, shard: int, name: str, *, timeout_s: float) -> int | Unreadable:
        """Remove the timers of this name that are not due yet; how many there were."""

    async def count(self, shard: int, *, timeout_s: float) -> int | Unreadable:
        """Timers that stand in the shard, those included that are due and not acknowledged."""

    async def due(self, shard: int, service: str) -> Consumer:
        """What is due, for the durable consumer `service`, made when missing: one service a shard.
        Each delivery's subject ends in the timer's name; `ack` removes it from the shard. Raises
        `LogUnavailable`."""


class Log(Protocol):
    """A fixed number of shards. Every method may be called from many tasks at once."""

    @property
    def shards(self) -> int: ...

    @property
    def is_connected(self) -> bool:
        """Whether the engine can be asked now."""

    async def wait_until_connected(self, wait_s: float) -> bool:
        """Whether the engine can be asked, now or within `wait_s`."""

    @property
    def try_timeout_s(self) -> float:
        """How long a new resource is to wait for one shard before it goes on to the next: well above
        what publishes take now, and at most `TRY_TIMEOUT_S`."""

    def is_nearly_full(self, shard: int) -> bool:
        """Whether the shard keeps its last room for what belongs to resources it already has."""

    def clock_off_s(self, shard: int) -> float:
        """How far the shard's clock is ahead of this process's, as far as is surely known; 0 until
        it is. Less than 0: behind."""

    async def publish(
        self, shard: int, subject: str, payload: bytes, *, expected: int | None, timeout_s: float
    ) -> PublishAnswer:
        """Store `payload` if the last sequence on `subject` is `expected` (0: none; None: any)."""

    async def read_first(self, shard: int, subject: str, *, timeout_s: float) -> ReadAnswer:
        """The oldest message on `subject`, from the shard's leader."""

    async def read_next(
        self, shard: int, subjects: str, *, after: int, timeout_s: float
    ) -> ReadAnswer:
        """The oldest message behind sequence `after`, from the shard's leader, on one of `subjects`:
        one subject, or all that begin with what stands before a final `>`."""

    async def read_last(self, shard: int, subject: str, *, timeout_s: float) -> ReadAnswer:
        """The newest message on `subject`, from the shard's leader."""

    async def last_sequence(self, shard: int, *, timeout_s: float) -> int | Unreadable:
        """The sequence of the shard's newest message, 0 when it is empty."""

    async def consumer(self, shard: int, service: str, filters: Sequence[str]) -> Consumer:
        """The durable consumer `service` of `shard`, made when missing. Raises `LogUnavailable`."""

    @property
    def timers(self) -> Timers: ...

    async def follower(self, shard: int, *, after: int) -> Follower:
        """Everything behind sequence `after`. Raises `LogUnavailable`."""

    async def close(self) -> None: ...


class RetainedLog(Log, Protocol):
    """A log whose oldest part can be removed on purpose. Only the trimmer may purge: what is gone
    cannot be told from what never was (docs/design/retention.md)."""

    async def extent(self, shard: int, *, timeout_s: float) -> Extent | Unreadable:
        """From where to where the shard goes, and what it takes."""

    async def ack_floors(self, shard: int, *, timeout_s: float) -> Mapping[str, int] | Unreadable:
        """For every durable consumer of the shard the sequence up to which it is through, as far as
        is known here: each message that it wants, up to there, was delivered and acknowledged. It
        rises while the consumer goes on fetching."""

    async def purge(self, shard: int, *, before: int, timeout_s: float) -> int | Unreadable:
        """Remove every message whose sequence is less than `before`; how many that were. A repeat
        removes nothing. `Unreadable`: it may have been done, or may yet be."""


class Bus(Protocol):
    """What processes tell one another at once, or not at all: nothing is stored or repeated.

    A subject is words joined by dots; a `*` in place of one stands for any one word, a final `>` for
    one or more.
    """

    def send(self, subject: str, payload: bytes) -> bool:
        """To all who listen now, this process included. False: surely nobody gets it."""

    def subscribe(self, subject: str, sink: Callable[[str, bytes], None]) -> Callable[[], None]:
        """Have `sink` called with subject and payload of each message, once, not always in order.
        Gives what ends it."""


class ClusteredLog(RetainedLog, Protocol):
    """A log that several hosts may share."""

    @property
    def bus(self) -> Bus: ...

    async def leaders(self, *, timeout_s: float) -> Mapping[str, str | None]:
        """The server that leads each stream, those of the timers included; `None` where it has no
        leader, did not answer, or is not shared."""

    async def consumer_leaders(
        self, consumers: Sequence[str], *, timeout_s: float
    ) -> Mapping[str, str | None]:
        """The same for durable consumers, each named as `<stream>.<service>`: they are led apart
        from their streams, and nothing is delivered without a leader."""

    async def step_down(self, stream: str, *, prefer: str, timeout_s: float) -> bool:
        """Have `stream`, or a consumer named as above, led by the server `prefer`, if it can. False:
        surely nothing was begun, or nobody answered."""


class LogUnavailable(Exception):
    """The engine cannot be reached, or refused an administrative request; the text says why."""


class ShardMissing(LogUnavailable):
    """A shard that was there is gone, and with it what was accepted into it. Waiting does not help."""
