"""A bench for the messaging services: a log that fails as told, carriers and leases by script.

Time is virtual. `Bench.pass_time` moves it and makes every service look for work again; whatever
can run has run when it returns.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, Self

from tests.unit.log.scripted_log import ACCOUNT, ScriptedLog, draft, in_virtual_time, pen

from trunkline.domain.events import Kind, Type
from trunkline.domain.message import Message, fold
from trunkline.kernel import Deadline, FakeClock
from trunkline.log.append import Appended, ShardHealth, append, is_late
from trunkline.log.author import Author
from trunkline.log.event import Event, decode_all
from trunkline.log.interface import Unreadable
from trunkline.log.ledger import Past
from trunkline.log.ledgers import Ledgers
from trunkline.messaging import carrier
from trunkline.messaging import schedule as scheduling
from trunkline.messaging.carrier import Item, Outcome, Submission
from trunkline.messaging.dispatch import TOGETHER_MIN, Dispatcher
from trunkline.messaging.record import EventRecorder
from trunkline.messaging.schedule import DueMessages, HoldsBack, Schedule, one_after_another
from trunkline.messaging.work import (
    Counters,
    HasOptedOut,
    OnAmbiguous,
    OwnsSender,
    everybody_does,
    nobody_has,
)
from trunkline.replica.progress import Progress
from trunkline.replica.projector import Projector
from trunkline.replica.queries import Replica

TEST_MAX_S: Final = 30.0
"""No test waits longer than this for anything, in real time. It is there for what hangs: on a machine
that is busy with other work, what takes a second takes ten."""

STEP_S: Final = 1.0
CATCH_UP_STEP_S: Final = 0.01


class Tally:
    """A counter that a test can read."""

    def __init__(self) -> None:
        self.count = 0.0

    def inc(self, amount: float = 1.0) -> None:
        self.count += amount


@dataclass
class ScriptedLeases:
    """One process's lease, and which others are live."""

    own: str
    is_valid: bool = True
    live: set[str] = field(default_factory=set)
    on_check: Callable[[], None] = lambda: None

    def is_own_valid(self) -> bool:
        self.on_check()
        return self.is_valid

    def is_live(self, lease: str) -> bool:
        return lease in self.live


class ScriptedCarrier:
    """Gives the answers it is told to, an acceptance without; keeps what it was given."""

    name = "acme"

    def __init__(self, *, window: int = 10) -> None:
        self.window = window
        self.answers: deque[Outcome | Exception] = deque()
        self.submitted: list[Submission] = []
        self.under_way = 0
        self.most_under_way = 0
        self.answering = asyncio.Event()
        self.answering.set()
        self.offered: list[Item] = []
        self.acknowledged: list[str] = []
        self.asked = 0
        self.down_for_s = 0.0
        self.tasks: asyncio.TaskGroup | None = None
        self.hand_overs: list[asyncio.Task[None]] = []
        """Those of batches, and where they are under way."""

    def ready_in_s(self) -> float:
        return self.down_for_s

    async def submit(self, submission: Submission, *, key: str, deadline: Deadline) -> Outcome:
        assert key == submission.reference
        assert not deadline.has_passed()
        self.submitted.append(submission)
        number = len(self.submitted)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.answering.wait()
        finally:
            self.under_way -= 1
        answer = self.answers.popleft() if self.answers else carrier.Accepted(f"acme-{number}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def submit_many(
        self,
        submissions: Sequence[Submission],
        *,
        deadline: Deadline,
        on_outcome: carrier.OnOutcome,
    ) -> None:
        async def one(place: int, submission: Submission) -> None:
            key = submission.reference
            on_outcome(place, await self.submit(submission, key=key, deadline=deadline))

        bug = self.answers[0] if self.answers else None
        if isinstance(bug, Exception):
            self.submitted.extend(submissions)
            self.answers.popleft()
            raise bug
        assert self.tasks is not None, "the bench is not running"
        for place, submission in enumerate(submissions):
            self.hand_overs.append(self.tasks.create_task(one(place, submission)))

    async def receive(self, items_max: int, wait_s: float) -> Sequence[Item]:
        del wait_s
        self.asked += 1
        open_items = [each for each in self.offered if each.item_id not in self.acknowledged]
        return open_items[:items_max]

    async def acknowledge(self, item_ids: Sequence[str]) -> None:
        self.acknowledged.extend(item_ids)

    async def close(self) -> None:
        return

    @property
    def attempts(self) -> list[tuple[int, bool]]:
        """Every hand-over: the attempt that its reference names, and whether it was flagged."""
        return [
            (int(each.reference.split(":")[2]), each.is_possible_duplicate)
            for each in self.submitted
        ]


class NoPast:
    """A read copy that shows nothing, as when it was just made. Implements `Past`."""

    def sequence(self, shard: int) -> int:
        del shard
        return 0

    def link(self, digits: str, shard: int) -> None:
        del digits, shard


class Service(Protocol):
    """What a host runs."""

    async def run(self) -> None: ...


