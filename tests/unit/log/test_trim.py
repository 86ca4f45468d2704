"""What may be trimmed, as the trimmer decides it from facts and time; and what is carried forward."""

from collections.abc import Mapping
from typing import Final

import pytest
from tests.unit.log.scripted_log import ACCOUNT, Fate, ScriptedLog, draft, pen

from trunkline.directory.accounts import open_account
from trunkline.directory.numbers import Owned, Taken, find_number, own_number
from trunkline.domain.events import AccountOpened, Kind, NumberOwned
from trunkline.domain.number import Number
from trunkline.kernel import Deadline, FakeClock
from trunkline.log.append import NotStored, ShardHealth, append
from trunkline.log.author import Author
from trunkline.log.carry import ENDS, carry
from trunkline.log.interface import Extent
from trunkline.log.limits import (
    COPY_LAG_MAX_S,
    KEY_WINDOW_S,
    LATE_MAX_S,
    MARKERS_KEPT_MAX,
    RETAIN_MIN_S,
    WORK_MAX_S,
)
from trunkline.log.marker import Marker, Markers
from trunkline.log.shards import home, order
from trunkline.log.trim import TrimLimits, Trimmer

pytestmark = pytest.mark.anyio

SHARDS: Final = 3
HOUR_S: Final = 3600.0
BARRIER_S: Final = COPY_LAG_MAX_S + LATE_MAX_S
PHONE: Final = "+15125550100"
OTHERS: Final = "AC" + "b" * 32


class Facts:
    """Three shards, each with a marker every hour: the marker of hour `h` has sequence `10 * h`."""

    def __init__(self, hours: int, limits: TrimLimits | None = None) -> None:
        self.now = hours * HOUR_S
        markers = {shard: Markers(shard) for shard in range(SHARDS)}
        for known in markers.values():
            for hour in range(1, hours + 1):
                known.add(Marker(10 * hour, hour * HOUR_S))
        self.trimmer = Trimmer(markers, limits or TrimLimits())
        self.through(10 * hours)

    def through(self, *sequences: int) -> None:
        """How far the readers of each shard are; one number is for all."""
        for shard in range(SHARDS):
            sequence = sequences[shard % len(sequences)]
            self.trimmer.observe(shard, {"dispatch": sequence, "projector": sequence + 5})

    def decide(self, *, after_s: float = 0.0) -> Mapping[int, int]:
        now = self.now + after_s
        return self.trimmer.decide(wall=now, monotonic=now)

    def settled(self) -> Mapping[int, int]:
        self.decide()
        return self.decide(after_s=WORK_MAX_S)


def all_at(sequence: int) -> Mapping[int, int]:
    return dict.fromkeys(range(SHARDS), sequence)


def test_what_everybody_is_through_with_goes_when_it_is_two_days_old() -> None:
    assert Facts(hours=100).settled() == all_at(10 * 52)


def test_nothing_goes_before_work_in_hand_must_have_been_given_up() -> None:
    facts = Facts(hours=100)

    assert facts.decide() == {}
    assert facts.decide(after_s=WORK_MAX_S - 1.0) == {}
    assert facts.decide(after_s=WORK_MAX_S) == all_at(10 * 52)


def test_one_reader_of_one_shard_holds_back_all_of_them() -> None:
    facts = Facts(hours=100)
    facts.through(1000, 205, 1000)

    # Past the marker of hour 20, which is proof for what was sent a quarter of an hour before it.
    assert facts.settled() == all_at(10 * 19)


def test_a_shard_that_never_could_be_asked_holds_back_everything() -> None:
    markers = {shard: Markers(shard) for shard in range(SHARDS)}
    for known in markers.values():
        known.add(Marker(10, HOUR_S))
    trimmer = Trimmer(markers, TrimLimits())
    for shard in range(SHARDS - 1):
        trimmer.observe(shard, {"dispatch": 100})

    for now in (1000 * HOUR_S, 2000 * HOUR_S):
        assert trimmer.decide(wall=now, monotonic=now) == {}


def test_a_shard_that_cannot_be_asked_any_more_keeps_the_floor_it_had() -> None:
    facts = Facts(hours=60)
    for shard, known in facts.trimmer._markers.items():
        for hour in range(61, 201):
            known.add(Marker(10 * hour, hour * HOUR_S))
            if shard != 1:
                facts.trimmer.observe(shard, {"dispatch": 10 * hour})
    facts.now = 200 * HOUR_S

    assert facts.settled() == all_at(10 * 59)


def test_a_floor_that_went_back_takes_back_what_was_seen() -> None:
    facts = Facts(hours=100)
    assert facts.settled() == all_at(10 * 52)

    facts.through(305)

    assert facts.decide(after_s=WORK_MAX_S + 1.0) == {}
    assert facts.decide(after_s=2 * WORK_MAX_S + 1.0) == all_at(10 * 29)


def test_a_shard_nobody_reads_is_not_taken_for_one_that_everybody_is_through_with() -> None:
    markers = {0: Markers(0)}
    markers[0].add(Marker(10, HOUR_S))
    trimmer = Trimmer(markers, TrimLimits())
    trimmer.observe(0, {})

    assert trimmer.decide(wall=1000 * HOUR_S, monotonic=0.0) == {}


