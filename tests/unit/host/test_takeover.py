"""Three hosts dispatch from one log, in virtual time: who does what, and what a lost host leaves.

The log is the one in memory, which everybody can reach always: what is tried here is what hosts do
when they do not hear each other.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.unit.host.host_network import MemoryBus
from tests.unit.log.scripted_log import draft
from tests.unit.messaging.message_bench import NoPast, ScriptedCarrier, Tally

from trunkline.domain.events import Kind, Type
from trunkline.host.cluster_leases import ClusterLeases
from trunkline.host.leased_dispatch import LeasedDispatch
from trunkline.host.leases import FileLeases
from trunkline.host.members import Members
from trunkline.host.membership import ABSENT_S, TAKEOVER_S, Membership
from trunkline.host.shares import HostShares
from trunkline.host.standing import MUTE_S
from trunkline.kernel import Deadline
from trunkline.kernel.virtual import VirtualClock, run_in_virtual_time
from trunkline.log.append import Appended, ShardHealth, append
from trunkline.log.author import Author
from trunkline.log.engines.memory import MemoryLog
from trunkline.log.event import decode_all
from trunkline.log.interface import PublishAnswer, ReadAnswer, Unknown, Unreadable
from trunkline.log.ledgers import Ledgers
from trunkline.log.shards import SHARDS, order
from trunkline.messaging.attempt import CLAIM_MAX_S
from trunkline.messaging.carrier import Outcome, Submission
from trunkline.messaging.dispatch import Dispatcher
from trunkline.messaging.record import EventRecorder
from trunkline.messaging.work import Counters, OnAmbiguous

NAMES = ("a", "b", "c")
WITHIN_S = 0.5
"""From the death of a host to the hand-over of what was its to hand over."""


class HostsLog:
    """The log as one host has it; its answers may come late, or be lost."""

    def __init__(self, log: MemoryLog, clock: VirtualClock) -> None:
        self._log = log
        self._clock = clock
        self.answers_late_s = 0.0
        self.is_silent = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def publish(
        self, shard: int, subject: str, payload: bytes, *, expected: int | None, timeout_s: float
    ) -> PublishAnswer:
        answer = await self._log.publish(
            shard, subject, payload, expected=expected, timeout_s=timeout_s
        )
        await self._clock.sleep(self.answers_late_s)
        return Unknown("no answer") if self.is_silent else answer

    async def read_next(
        self, shard: int, subjects: str, *, after: int, timeout_s: float
    ) -> ReadAnswer:
        if self.is_silent:
            return Unreadable("no answer")
        return await self._log.read_next(shard, subjects, after=after, timeout_s=timeout_s)


class TimedCarrier(ScriptedCarrier):
    """Remembers when each message was handed to it."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self.at: list[float] = []

    async def submit(self, submission: Submission, *, key: str, deadline: Deadline) -> Outcome:
        self.at.append(self._clock.monotonic())
        return await super().submit(submission, key=key, deadline=deadline)


@dataclass
class Host:
    """One host's parts, and how it fails."""

    name: str
    bus: MemoryBus
    log: HostsLog
    carrier: TimedCarrier
    members: Members
    shares: HostShares
    dispatch: LeasedDispatch
    running: list[asyncio.Task[None]] = field(default_factory=list)

    def kill(self) -> None:
        """Nothing is said, answered or given back."""
        self.bus.is_cut = True
        for task in self.running:
            task.cancel()

    @property
    def sent(self) -> list[str]:
        return [each.reference.split(":")[1][2:] for each in self.carrier.submitted]


