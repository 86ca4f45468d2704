"""The scenarios of the protocol that are about trimming, each with its rule in force and without.

The real append, fence, markers and trimmer run on the memory engine; workers and copies are a few
lines here. A rule left out must send a message twice or lose it, or the scenario shows nothing.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import pytest
from tests.unit.log.scripted_log import (
    ACCOUNT,
    Fate,
    Publish,
    ScriptedLog,
    draft,
    in_virtual_time,
    pen,
    walk,
)

from trunkline.domain.events import Kind, Type
from trunkline.domain.message import Message, fold
from trunkline.kernel import Deadline, FakeClock
from trunkline.log.append import Appended, ShardHealth, append, is_late
from trunkline.log.event import Event, created_filter, decode
from trunkline.log.fence import Verdict, is_true_copy
from trunkline.log.interface import Consumer, Delivery, Extent, Unreadable
from trunkline.log.limits import COPY_LAG_MAX_S, LATE_MAX_S, WORK_MAX_S
from trunkline.log.marker import Markers
from trunkline.log.trim import TrimLimits, Trimmer
from trunkline.messaging.accept import Acceptor, Created, NewMessage, OutcomeUnknown
from trunkline.replica.queries import Replica

pytestmark = pytest.mark.anyio

NAME: Final = "7" * 32
A, B = walk(NAME)[:2]
DAY_S: Final = 86_400.0
MARKS_A_DAY: Final = 4


@dataclass
class World:
    """One log, one dispatcher for each shard, one copy that is always complete."""

    limits: TrimLimits = field(default_factory=TrimLimits)
    late_counts_as_closed: bool = True
    work_is_bounded: bool = True
    floors_of: tuple[int, ...] = ()
    """If given, only these shards are asked how far their readers are."""
    reads_floors: bool = True
    sent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.log = ScriptedLog(self.clock)
        self.author = pen("one", self.clock)
        self.consumers: dict[int, Consumer] = {}
        self.copy = ReadCopy()
        shards = self.floors_of or range(self.log.shards)
        self.markers = {shard: Markers(shard) for shard in shards}
        self.trimmer = Trimmer(self.markers, self.limits)

    async def create(self, *, at: float | None = None) -> object:
        making = append(
            self.log,
            draft(NAME),
            author=self.author,
            health=ShardHealth(self.clock),
            at=at,
        )
        return await in_virtual_time(self.clock, making)

    async def take(self, shard: int) -> Sequence[Delivery]:
        """What a dispatcher of the shard is given."""
        if shard not in self.consumers:
            filters = [created_filter(shard, Kind.MESSAGE)]
            self.consumers[shard] = await self.log.consumer(shard, "dispatch", filters)
        return await self.consumers[shard].fetch(10, 0.0)

    async def work(self, *shards: int) -> None:
        """Dispatch everything that the shards give, until they give nothing."""
        for shard in shards or range(self.log.shards):
            while deliveries := await self.take(shard):
                for delivery in deliveries:
                    await self.dispatch(delivery)

    async def dispatch(self, delivery: Delivery) -> None:
        stored = delivery.stored
        event = decode(stored.payload)
        is_closed = self.late_counts_as_closed and is_late(event, stored.at)
        if event.type is Type.ORIGINAL and not is_closed:
            deadline = Deadline.after(WORK_MAX_S, self.clock)
            verdict = await is_true_copy(
                self.log, event, stored, clock=self.clock, deadline=deadline
            )
            if verdict is Verdict.UNSETTLED or (self.work_is_bounded and deadline.has_passed()):
                await delivery.nak(0.0)
                return
            if verdict is Verdict.TRUE:
                self.sent.append(event.sid)
                self.copy.know(event)
        await delivery.ack()

    async def retain(self) -> None:
        """One pass of the retention, as the service makes it."""
        for shard, markers in self.markers.items():
            await markers.publish(self.log)
            await markers.read(self.log)
            extent = await self.log.extent(shard, timeout_s=1.0)
            floors = await self.log.ack_floors(shard, timeout_s=1.0)
            assert isinstance(extent, Extent)
            assert not isinstance(floors, Unreadable)
            known = dict(floors) if self.reads_floors else {}
            self.trimmer.observe(shard, {"copy": extent.last, **known})
        decided = self.trimmer.decide(wall=self.clock.wall(), monotonic=self.clock.monotonic())
        for shard, before in decided.items():
            await self.log.purge(shard, before=before, timeout_s=1.0)

    async def pass_time(self, seconds: float) -> None:
        """With a pass every few hours; of minutes, every ten seconds."""
        step_s = DAY_S / MARKS_A_DAY if seconds > DAY_S else 10.0
        for _ in range(int(seconds / step_s)):
            await self.retain()
            await self.clock.advance(step_s)
        await self.retain()

    async def stands_in(self, shard: int) -> list[Type]:
        return [event.type for event in await self.log.chain(shard, NAME)]


class ReadCopy:
    """What a host's copy knows, and how far behind it says it is."""

    def __init__(self) -> None:
        self.lag_s = 0.0
        self.known: dict[str, Message] = {}

    def know(self, event: Event) -> None:
        self.known[event.sid] = fold(
            Message(account=ACCOUNT),
            event.body(),
            at=event.at,
            event_id=event.id,
            position=event.position,
        )

    def message(self, sid: str) -> Message | None:
        return self.known.get(sid)

    def opt_out(self, account: str, phone_number: str, handset: str) -> bool:
        """Nobody ever does here."""
        del account, phone_number, handset
        return False

    def message_named(self, digits: str) -> Message | None:
        return next((each for sid, each in self.known.items() if sid[2:] == digits), None)

    def lag_ms(self) -> float:
        return self.lag_s * 1000.0


