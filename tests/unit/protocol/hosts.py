"""The parts of a host that the cluster moves: its acts, its process, its copy, its link.

All that decides is the product's own code; what stands here gives it a place to run in.
"""

import functools
import itertools
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import msgspec
from tests.unit.protocol.faulty_log import Call, HostClock, HostLog, Network, Rule, Submit, asked

from trunkline.domain.events import Kind, MessageCreated, Type
from trunkline.domain.message import Link, Message, fold, link_of
from trunkline.domain.sid import MMS, SMS, digits_of
from trunkline.kernel import Deadline
from trunkline.log.append import Draft, ShardHealth, is_late
from trunkline.log.author import Author
from trunkline.log.event import Event, decode_all, is_changed
from trunkline.log.interface import Stored, Unreadable
from trunkline.log.ledger import Entry, Ledger, LedgerAnswer, Wish
from trunkline.log.limits import RETRY_PAUSE_S
from trunkline.log.names import SHARED_DIGITS
from trunkline.messaging import carrier
from trunkline.messaging.accept import Acceptor
from trunkline.messaging.carrier import Submission
from trunkline.messaging.dispatch import Dispatcher
from trunkline.messaging.record import EventRecorder
from trunkline.messaging.work import Counters, OnAmbiguous, Work
from trunkline.replica.queries import Replica

ACCOUNT: Final = "AC" + "a" * 32
SENDER: Final = "+15550001"
RECIPIENT: Final = "+15550002"

WINDOW: Final = 64
"""Wider than any test has tasks, so that nobody waits for a place."""

LINKS_MAX: Final = 1
"""So few that a ledger often has to ask the read copy."""


@dataclass(eq=False)
class Act:
    """Something under way in a process: its coroutine, and the call it stands at."""

    name: str
    coroutine: Coroutine[Any, Any, Any]
    host: "Host"
    worker: "Worker | None" = None
    on_end: Callable[["Act"], None] = lambda _act: None
    call: Call | None = None
    result: Any = None
    is_over: bool = False
    sids: list[str] = field(default_factory=list)
    """What it has tried to store."""
    first_bytes: dict[int, bytes] = field(default_factory=dict)
    """By shard: the original as it was first sent there."""
    _answers: list[Any] = field(default_factory=list)

    def resume(self, answer: Any = None) -> None:
        """Give the call its answer, and run to the next one."""
        self._answers.clear()
        try:
            self.call = self.coroutine.send(answer)
        except StopIteration as end:
            self.call, self.result, self.is_over = None, end.value, True
            self.on_end(self)

    def end(self) -> None:
        """It is gone, wherever it stood."""
        self.is_over = True
        self.call = None
        self.coroutine.close()

    def answer_with(self, answer: Any) -> None:
        """The answer is on its way."""
        self._answers.append(answer)

    @property
    def has_happened(self) -> bool:
        return bool(self._answers)

    @property
    def answer(self) -> Any:
        return self._answers[0]

    @property
    def can_move(self) -> bool:
        return not self.is_over and (self.worker is None or not self.worker.is_frozen)


@dataclass
class Tally:
    """A counter."""

    count: float = 0.0

    def inc(self, amount: float = 1.0) -> None:
        self.count += amount


@dataclass(frozen=True)
class ClusterLeases:
    """One process's lease, and the view that everybody has of all. Implements `Leases`."""

    own: str
    dead: set[str]

    def is_own_valid(self) -> bool:
        return self.own not in self.dead

    def is_live(self, lease: str) -> bool:
        return lease not in self.dead


class CarrierLink:
    """A worker's link to the carrier: every hand-over is a question. Implements `Carrier`."""

    name = "acme"
    window = WINDOW

    def ready_in_s(self) -> float:
        return 0.0

    async def submit(
        self, submission: Submission, *, key: str, deadline: Deadline
    ) -> carrier.Outcome:
        assert key == submission.reference
        assert not deadline.has_passed()
        outcome: carrier.Outcome = await asked(Submit(submission))
        return outcome

    def submit_many(
        self,
        submissions: Sequence[Submission],
        *,
        deadline: Deadline,
        on_outcome: carrier.OnOutcome,
    ) -> None:
        raise NotImplementedError("each hand-over is a question of its own here")

    async def receive(self, items_max: int, wait_s: float) -> list[carrier.Item]:
        del items_max, wait_s
        return []

    async def acknowledge(self, item_ids: Collection[str]) -> None:
        del item_ids

    async def close(self) -> None:
        return