class World:
    """Three hosts at work on one log."""

    def __init__(self, folder: Path, *, on_ambiguous: OnAmbiguous = OnAmbiguous.HOLD) -> None:
        self.clock = VirtualClock()
        self.log = MemoryLog(clock=self.clock)
        self._numbers = itertools.count(1)
        self._names = (f"{number:032x}" for number in itertools.count(1))
        self._on_ambiguous = on_ambiguous
        buses = MemoryBus.joined(len(NAMES))
        self.hosts = {
            name: self._host(name, bus, folder / name)
            for name, bus in zip(NAMES, buses, strict=True)
        }

    def entropy(self, count: int) -> bytes:
        return next(self._numbers).to_bytes(count, "big")

    def _host(self, name: str, bus: MemoryBus, folder: Path) -> Host:
        (folder / "leases").mkdir(parents=True)
        clock, log = self.clock, HostsLog(self.log, self.clock)
        author = Author(name, clock, self.entropy)
        membership = Membership(NAMES, name, now=clock.monotonic())
        members = Members(bus, membership, clock=clock, rng=random.Random(name))
        shares = HostShares(members, what="shard", shards=SHARDS, clock=clock)
        carrier, share = TimedCarrier(clock), shares.new_share()

        def new_leases() -> ClusterLeases:
            file = FileLeases(folder / "leases", host=name, entropy=self.entropy)
            return ClusterLeases(file, members)

        def new_dispatcher(leases: ClusterLeases) -> Dispatcher:
            return Dispatcher(
                log=log,
                chains=Ledgers(log, Kind.MESSAGE, past=NoPast(), clock=clock),
                carrier=carrier,
                on_ambiguous=self._on_ambiguous,
                leases=leases,
                recorder=EventRecorder(self.log, author=author),
                find=lambda _: None,
                counters=Counters(Tally(), Tally(), Tally(), Tally(), Tally()),
                author=author,
                share=share,
            )

        dispatch = LeasedDispatch(members, new_leases=new_leases, new_dispatcher=new_dispatcher)
        return Host(name, bus, log, carrier, members, shares, dispatch)

    async def put(self, shard: int) -> str:
        """An accepted message in this shard; its digits."""
        name = next(name for name in self._names if order(name)[0] == shard)
        answer = await append(
            self.log,
            draft(name),
            author=Author("api", self.clock, self.entropy),
            health=ShardHealth(self.clock),
        )
        assert isinstance(answer, Appended)
        return name

    def shards_of(self, name: str) -> list[int]:
        return [n for n, owner in enumerate(self.hosts["a"].shares.owners) if owner == name]

    def sent(self) -> list[str]:
        return [digits for host in self.hosts.values() for digits in host.sent]

    async def records(self, digits: str) -> list[Type]:
        """The chain of a message."""
        found = []
        for shard in self.log._shards:
            for stored in shard.behind(0):
                found += [e.type for e in decode_all(stored.payload) if e.sid[2:] == digits]
        return found

    async def run(self, test: Callable[["World"], Awaitable[None]]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for host in self.hosts.values():
                host.carrier.tasks = tasks
                host.running = [
                    tasks.create_task(host.members.run()),
                    tasks.create_task(host.dispatch.run()),
                ]
                host.members.set_ready()
            await asyncio.sleep(2.0)
            await test(self)
            for host in self.hosts.values():
                for task in (*host.running, *host.carrier.hand_overs):
                    task.cancel()


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    def run(
        test: Callable[[World], Awaitable[None]], on_ambiguous: OnAmbiguous = OnAmbiguous.HOLD
    ) -> None:
        async def main() -> None:
            await World(tmp_path, on_ambiguous=on_ambiguous).run(test)

        run_in_virtual_time(main())

    return run


def test_each_shard_is_read_by_one_host(play: Callable[..., None]) -> None:
    async def test(world: World) -> None:
        names = [await world.put(shard) for shard in range(SHARDS)]
        await asyncio.sleep(1.0)

        assert sorted(world.sent()) == sorted(names)
        for host in world.hosts.values():
            assert host.sent == [names[shard] for shard in world.shards_of(host.name)]
            assert len(host.sent) == SHARDS // len(NAMES)

    play(test)


def test_what_a_killed_host_had_not_begun_is_handed_over_by_others_within_half_a_second(
    play: Callable[..., None],
) -> None:
    async def test(world: World) -> None:
        lost = world.hosts["c"]
        lost.carrier.down_for_s = 1e9  # it takes nothing, so what comes has to wait
        own = world.shards_of("c")
        await asyncio.sleep(1.0)
        before = [await world.put(shard) for shard in own]
        died_at = world.clock.monotonic()
        lost.kill()
        await asyncio.sleep(0.05)
        during = [await world.put(shard) for shard in own]

        await asyncio.sleep(2.0)

        assert sorted(world.sent()) == sorted(before + during)
        handed_over_at = [at for name in "ab" for at in world.hosts[name].carrier.at]
        assert max(handed_over_at) - died_at <= WITHIN_S

    play(test)


def test_what_a_killed_host_had_in_hand_comes_to_the_next_without_the_engines_patience(
    play: Callable[..., None],
) -> None:
    async def test(world: World) -> None:
        lost = world.hosts["c"]
        shard = world.shards_of("c")[0]
        lost.log.answers_late_s = 1e9  # its claims stand, and it never hears of them
        claimed = await world.put(shard)
        await asyncio.sleep(0.01)
        waiting = await world.put(shard)  # behind a claim that is not answered
        await asyncio.sleep(0.01)
        assert await world.records(claimed) == [Type.ORIGINAL, Type.CLAIM]
        assert await world.records(waiting) == [Type.ORIGINAL]
        died_at = world.clock.monotonic()
        lost.kill()

        await asyncio.sleep(0.6)
        assert world.sent() == [waiting]
        assert world.hosts["a"].carrier.at + world.hosts["b"].carrier.at <= [died_at + WITHIN_S]

        # What it had claimed may have left, so it is never sent again in silence.
        await asyncio.sleep(TAKEOVER_S + 3.0)
        assert world.sent() == [waiting]
        assert await world.records(claimed) == [
            Type.ORIGINAL,
            Type.CLAIM,
            Type.AMBIGUOUS,
        ]

    play(test)


def test_what_a_host_is_not_sure_of_it_finds_out_itself_where_its_shard_has_gone_to_another(
    play: Callable[..., None],
) -> None:
    async def test(world: World) -> None:
        unsure = world.hosts["c"]
        unsure.log.is_silent = True
        name = await world.put(world.shards_of("c")[0])
        await asyncio.sleep(CLAIM_MAX_S / 2)
        assert await world.records(name) == [Type.ORIGINAL, Type.CLAIM]

        unsure.members.set_draining()  # from now on it is delivered to another
        await asyncio.sleep(CLAIM_MAX_S)
        assert world.shards_of("c") == []
        unsure.log.is_silent = False
        await asyncio.sleep(3.0)

        assert unsure.sent == [name]
        assert world.sent() == [name]
        assert await world.records(name) == [Type.ORIGINAL, Type.CLAIM, Type.OUTCOME]

    play(test)


def test_a_host_that_is_cut_off_stops_and_takes_its_shards_again_when_it_is_back(
    play: Callable[..., None],
) -> None:
    async def test(world: World) -> None:
        cut_off = world.hosts["c"]
        own = world.shards_of("c")
        cut_off.bus.is_cut = True
        names: list[str] = []
        for _ in range(80):
            names.append(await world.put(random.Random(len(names)).choice(own)))
            await asyncio.sleep(0.05)
        assert max(cut_off.carrier.at) <= 2.0 + MUTE_S + 0.001
        taken_at = [at for name in "ab" for at in world.hosts[name].carrier.at]
        assert 2.0 + ABSENT_S - 0.12 <= min(taken_at) <= 2.0 + WITHIN_S

        cut_off.bus.is_cut = False
        await asyncio.sleep(2.0)
        count = len(cut_off.sent)
        names += [await world.put(shard) for shard in own]
        await asyncio.sleep(1.0)

        assert len(cut_off.sent) == count + len(own)
        assert sorted(world.sent()) == sorted(names)
        assert world.shards_of("c") == own

    play(test)


def test_a_claimant_that_comes_back_after_others_took_over_sends_nothing(
    play: Callable[..., None],
) -> None:
    async def test(world: World) -> None:
        thawed = world.hosts["c"]
        shard = world.shards_of("c")[0]
        thawed.log.answers_late_s = TAKEOVER_S + 2.1  # as long as it is away, it knows of no answer
        name = await world.put(shard)
        await asyncio.sleep(0.01)
        thawed.bus.is_cut = True
        await asyncio.sleep(TAKEOVER_S + 2.0)
        # Another has marked its claim, and sent it again, flagged.
        assert [host.name for host in world.hosts.values() if host.sent] != ["c"]
        thawed.bus.is_cut = False
        thawed.log.answers_late_s = 0.0

        await asyncio.sleep(3.0)

        assert thawed.sent == []
        (again,) = [each for host in world.hosts.values() for each in host.carrier.submitted]
        assert world.sent() == [name]
        assert again.is_possible_duplicate

    play(test, OnAmbiguous.RESEND)


def test_a_draining_host_hands_its_shards_over_at_once(play: Callable[..., None]) -> None:
    async def test(world: World) -> None:
        draining = world.hosts["c"]
        own = world.shards_of("c")
        draining.members.set_draining()
        await asyncio.sleep(0.0)
        await asyncio.sleep(0.01)
        asked_at = world.clock.monotonic()
        names = [await world.put(shard) for shard in own]
        await asyncio.sleep(1.0)

        assert draining.sent == []
        assert sorted(world.sent()) == sorted(names)
        handed_over_at = [at for name in "ab" for at in world.hosts[name].carrier.at]
        assert max(handed_over_at) - asked_at <= 0.05

    play(test)