async def stored_in_a_and_b(world: World) -> None:
    """A took it and could not say so; B took it, and its client was told 201."""
    world.log.will(A, Fate.ANSWER_LOST)
    answer = await world.create()
    assert isinstance(answer, Appended)
    assert answer.shard == B


async def connected(world: World) -> None:
    """Every dispatcher of every shard is there, before anything happens."""
    for shard in range(world.log.shards):
        await world.take(shard)


@pytest.mark.parametrize("is_ruled", [True, False])
async def test_s11_what_nobody_handled_for_sixty_days_is_still_there(is_ruled: bool) -> None:
    world = World(reads_floors=is_ruled)
    await connected(world)
    assert isinstance(await world.create(), Appended)

    await world.pass_time(60 * DAY_S)
    await world.work()

    assert len(world.sent) == (1 if is_ruled else 0)


@pytest.mark.parametrize("is_ruled", [True, False])
async def test_s12_a_fence_meets_what_it_needs_in_a_shard_that_is_done_itself(
    is_ruled: bool,
) -> None:
    world = World(floors_of=() if is_ruled else (A,))
    await connected(world)
    await stored_in_a_and_b(world)
    await world.work(*(shard for shard in range(world.log.shards) if shard != B))

    await world.pass_time(60 * DAY_S)
    await world.work(B)

    assert len(world.sent) == (1 if is_ruled else 2)


@pytest.mark.parametrize("is_ruled", [True, False])
async def test_s13_an_original_that_lands_where_a_tombstone_was_trimmed_is_late(
    is_ruled: bool,
) -> None:
    world = World(late_counts_as_closed=is_ruled)
    await connected(world)
    world.log.will(A, Fate.DELAYED)
    await world.create()
    await world.work()
    assert await world.stands_in(A) == [Type.TOMBSTONE]

    await world.pass_time(4 * DAY_S)
    assert await world.stands_in(A) == []
    await world.log.land()
    await world.work()

    assert await world.stands_in(A) == [Type.ORIGINAL]
    assert len(world.sent) == (1 if is_ruled else 2)


@pytest.mark.parametrize("is_ruled", [True, False])
async def test_s13_a_tombstone_stands_for_as_long_as_an_original_may_land_in_time(
    is_ruled: bool,
) -> None:
    barrier_s = COPY_LAG_MAX_S + LATE_MAX_S if is_ruled else 0.0
    world = World(TrimLimits(retain_s=0.0, barrier_s=barrier_s))
    await connected(world)
    world.log.will(A, Fate.DELAYED)
    await world.create()
    await world.work()

    await world.pass_time(LATE_MAX_S - 60.0)
    await world.log.land()
    await world.work()

    assert len(world.sent) == (1 if is_ruled else 2)