def test_an_operator_is_told_whom_the_trimming_waits_for() -> None:
    facts = Facts(hours=100)
    facts.through(1000, 205, 1000)

    waiting = facts.trimmer.waiting()

    assert waiting is not None
    assert (waiting.shard, waiting.reader, waiting.sequence) == (1, "dispatch", 205)
    assert waiting.since == 20 * HOUR_S


def test_the_bounds_stand_in_the_order_that_the_argument_needs() -> None:
    assert WORK_MAX_S < LATE_MAX_S
    assert BARRIER_S < KEY_WINDOW_S < RETAIN_MIN_S
    assert TrimLimits() == TrimLimits(RETAIN_MIN_S, BARRIER_S, WORK_MAX_S)


def test_many_markers_are_thinned_out_and_the_newest_stay() -> None:
    markers = Markers(0)
    count = 10 * MARKERS_KEPT_MAX
    for number in range(1, count + 1):
        markers.add(Marker(number, float(number)))

    assert markers.oldest == Marker(1, 1.0)
    assert markers.newest_up_to(count) == Marker(count, float(count))
    assert len(markers._known) <= MARKERS_KEPT_MAX


async def test_markers_are_found_again_by_another_process() -> None:
    clock = FakeClock()
    log = ScriptedLog(clock, shards=1)
    first, second = Markers(0), Markers(0)
    for _ in range(5):
        assert await first.publish(log)
        await clock.advance(300.0)
    await first.read(log)

    await second.read(log)

    assert second == first
    assert second.newest_until(clock.wall()) == Marker(5, clock.wall() - 300.0)


def test_every_kind_of_resource_says_whether_it_ends() -> None:
    assert set(ENDS) == set(Kind)


async def own(log: ScriptedLog, clock: FakeClock, account: str) -> object:
    digit = account[-1]
    settings = NumberOwned(sid="PN" + digit * 32, phone_number=PHONE, friendly_name="desk")
    deadline = Deadline.after(5.0, clock)
    return await own_number(log, account, settings, author=pen("one", clock), deadline=deadline)


async def trim_all(log: ScriptedLog, shard: int, clock: FakeClock) -> bool:
    """Everything that the shard holds may go, as far as the trimmer is concerned."""
    markers = Markers(shard)
    assert await markers.publish(log)
    last = await log.last_sequence(shard, timeout_s=1.0)
    assert isinstance(last, int)
    if not await carry(log, shard, before=last, clock=clock):
        return False
    assert await log.purge(shard, before=last, timeout_s=1.0)
    return True


async def test_a_number_stays_its_owners_for_ever() -> None:
    clock = FakeClock()
    log = ScriptedLog(clock)
    assert isinstance(await own(log, clock, ACCOUNT), Owned)
    await clock.advance(60 * 86_400.0)

    for _ in range(3):
        assert await trim_all(log, home(PHONE), clock)

    assert isinstance(await own(log, clock, OTHERS), Taken)
    assert isinstance(await own(log, clock, ACCOUNT), Owned)
    found = await find_number(log, PHONE, timeout_s=1.0)
    assert isinstance(found, Number)
    assert found.account == ACCOUNT


async def test_an_account_that_was_carried_forward_is_found_and_not_made_anew() -> None:
    clock = FakeClock()
    log = ScriptedLog(clock)
    opened = AccountOpened(sid=ACCOUNT, friendly_name="First", auth_token="made-up")
    shard = order(ACCOUNT[2:])[0]
    for _ in range(3):
        author, deadline = pen("one", clock), Deadline.after(5.0, clock)
        assert await open_account(log, opened, author=author, deadline=deadline)
        await clock.advance(60 * 86_400.0)
        assert await trim_all(log, shard, clock)

    everywhere = {stored.shard for stored in await log.everything() if b"made-up" in stored.payload}
    assert everywhere == {shard}


async def test_nothing_is_purged_when_a_register_cannot_be_carried_forward() -> None:
    clock = FakeClock()
    log = ScriptedLog(clock)
    assert isinstance(await own(log, clock, ACCOUNT), Owned)
    marked = await log.last_sequence(home(PHONE), timeout_s=1.0)
    assert isinstance(marked, int)

    for fate in (Fate.REFUSED, Fate.LOST, Fate.ANSWER_LOST):
        log.will(home(PHONE), fate)
        assert not await carry(log, home(PHONE), before=marked + 1, clock=clock)

    assert await carry(log, home(PHONE), before=marked + 1, clock=clock)


async def test_a_full_log_takes_creates_again_when_it_was_trimmed() -> None:
    clock = FakeClock()
    log = ScriptedLog(clock, shards=1, bytes_max=100_000)
    author, health = pen("one", clock), ShardHealth(clock)
    created = 0
    while not isinstance(await create(log, author, health, created), NotStored):
        created += 1
    full = await log.extent(0, timeout_s=1.0)
    assert isinstance(full, Extent)
    assert 0.79 < full.bytes / full.bytes_max < 0.82, "the last room is for what is there already"

    assert await trim_all(log, 0, clock)

    assert not isinstance(await create(log, author, health, created), NotStored)


async def create(log: ScriptedLog, author: Author, health: ShardHealth, number: int) -> object:
    return await append(log, draft(f"{number:032x}"), author=author, health=health)
