"""Append: one walk forward over a resource's shards, and what it may conclude from each answer."""

import pytest
from tests.unit.log.conftest import Host
from tests.unit.log.scripted_log import (
    Fate,
    Publish,
    ScriptedLog,
    draft,
    in_virtual_time,
    pen,
    put,
    walk,
)

from trunkline.domain.events import MessageCreated, Tombstone, Type
from trunkline.kernel import FakeClock
from trunkline.log.append import Appended, Found, NotStored, Uncertain, append
from trunkline.log.limits import ANSWER_MAX_S, EJECTED_S, LATE_MAX_S

pytestmark = pytest.mark.anyio

NAME = "5" * 32
FIRST, SECOND, THIRD, *REST = walk(NAME)


def tried(log: ScriptedLog) -> list[int]:
    return [publish.shard for publish in log.published]


def original(text: str = "hello") -> MessageCreated:
    return MessageCreated(sid="SM" + NAME, sender="+15550001", recipient="+15550002", text=text)


async def test_a_create_goes_to_the_first_shard_of_its_order(log: ScriptedLog, host: Host) -> None:
    answer = await host.created(NAME)

    assert (answer.shard, answer.event.position) == (FIRST, 0)
    assert tried(log) == [FIRST]


async def test_the_walk_goes_forward_in_the_order_of_the_name(log: ScriptedLog, host: Host) -> None:
    log.will(FIRST, Fate.REFUSED)
    log.will(SECOND, Fate.LOST)

    answer = await host.created(NAME)

    assert tried(log) == [FIRST, SECOND, THIRD]
    assert (answer.shard, answer.event.position) == (THIRD, 2)


async def test_every_copy_of_one_walk_is_the_same_event(log: ScriptedLog, host: Host) -> None:
    log.will(FIRST, Fate.ANSWER_LOST)

    await host.created(NAME)

    first, second = (publish.event for publish in log.published)
    assert (first.id, first.at, first.data) == (second.id, second.at, second.data)


async def test_a_keyless_copy_names_only_the_shards_that_gave_no_sure_answer(
    log: ScriptedLog, host: Host
) -> None:
    log.will(FIRST, Fate.REFUSED)
    log.will(SECOND, Fate.UNDECIDED)
    log.will(THIRD, Fate.LOST)

    answer = await host.created(NAME, is_keyed=False)

    assert answer.event.prior == (SECOND, THIRD)


async def test_a_keyed_copy_carries_its_place_and_no_list(log: ScriptedLog, host: Host) -> None:
    log.will(FIRST, Fate.REFUSED)
    log.will(SECOND, Fate.LOST)

    answer = await host.created(NAME)

    assert (answer.event.position, answer.event.prior) == (2, None)
    assert answer.event.is_keyed


async def test_a_repeated_key_finds_what_it_already_names(
    log: ScriptedLog, host: Host, other_host: Host
) -> None:
    first = await host.created(NAME)

    repeat = await other_host.create(NAME, text="something else")

    assert repeat == Found(first.event)
    assert len(await log.everything()) == 1


async def test_a_repeat_that_meets_a_tombstone_walks_on(log: ScriptedLog, host: Host) -> None:
    # S9: a fence planted it and died; there is no record here to return.
    await put(log, FIRST, NAME, host.author, Type.TOMBSTONE, Tombstone(for_shard=SECOND))

    answer = await host.created(NAME)

    assert (answer.shard, answer.event.position) == (SECOND, 1)


async def test_a_late_original_is_not_an_answer_to_a_repeat(
    log: ScriptedLog, host: Host, clock: FakeClock
) -> None:
    long_ago = pen("old", FakeClock(wall=clock.wall() - LATE_MAX_S - 1.0))
    await put(log, FIRST, NAME, long_ago, Type.ORIGINAL, original())

    answer = await host.created(NAME)

    assert answer.shard == SECOND


async def test_a_register_that_looks_empty_or_cannot_be_read_proves_nothing(
    log: ScriptedLog, host: Host, other_host: Host
) -> None:
    await host.created(NAME)
    log.unreadable.add(FIRST)
    diverted = await other_host.created(NAME, is_keyed=False)
    assert (diverted.shard, diverted.event.prior) == (SECOND, (FIRST,))

    log.unreadable.clear()
    log.empty_looking = {FIRST, SECOND}
    again = await other_host.created(NAME, is_keyed=False)

    assert (again.shard, again.event.prior) == (THIRD, (FIRST, SECOND))


async def test_an_undecided_register_is_no_proof_of_a_stored_original(
    log: ScriptedLog, host: Host, other_host: Host
) -> None:
    # S6: the repeat may not answer with a proposal that its leader can still lose.
    log.will(FIRST, Fate.PROPOSED)
    log.always(Fate.REFUSED, SECOND, THIRD, *REST)
    assert isinstance(await host.create(NAME), Uncertain)

    repeat = await other_host.create(NAME)

    assert isinstance(repeat, Uncertain)
    log.lose()
    assert await log.everything() == []


async def test_when_every_shard_refuses_surely_nothing_is_stored(
    log: ScriptedLog, host: Host
) -> None:
    log.always(Fate.REFUSED)

    answer = await host.create(NAME)

    assert answer == NotStored("no leader")
    assert tried(log) == list(walk(NAME))


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.DELAYED, Fate.UNDECIDED])
async def test_without_one_success_a_single_unsure_answer_makes_it_uncertain(
    log: ScriptedLog, host: Host, fate: Fate
) -> None:
    log.always(Fate.REFUSED)
    log.always(fate, THIRD)

    assert isinstance(await host.create(NAME), Uncertain)