async def a_worker_freezes_before_its_tombstone(world: World, frozen_s: float) -> None:
    """B's worker stands before the publish into A; another one gets the delivery, and finds A's
    copy; A's is sent. Time passes; then the first worker thaws."""
    await stored_in_a_and_b(world)
    thawed = asyncio.Event()
    is_reached = asyncio.Event()

    async def freeze(publish: Publish) -> None:
        if publish.event.type is Type.TOMBSTONE and not is_reached.is_set():
            is_reached.set()
            await thawed.wait()

    world.log.on_publish = freeze
    (delivery,) = await world.take(B)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.dispatch(delivery))
        await is_reached.wait()
        world.log.on_publish = None
        await world.log.deliver_again()
        await world.work()
        assert len(world.sent) == 1
        await world.pass_time(frozen_s)
        thawed.set()
    await world.work()


@pytest.mark.parametrize("is_ruled", [True, False])
async def test_s15_a_fencer_that_was_frozen_for_longer_than_anything_is_kept_does_nothing(
    is_ruled: bool,
) -> None:
    world = World(work_is_bounded=is_ruled)
    await connected(world)

    await a_worker_freezes_before_its_tombstone(world, 5 * DAY_S)

    assert len(world.sent) == (1 if is_ruled else 2)


@pytest.mark.parametrize("is_ruled", [True, False])
async def test_s15_nothing_is_trimmed_while_a_fencer_may_still_act(is_ruled: bool) -> None:
    work_s = WORK_MAX_S if is_ruled else 0.0
    world = World(TrimLimits(retain_s=0.0, barrier_s=0.0, work_s=work_s))
    await connected(world)

    await a_worker_freezes_before_its_tombstone(world, WORK_MAX_S - 10.0)

    assert len(world.sent) == (1 if is_ruled else 2)


KEY: Final = "a key of long ago"
NEW: Final = NewMessage(account=ACCOUNT, sender="+15550001", recipient="+15550002", text="hello")


async def accept(world: World) -> object:
    acceptor = Acceptor(
        world.log,
        cast("Replica", world.copy),
        ShardHealth(world.clock),
        world.author,
    )
    deadline = Deadline.after(5.0, world.clock)
    return await in_virtual_time(world.clock, acceptor.accept(NEW, key=KEY, deadline=deadline))


async def sent_and_trimmed(world: World) -> None:
    await connected(world)
    assert isinstance(await accept(world), Created)
    await world.work()
    await world.pass_time(4 * DAY_S)
    assert not [each for each in await world.log.everything() if b"hello" in each.payload]


@pytest.mark.parametrize("is_ruled", [True, False])
async def test_s16_a_key_is_known_after_its_message_was_trimmed(is_ruled: bool) -> None:
    world = World()
    await sent_and_trimmed(world)
    if not is_ruled:
        world.copy.known.clear()

    answer = await accept(world)
    await world.work()

    assert isinstance(answer, Created)
    assert answer.is_repeat is is_ruled
    assert len(world.sent) == (1 if is_ruled else 2)


async def test_s16_a_host_whose_copy_is_far_behind_takes_no_keys() -> None:
    world = World()
    await sent_and_trimmed(world)
    world.copy.known.clear()
    world.copy.lag_s = COPY_LAG_MAX_S + 1.0

    answer = await accept(world)
    await world.work()

    assert isinstance(answer, OutcomeUnknown)
    assert len(world.sent) == 1


@pytest.mark.parametrize("is_ruled", [True, False])
async def test_s16_a_create_that_froze_behind_its_look_at_the_copy_is_late(is_ruled: bool) -> None:
    world = World()
    await connected(world)
    looked_at = world.clock.wall()
    await world.create()
    await world.work()
    await world.pass_time(4 * DAY_S)

    await world.create(at=looked_at if is_ruled else None)
    await world.work()

    assert len(world.sent) == (1 if is_ruled else 2)
