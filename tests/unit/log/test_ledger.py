"""A ledger: many chains in one place, each as if it stood alone."""

import asyncio
import functools
import itertools
import operator
from collections.abc import Sequence

import pytest
from tests.unit.log.scripted_log import ACCOUNT, Fate, ScriptedLog, in_virtual_time, pen

from trunkline.domain.events import Ambiguous, Body, Claimed, HandedOver, Kind, Type
from trunkline.domain.message import Link, link_of
from trunkline.kernel import Deadline, FakeClock
from trunkline.log.author import Author
from trunkline.log.chain import Advanced, Stalled
from trunkline.log.event import chain_subject, decode_all
from trunkline.log.interface import Unreadable
from trunkline.log.ledger import Ledger, LedgerAnswer, Overtaken, Wish
from trunkline.log.ledgers import Ledgers

pytestmark = pytest.mark.anyio

SHARD = 4
ONE, TWO, SIX = ("1" * 32, "2" * 32, "6" * 32)


class ScriptedPast:
    """A read copy that shows what it is told to. Implements `Past`."""

    def __init__(self) -> None:
        self.shown_to = 0
        self.links: dict[str, Link] = {}
        self.is_readable = True

    def sequence(self, shard: int) -> int:
        del shard
        return self.shown_to

    def link(self, digits: str, shard: int) -> Link | Unreadable | None:
        del shard
        return self.links.get(digits) if self.is_readable else Unreadable("locked")

    async def follow(self, log: ScriptedLog) -> None:
        """Show everything that stands in the log."""
        for stored in await log.everything():
            for event in decode_all(stored.payload):
                link = link_of(
                    event.id, event.type, event.body(), shard=SHARD, sequence=stored.sequence
                )
                if link is not None:
                    self.links[event.sid[2:]] = link
            self.shown_to = stored.sequence


class Writer:
    """One process that writes in the ledger."""

    def __init__(
        self,
        name: str,
        log: ScriptedLog,
        clock: FakeClock,
        past: ScriptedPast | None = None,
        *,
        links_max: int = 100,
    ) -> None:
        self.author: Author = pen(name, clock)
        self.past = past or ScriptedPast()
        self.ledger = Ledger(
            log, SHARD, Kind.MESSAGE, past=self.past, clock=clock, links_max=links_max
        )
        self._clock = clock

    def wish(
        self, digits: str, type_: Type, body: Body, *, behind: int = 0, within_s: float = 5.0
    ) -> Wish:
        return Wish(
            record=self.author.event(Kind.MESSAGE, type_, ACCOUNT, "SM" + digits, body),
            body=body,
            original=1,
            behind=behind,
            deadline=Deadline.after(within_s, self._clock),
        )

    def claim(self, digits: str, *, within_s: float = 5.0) -> Wish:
        body = Claimed(attempt=1, nonce="n", lease=self.author.host, carrier="acme")
        return self.wish(digits, Type.CLAIM, body, within_s=within_s)

    def outcome(self, digits: str, *, behind: int) -> Wish:
        body = HandedOver(attempt=1, carrier="acme", carrier_message_id="1")
        return self.wish(digits, Type.OUTCOME, body, behind=behind)

    async def write(self, *wishes: Wish) -> Sequence[LedgerAnswer]:
        """What comes of the wishes, all made at once, in their order."""
        answers: dict[int, LedgerAnswer] = {}
        for number, wish in enumerate(wishes):
            self.ledger.add(wish, functools.partial(operator.setitem, answers, number))

        async def until_settled() -> None:
            while self.ledger.is_wanted:
                if await self.ledger.round() is None:
                    await self._clock.sleep(0.05)

        await in_virtual_time(self._clock, until_settled())
        return [answers[number] for number in range(len(wishes))]


@pytest.fixture
def one(log: ScriptedLog, clock: FakeClock) -> Writer:
    return Writer("one", log, clock)


@pytest.fixture
def two(log: ScriptedLog, clock: FakeClock) -> Writer:
    return Writer("two", log, clock)


def newest(answer: LedgerAnswer) -> Link:
    assert isinstance(answer, Overtaken)
    return answer.newest


async def test_records_of_many_messages_are_written_in_one_flush(
    log: ScriptedLog, one: Writer
) -> None:
    answers = await one.write(one.claim(ONE), one.claim(TWO), one.claim(SIX))

    assert answers == [Advanced(1), Advanced(1), Advanced(1)]
    assert [len(publish.events) for publish in log.published] == [3]
    assert log.published[0].subject == chain_subject(SHARD, Kind.MESSAGE)


async def test_two_records_of_one_message_never_share_a_write(one: Writer) -> None:
    first, second = await one.write(one.claim(ONE), one.claim(ONE))

    assert first == Advanced(1)
    assert newest(second).sequence == 1


async def test_of_two_processes_that_claim_the_same_message_one_is_told_of_the_other(
    one: Writer, two: Writer
) -> None:
    await two.write(two.claim(TWO))  # so that its view of the ledger is out of date below
    await one.write(one.claim(ONE))

    overtaken, other = await two.write(two.claim(ONE), two.claim(SIX))

    assert newest(overtaken).lease == "one"
    assert other == Advanced(3)


async def test_a_record_behind_one_that_is_not_the_newest_any_more_is_not_written(
    one: Writer, two: Writer
) -> None:
    (claimed,) = await one.write(one.claim(ONE))
    assert isinstance(claimed, Advanced)
    mark = Ambiguous(attempt=1, is_held=True)
    await two.write(two.wish(ONE, Type.AMBIGUOUS, mark, behind=claimed.sequence))

    (late,) = await one.write(one.outcome(ONE, behind=claimed.sequence))

    assert (newest(late).type, newest(late).is_held) == (Type.AMBIGUOUS, True)