class ReadCopy:
    """What a host's read copy shows: the fold of the log as it was when it last caught up."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._seen = 0
        self._sequences: dict[int, int] = {}
        self._messages: dict[str, Message] = {}

    def catch_up(self) -> None:
        for stored in self._network.stored[self._seen :]:
            for event in decode_all(stored.payload):
                self._add(event, stored)
            self._sequences[stored.shard] = stored.sequence
        self._seen = len(self._network.stored)

    def _add(self, event: Event, stored: Stored) -> None:
        if event.type is Type.ORIGINAL and is_late(event, stored.at):
            return
        body = event.body()
        link = link_of(event.id, event.type, body, shard=stored.shard, sequence=stored.sequence)
        self._messages[event.sid] = fold(
            self._messages.get(event.sid, Message(account=event.account)),
            body,
            at=event.at,
            event_id=event.id,
            position=event.position,
            link=None if is_changed(stored.subject) else link,
        )

    def sequence(self, shard: int) -> int:
        return self._sequences.get(shard, 0)

    def link(self, digits: str, shard: int) -> Link | None:
        for sid, message in self._messages.items():
            if message.link is not None and digits_of(sid) == digits:
                return message.link if message.link.shard == shard else None
        return None

    def lag_ms(self) -> float:
        """Nothing is trimmed here, and so a copy may be as old as it likes."""
        return 0.0

    def message(self, sid: str) -> Message | None:
        message = self._messages.get(sid)
        return message if message is not None and message.is_known else None

    def opt_out(self, account: str, phone_number: str, handset: str) -> bool:
        """Nobody ever does here."""
        del account, phone_number, handset
        return False

    def message_named(self, digits: str) -> Message | None:
        return self.message(SMS + digits) or self.message(MMS + digits)


class SingleLedgers:
    """The ledgers of one process without a task of their own: whoever wants something written
    writes it, together with what others want. Implements `Chains`."""

    def __init__(self, host: "Host", *, without: Rule | None) -> None:
        self._clock = host.author.clock
        make = _ForgetfulLedger if without is Rule.CLAIM else Ledger
        self._ledgers = [
            make(
                host.log,
                shard,
                Kind.MESSAGE,
                past=host.copy,
                clock=self._clock,
                links_max=LINKS_MAX,
            )
            for shard in range(host.log.shards)
        ]

    async def advance(self, shard: int, wish: Wish) -> LedgerAnswer:
        answers: list[LedgerAnswer] = []
        ledger = self._ledgers[shard]
        entry = ledger.add(wish, answers.append)
        try:
            while not answers:
                if await ledger.round() is None and not answers:
                    await self._clock.sleep(RETRY_PAUSE_S)
        finally:
            ledger.withdraw(entry)
        return answers[0]

    def want(self, shard: int, wish: Wish, tell: Callable[[LedgerAnswer], None]) -> Entry:
        """Written by whoever writes next; a worker here waits for each of its wishes."""
        return self._ledgers[shard].add(wish, tell)

    def withdraw(self, shard: int, entry: Entry) -> None:
        self._ledgers[shard].withdraw(entry)

    async def run(self) -> None:
        return


class _ForgetfulLedger(Ledger):
    """A ledger that gives every claim its place, whatever it knows."""

    def _newest(self, entry: Entry) -> Link | Unreadable | None:
        return None if entry.wish.record.type is Type.CLAIM else super()._newest(entry)


@dataclass(eq=False)
class Worker:
    """One incarnation of a host's dispatching process."""

    host: "Host"
    lease: str
    dispatcher: Dispatcher
    is_frozen: bool = False
    is_dead: bool = False


@dataclass(eq=False)
class Host:
    """One host: its clock, its view of the shards, its copy, and its dispatching process."""

    name: str
    author: Author
    health: ShardHealth
    copy: ReadCopy
    log: HostLog
    acceptor: Acceptor
    worker: Worker = field(init=False)


def new_host(name: str, network: Network, clock: HostClock) -> Host:
    """A host without a dispatching process. Its ids are the same in every run."""
    numbers = itertools.count(1)
    author = Author(
        host=name,
        clock=clock,
        entropy=lambda size: name.encode() + next(numbers).to_bytes(size - len(name), "big"),
    )
    health = ShardHealth(clock)
    copy = ReadCopy(network)
    log = HostLog(network.shards)
    acceptor = Acceptor(
        log, cast("Replica", copy), health, author, walks_max=WINDOW, walk_every_s=0.0
    )
    return Host(name, author, health, copy, log, acceptor)


def new_worker(
    host: Host, lease: str, *, policy: OnAmbiguous, dead_leases: set[str], without: Rule | None
) -> Worker:
    """A dispatching process of a host."""
    dispatcher = Dispatcher(
        log=host.log,
        chains=SingleLedgers(host, without=without),
        carrier=CarrierLink(),
        on_ambiguous=policy,
        leases=ClusterLeases(lease, dead_leases),
        recorder=EventRecorder(host.log, author=host.author),
        find=host.copy.message,
        counters=Counters(Tally(), Tally(), Tally(), Tally(), Tally()),
        author=host.author,
    )
    object.__setattr__(dispatcher, "_send_all", functools.partial(_one_by_one, dispatcher))
    if without is Rule.NONCE:
        dispatcher._attempts._unsent = cast("Any", _Everything())
    if without is Rule.AUTHOR_RESOLVES:
        dispatcher._attempts._working = cast("Any", _Everything())
    return Worker(host, lease, dispatcher)


class _Everything:
    """Whatever is asked for is in it."""

    def __contains__(self, item: object) -> bool:
        return True

    def __delitem__(self, item: object) -> None:
        return

    def add(self, item: object) -> None:
        del item

    def discard(self, item: object) -> None:
        del item

    def __setitem__(self, item: object, value: object) -> None:
        return

    def __len__(self) -> int:
        return 0


async def _one_by_one(
    dispatcher: Dispatcher, works: Sequence[Work], done: Callable[[], None]
) -> None:
    """In turn: here is no loop that could run them side by side."""
    for work in works:
        await dispatcher._send(work)
        done()


def together(host: Host, *texts: str) -> Draft:
    """What a gatherer makes of creates that come at the same moment."""
    name = host.author.entropy(SHARED_DIGITS // 2).hex()
    own_bytes = 16 - SHARED_DIGITS // 2
    sids = [SMS + name + host.author.entropy(own_bytes).hex() for _ in texts]
    first, *others = (
        Draft(
            Kind.MESSAGE,
            sid,
            ACCOUNT,
            MessageCreated(sid=sid, sender=SENDER, recipient=RECIPIENT, text=text),
            is_keyed=False,
            name=name,
        )
        for sid, text in zip(sids, texts, strict=True)
    )
    return msgspec.structs.replace(first, others=tuple(others))