async def test_a_shard_that_did_not_answer_is_only_ever_sent_the_same_bytes_again(
    log: ScriptedLog, host: Host
) -> None:
    # S2: a second lap of new copies could be answered in a shard that its own copy names.
    log.always(Fate.LOST)

    assert isinstance(await host.create(NAME, is_keyed=False), Uncertain)

    sent = {(publish.shard, publish.payload) for publish in log.published}
    assert len(sent) == len({shard for shard, _ in sent}) == log.shards
    assert tried(log)[: log.shards] == list(walk(NAME))
    assert set(tried(log)[log.shards :]) == {FIRST}


async def test_a_create_outlives_a_moment_in_which_no_shard_answers(
    log: ScriptedLog, host: Host
) -> None:
    for shard in walk(NAME):
        log.will(shard, Fate.LOST)

    answer = await host.created(NAME)

    assert (answer.shard, answer.event.position) == (FIRST, 0)
    assert len(await log.everything()) == 1


async def test_a_create_whose_answer_was_lost_everywhere_finds_its_first_copy(
    log: ScriptedLog, host: Host
) -> None:
    log.will(FIRST, Fate.LOST)
    for shard in walk(NAME)[1:]:
        log.will(shard, Fate.ANSWER_LOST)

    answer = await host.created(NAME)

    assert answer.shard == FIRST
    assert len(await log.everything()) == log.shards


async def test_a_register_closed_meanwhile_hands_the_create_to_the_next(
    log: ScriptedLog, host: Host
) -> None:
    log.always(Fate.REFUSED)
    log.will(FIRST, Fate.LOST)
    log.will(SECOND, Fate.ANSWER_LOST)

    async def close_first(publish: Publish) -> None:
        if publish.shard == FIRST and tried(log).count(FIRST) == 2:
            await put(log, FIRST, NAME, host.author, Type.TOMBSTONE, Tombstone(for_shard=SECOND))
            log.always(Fate.WELL)

    log.on_publish = close_first

    answer = await host.created(NAME)

    assert answer.shard == SECOND


async def test_a_create_that_took_too_long_is_not_answered_as_accepted(
    log: ScriptedLog, host: Host, clock: FakeClock
) -> None:
    async def slow(publish: Publish) -> None:
        del publish
        await clock.advance(ANSWER_MAX_S)

    log.on_publish = slow

    answer = await host.create(NAME)

    assert isinstance(answer, Uncertain)
    assert len(await log.everything()) == 1


async def test_a_shard_that_did_not_answer_is_passed_over_for_a_while(
    log: ScriptedLog, host: Host, clock: FakeClock
) -> None:
    log.will(FIRST, Fate.LOST)
    await host.created(NAME, is_keyed=False)
    assert host.health.is_ejected(FIRST)
    assert not host.health.is_ejected(SECOND)

    await clock.advance(EJECTED_S)

    assert not host.health.is_ejected(FIRST)


async def test_a_keyless_copy_does_not_name_a_shard_it_never_asked(
    log: ScriptedLog, host: Host
) -> None:
    host.health.eject(FIRST)

    answer = await host.created(NAME, is_keyed=False)

    assert (answer.shard, answer.event.prior) == (SECOND, ())


async def test_a_keyed_copy_stands_behind_an_ejected_shard_all_the_same(
    log: ScriptedLog, host: Host, other_host: Host
) -> None:
    # S4: another host, with another view, may be using it at this moment.
    host.health.eject(FIRST)

    behind = await host.created(NAME)
    before = await other_host.created(NAME)

    assert (behind.shard, behind.event.position) == (SECOND, 1)
    assert (before.shard, before.event.position) == (FIRST, 0)


async def test_a_refused_or_undecided_shard_is_not_ejected(log: ScriptedLog, host: Host) -> None:
    log.will(FIRST, Fate.REFUSED)
    log.will(SECOND, Fate.UNDECIDED)

    await host.created(NAME, is_keyed=False)

    assert not host.health.is_ejected(FIRST)
    assert not host.health.is_ejected(SECOND)


async def test_when_every_shard_is_ejected_the_walk_tries_them_anyway(
    log: ScriptedLog, host: Host
) -> None:
    for shard in walk(NAME):
        host.health.eject(shard)

    answer = await host.create(NAME)

    assert isinstance(answer, Appended)
    assert answer.shard == FIRST


async def test_refusals_of_a_repeat_say_nothing_about_an_earlier_try(
    log: ScriptedLog, host: Host, other_host: Host
) -> None:
    # S3: the first shard refuses the repeat; the copy behind it must still wait for its fence.
    await host.created(NAME)
    log.will(FIRST, Fate.REFUSED)

    repeat = await other_host.created(NAME)

    assert (repeat.shard, repeat.event.position, repeat.event.prior) == (SECOND, 1, None)


@pytest.mark.parametrize("waited_s", [ANSWER_MAX_S, LATE_MAX_S + 1.0, -LATE_MAX_S])
async def test_a_create_that_waited_since_its_copy_was_asked_is_not_stored(
    log: ScriptedLog, clock: FakeClock, host: Host, waited_s: float
) -> None:
    asked_at = clock.wall() - waited_s
    making = append(log, draft(NAME), author=host.author, health=host.health, at=asked_at)

    assert isinstance(await in_virtual_time(clock, making), NotStored)
    assert log.published == []


async def test_the_time_a_create_waited_counts_against_its_answer(
    log: ScriptedLog, clock: FakeClock, host: Host
) -> None:
    async def slow(publish: object) -> None:
        del publish
        await clock.sleep(3.0)

    log.on_publish = slow
    asked_at = clock.wall() - (ANSWER_MAX_S - 2.0)
    making = append(log, draft(NAME), author=host.author, health=host.health, at=asked_at)

    assert isinstance(await in_virtual_time(clock, making), Uncertain)