async def test_a_lost_answer_is_asked_for_again_until_it_is_known(
    log: ScriptedLog, one: Writer
) -> None:
    log.will(SHARD, Fate.ANSWER_LOST, Fate.LOST, Fate.UNDECIDED, Fate.REFUSED)

    answers = await one.write(one.claim(ONE), one.claim(TWO))

    assert answers == [Advanced(1), Advanced(1)]
    assert len(await log.everything()) == 1


async def test_a_write_that_lands_late_counts_or_never_lands(
    log: ScriptedLog, one: Writer, two: Writer
) -> None:
    log.will(SHARD, Fate.DELAYED)
    (stalled,) = await one.write(one.claim(ONE, within_s=0.01))
    assert isinstance(stalled, Stalled)
    await two.write(two.claim(TWO))
    await log.land()

    assert [event.sid for event in await log.chain(SHARD, ONE)] == []
    assert await one.write(one.claim(ONE)) == [Advanced(2)]


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.REFUSED, Fate.UNDECIDED])
async def test_what_is_not_known_by_its_deadline_is_not_concluded_and_holds_up_nobody(
    log: ScriptedLog, one: Writer, fate: Fate
) -> None:
    log.will(SHARD, *itertools.repeat(fate, 30))

    short, long = await one.write(one.claim(ONE, within_s=0.5), one.claim(TWO, within_s=60.0))

    assert isinstance(short, Stalled)
    assert isinstance(long, Advanced)


async def test_nothing_is_concluded_from_an_empty_or_failed_read(
    log: ScriptedLog, one: Writer, two: Writer
) -> None:
    await one.write(one.claim(ONE))
    log.unreadable.add(SHARD)
    assert isinstance((await two.write(two.claim(ONE)))[0], Stalled)

    log.unreadable.clear()
    log.empty_looking.add(SHARD)
    assert isinstance((await two.write(two.claim(ONE)))[0], Stalled)


async def test_what_was_forgotten_is_looked_up_in_the_read_copy(
    log: ScriptedLog, clock: FakeClock, two: Writer
) -> None:
    forgetful = Writer("one", log, clock, links_max=1)
    for digits in (ONE, TWO, SIX):
        await forgetful.write(forgetful.claim(digits))
        await forgetful.past.follow(log)
    log.published.clear()

    (again,) = await forgetful.write(forgetful.claim(ONE))
    assert newest(again).sequence == 1
    assert await forgetful.write(forgetful.outcome(TWO, behind=2)) == [Advanced(4)]
    assert len(log.published) == 1


async def test_nothing_is_forgotten_that_the_read_copy_does_not_show(
    log: ScriptedLog, clock: FakeClock
) -> None:
    forgetful = Writer("one", log, clock, links_max=1)
    for digits in (ONE, TWO, SIX):
        await forgetful.write(forgetful.claim(digits))

    (again,) = await forgetful.write(forgetful.claim(ONE))

    assert newest(again).sequence == 1


async def test_a_read_copy_that_cannot_be_read_or_was_made_anew_is_waited_for(
    log: ScriptedLog, clock: FakeClock
) -> None:
    forgetful = Writer("one", log, clock, links_max=1)
    for digits in (ONE, TWO, SIX):
        await forgetful.write(forgetful.claim(digits))
        await forgetful.past.follow(log)

    forgetful.past.is_readable = False
    assert isinstance((await forgetful.write(forgetful.claim(ONE)))[0], Stalled)

    forgetful.past.is_readable = True
    forgetful.past.shown_to = 0
    assert isinstance((await forgetful.write(forgetful.claim(ONE)))[0], Stalled)


async def test_a_process_that_starts_reads_only_what_the_copy_does_not_show(
    log: ScriptedLog, clock: FakeClock, one: Writer
) -> None:
    past = ScriptedPast()
    await one.write(one.claim(ONE))
    await past.follow(log)
    await one.write(one.claim(TWO))

    fresh = Writer("two", log, clock, past)
    known, unknown, free = await fresh.write(*map(fresh.claim, (ONE, TWO, SIX)))

    assert (newest(known).sequence, newest(unknown).sequence) == (1, 2)
    assert free == Advanced(3)


async def test_an_engine_that_is_asked_by_many_tasks_writes_for_all_of_them(
    log: ScriptedLog, clock: FakeClock, one: Writer
) -> None:
    ledgers = Ledgers(log, Kind.MESSAGE, past=one.past, clock=clock)

    async def claim_all() -> list[LedgerAnswer]:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(ledgers.run())
            async with asyncio.TaskGroup() as claims:
                waiting = [
                    claims.create_task(ledgers.advance(SHARD, one.claim(digits)))
                    for digits in (ONE, TWO, SIX)
                ]
            running.cancel()
        return [each.result() for each in waiting]

    assert await in_virtual_time(clock, claim_all()) == [Advanced(1)] * 3
    assert len(log.published) == 1


async def test_a_ledger_that_was_trimmed_away_while_nobody_wrote_goes_on(
    log: ScriptedLog, one: Writer, two: Writer
) -> None:
    await one.write(one.claim(ONE))
    await two.write(two.claim(TWO))
    assert await log.purge(SHARD, before=3, timeout_s=0.0) == 2

    assert await one.write(one.claim(SIX)) == [Advanced(3)]
    claimed, overtaken = await two.write(two.outcome(TWO, behind=2), two.claim(SIX))
    assert claimed == Advanced(4)
    assert newest(overtaken).sequence == 3