class Bench:
    """One log and one clock, for as many hosts as a test needs."""

    def __init__(self, *, together_min: int = TOGETHER_MIN) -> None:
        self.together_min = together_min
        self.clock = FakeClock()
        self.log = ScriptedLog(self.clock)
        self.carrier = ScriptedCarrier()
        self._carriers: list[ScriptedCarrier] = []
        self.known: dict[str, Message] = {}
        self.counters = Counters(Tally(), Tally(), Tally(), Tally(), Tally())
        self.put_off, self.due = Tally(), Tally()
        self.past: Past = NoPast()
        self.inactive: set[str] = set()
        self.is_copy_readable = True
        self.hold_back: HoldsBack | None = None
        """What holds messages back besides the schedule."""

    def author(self, host: str) -> Author:
        return pen(host, self.clock)

    def is_active(self, account: str) -> bool | Unreadable:
        """What the hosts know of an account."""
        if not self.is_copy_readable:
            return Unreadable("a damaged page")
        return account not in self.inactive

    @property
    def schedule(self) -> Schedule:
        counters = scheduling.Counters(put_off=self.put_off, due=self.due)
        return Schedule(self.log, clock=self.clock, counters=counters)

    def due_messages(self, dispatcher: Dispatcher) -> DueMessages:
        """What hands to `dispatcher` what is due."""
        return DueMessages(
            self.log,
            take=dispatcher.take,
            find=self.known.get,
            clock=self.clock,
            counters=scheduling.Counters(put_off=self.put_off, due=self.due),
        )

    async def put(
        self, digits: str, *, author: Author | None = None, send_in_s: float | None = None
    ) -> Appended:
        """An accepted message, in its first shard unless the log has other fates."""
        answer = await in_virtual_time(
            self.clock,
            append(
                self.log,
                draft(
                    digits,
                    send_at=None if send_in_s is None else self.clock.wall() + send_in_s,
                ),
                author=author or self.author("api"),
                health=ShardHealth(self.clock),
            ),
        )
        assert isinstance(answer, Appended)
        return answer

    def dispatcher(
        self,
        host: str,
        *,
        leases: ScriptedLeases | None = None,
        on_ambiguous: OnAmbiguous = OnAmbiguous.HOLD,
        carrier: ScriptedCarrier | None = None,
        has_opted_out: HasOptedOut = nobody_has,
        owns_sender: OwnsSender = everybody_does,
    ) -> Dispatcher:
        self._carriers.append(carrier or self.carrier)
        return Dispatcher(
            log=self.log,
            chains=Ledgers(self.log, Kind.MESSAGE, past=self.past, clock=self.clock),
            carrier=carrier or self.carrier,
            on_ambiguous=on_ambiguous,
            leases=leases or ScriptedLeases(host),
            recorder=EventRecorder(self.log, author=self.author(host)),
            find=self.known.get,
            counters=self.counters,
            author=self.author(host),
            together_min=self.together_min,
            hold_back=self.schedule.hold_back
            if self.hold_back is None
            else one_after_another(self.schedule.hold_back, self.hold_back),
            has_opted_out=has_opted_out,
            owns_sender=owns_sender,
            is_active=self.is_active,
        )

    @asynccontextmanager
    async def running(self, *services: Service) -> AsyncIterator["list[asyncio.Task[None]]"]:
        """The services at work; what is still under way at the end dies as a killed host would."""
        async with asyncio.timeout(TEST_MAX_S), asyncio.TaskGroup() as tasks:
            for each in self._carriers:
                each.tasks = tasks
            running = [tasks.create_task(service.run()) for service in services]
            await self.pass_time(0.0)
            try:
                yield running
            finally:
                hand_overs = [task for each in self._carriers for task in each.hand_overs]
                for task in (*running, *hand_overs):
                    task.cancel()

    async def pass_time(self, seconds: float) -> None:
        """Move time on in steps, with everybody looking for work after each."""
        await self._look()
        while seconds > 0.0:
            await self.clock.advance(min(STEP_S, seconds))
            seconds -= STEP_S
            await self._look()

    async def _look(self) -> None:
        await self.log.wake()
        await self.clock.advance(0.0)

    async def within_time(self, act: Coroutine[Any, Any, Any]) -> Any:
        """What `act` returns, with time moved on for as long as it waits."""
        return await in_virtual_time(self.clock, act)

    @property
    def acked(self) -> list[str]:
        """The ids of the originals that a service is done with."""
        return [event.id for event in self.log.acked if event.type is Type.ORIGINAL]

    @property
    def put_back(self) -> list[tuple[str, float]]:
        """The ids of the originals that a service wants again, and in how many seconds."""
        return [(event.id, delay_s) for event, delay_s in self.log.put_back]

    async def history(self, digits: str) -> list[tuple[float, Event]]:
        """Every event of a message, with the time at which it was stored."""
        return [
            (each.at, event)
            for each in await self.log.everything()
            for event in decode_all(each.payload)
            if event.sid[2:] == digits
        ]

    async def message(self, digits: str) -> Message:
        """The message as every copy will show it."""
        message = Message(account=ACCOUNT)
        for at, event in await self.history(digits):
            if not is_late(event, at):
                message = fold(
                    message, event.body(), at=event.at, event_id=event.id, position=event.position
                )
        return message


class Copy:
    """One host's read copy, fed by a running projector."""

    def __init__(self, bench: Bench, path: Path) -> None:
        self._bench = bench
        self._path = path
        self.progress = Progress(
            path.with_suffix(".progress"), shards=bench.log.shards, clock=bench.clock
        )
        self.projector = Projector(
            bench.log, path, self.progress, cluster="test", clock=bench.clock
        )
        self._replica: Replica | None = None

    @property
    def replica(self) -> Replica:
        assert self._replica is not None
        return self._replica

    async def catch_up(self) -> None:
        """Return when the copy holds all that the log holds now. Its disk takes real time."""
        async with asyncio.timeout(TEST_MAX_S):
            for shard in range(self._bench.log.shards):
                last = await self._bench.log.last_sequence(shard, timeout_s=0.0)
                assert isinstance(last, int)
                while self.progress.sequence(shard) < last:
                    await self._bench.clock.advance(CATCH_UP_STEP_S)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[Self]:
        """The copy, kept up to date until the block ends."""
        await self.projector.open()
        self._replica = Replica(self._path, self.progress)
        async with self._bench.running(self.projector):
            try:
                yield self
            finally:
                self._replica.close()
        self.progress.close()
