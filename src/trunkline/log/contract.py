"""What every engine must do, as checks that a test runs on it: `for check in CHECKS: await check(log)`.

Each check gets a log of its own kind in any state; it only uses names of its own.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from trunkline.kernel import Deadline, SystemClock
from trunkline.log.interface import (
    Accepted,
    ClusteredLog,
    Consumer,
    Delivery,
    Exists,
    Extent,
    Log,
    RetainedLog,
    Stored,
    Unreadable,
)
from trunkline.log.sharing_contract import SHARING

SHARD: Final = 3
TIMER_SHARD: Final = 1
TIMER_SERVICE: Final = "schedule"
WAIT_S: Final = 5.0
FAR_S: Final = 35 * 86_400.0
CLOCKS_DIFFER_S: Final = 0.01
_names: Final = itertools.count(1)


async def a_register_takes_one_original(log: Log) -> None:
    subject = _subject()
    first = await _publish(log, subject, b"one", expected=0)
    second = await _publish(log, subject, b"two", expected=0)

    assert isinstance(first, Accepted)
    assert isinstance(second, Exists)
    assert (await _first(log, subject)).payload == b"one"


async def a_chain_grows_only_behind_its_newest_record(log: Log) -> None:
    subject = _subject()
    original = await _publish(log, subject, b"original", expected=0)
    assert isinstance(original, Accepted)
    claim = await _publish(log, subject, b"claim", expected=original.sequence)
    assert isinstance(claim, Accepted)

    stale = await _publish(log, subject, b"stale claim", expected=original.sequence)

    assert isinstance(stale, Exists)
    assert claim.sequence > original.sequence
    assert (await _first(log, subject)).payload == b"original"
    assert (await _last(log, subject)).payload == b"claim"


async def an_empty_register_reads_as_nothing(log: Log) -> None:
    subject = _subject()

    assert await log.read_first(SHARD, subject, timeout_s=WAIT_S) is None
    assert await log.read_last(SHARD, subject, timeout_s=WAIT_S) is None


async def what_is_changed_may_repeat_a_subject(log: Log) -> None:
    subject = f"ev.{SHARD}.message.changed.AC{next(_names)}"

    answers = [await _publish(log, subject, b"%d" % n, expected=None) for n in range(3)]

    sequences = [answer.sequence for answer in answers if isinstance(answer, Accepted)]
    assert len(sequences) == 3
    assert sequences == sorted(set(sequences))
    assert await log.last_sequence(SHARD, timeout_s=WAIT_S) == sequences[-1]


async def a_consumer_is_given_what_it_asked_for_and_no_more(log: Log) -> None:
    kind = f"kind{next(_names)}"
    consumer = await log.consumer(SHARD, f"service-{kind}", [f"ev.{SHARD}.{kind}.created.>"])
    await _publish(log, f"ev.{SHARD}.{kind}.created.AC1.a", b"a", expected=0)
    await _publish(log, f"ev.{SHARD}.{kind}.changed.AC1", b"not asked for", expected=None)
    await _publish(log, f"ev.{SHARD}.{kind}.created.AC1.b", b"b", expected=0)

    seen: list[bytes] = []
    while len(seen) < 2:
        deliveries = await consumer.fetch(10, WAIT_S)
        assert deliveries, f"only {seen} came"
        for delivery in deliveries:
            seen.append(delivery.stored.payload)
            await delivery.ack()

    assert seen == [b"a", b"b"]
    assert await consumer.fetch(10, 0.05) == []
    await consumer.close()


async def what_was_put_back_comes_again(log: Log) -> None:
    kind = f"kind{next(_names)}"
    consumer = await log.consumer(SHARD, f"service-{kind}", [f"ev.{SHARD}.{kind}.created.>"])
    await _publish(log, f"ev.{SHARD}.{kind}.created.AC1.a", b"a", expected=0)

    (delivery,) = await consumer.fetch(10, WAIT_S)
    await delivery.nak(0.0)
    (again,) = await consumer.fetch(10, WAIT_S)

    assert again.stored == delivery.stored
    await again.ack()
    await consumer.close()


async def what_a_closed_consumer_had_in_hand_goes_to_the_next(log: Log) -> None:
    kind = f"kind{next(_names)}"
    filters = [f"ev.{SHARD}.{kind}.created.>"]
    first = await log.consumer(SHARD, f"service-{kind}", filters)
    await _publish(log, f"ev.{SHARD}.{kind}.created.AC1.a", b"a", expected=0)
    assert len(await first.fetch(1, WAIT_S)) == 1
    await first.close()

    second = await log.consumer(SHARD, f"service-{kind}", filters)
    (delivery,) = await second.fetch(1, WAIT_S)

    assert delivery.stored.payload == b"a"
    await delivery.ack()
    await second.close()


async def a_follower_sees_everything_behind_its_place_in_order(log: Log) -> None:
    subject = f"ev.{SHARD}.message.changed.AC{next(_names)}"
    start = await log.last_sequence(SHARD, timeout_s=WAIT_S)
    assert isinstance(start, int)
    follower = await log.follower(SHARD, after=start)
    for number in range(50):
        await _publish(log, subject, b"%d" % number, expected=None)

    seen: list[Stored] = []
    while len(seen) < 50:
        batch = await follower.fetch(20, WAIT_S)
        assert batch, f"only {len(seen)} of 50 came"
        seen.extend(batch)

    assert [stored.payload for stored in seen] == [b"%d" % number for number in range(50)]
    assert [stored.sequence for stored in seen] == list(range(start + 1, start + 51))
    await follower.close()


async def what_is_purged_is_gone_and_its_register_is_free(log: RetainedLog) -> None:
    subject = _subject()
    original = await _publish(log, subject, b"original", expected=0)
    kept = await _publish(log, _subject(), b"kept", expected=0)
    assert isinstance(original, Accepted)
    assert isinstance(kept, Accepted)

    removed = await log.purge(SHARD, before=kept.sequence, timeout_s=WAIT_S)
    again = await log.purge(SHARD, before=kept.sequence, timeout_s=WAIT_S)

    assert isinstance(removed, int)
    assert removed >= 1
    assert again == 0
    assert await log.read_first(SHARD, subject, timeout_s=WAIT_S) is None
    extent = await _extent(log)
    assert (extent.first, extent.last) == (kept.sequence, kept.sequence)
    assert isinstance(await _publish(log, subject, b"behind", expected=original.sequence), Exists)
    assert isinstance(await _publish(log, subject, b"anew", expected=0), Accepted)


async def purging_gives_room_back(log: RetainedLog) -> None:
    for _ in range(64):
        await _publish(log, _subject(), bytes(1024), expected=0)
    before = await _extent(log)

    await log.purge(SHARD, before=before.last, timeout_s=WAIT_S)

    after = await _extent(log)
    assert after.bytes <= before.bytes - 63 * 1024
    assert after.subjects <= before.subjects - 63
    assert after.bytes_max == before.bytes_max


async def a_purged_shard_still_counts_on(log: RetainedLog) -> None:
    stored = await _publish(log, _subject(), b"the last one", expected=0)
    assert isinstance(stored, Accepted)

    await log.purge(SHARD, before=stored.sequence + 1, timeout_s=WAIT_S)
    extent = await _extent(log)
    after = await _publish(log, _subject(), b"the next one", expected=0)

    assert (extent.first, extent.last) == (stored.sequence + 1, stored.sequence)
    assert await log.last_sequence(SHARD, timeout_s=WAIT_S) == stored.sequence + 1
    assert after == Accepted(stored.sequence + 1)


async def who_stands_before_what_is_purged_goes_on_behind_it(log: RetainedLog) -> None:
    kind = f"kind{next(_names)}"
    start = await log.last_sequence(SHARD, timeout_s=WAIT_S)
    assert isinstance(start, int)
    consumer = await log.consumer(SHARD, f"service-{kind}", [f"ev.{SHARD}.{kind}.created.>"])
    follower = await log.follower(SHARD, after=start)
    for number in range(10):
        await _publish(log, f"ev.{SHARD}.{kind}.created.AC1.{number}", b"%d" % number, expected=0)

    await log.purge(SHARD, before=start + 8, timeout_s=WAIT_S)
    late_follower = await log.follower(SHARD, after=start)

    assert await _payloads(consumer.fetch, 3) == [b"7", b"8", b"9"]
    assert await _payloads(late_follower.fetch, 3) == [b"7", b"8", b"9"]
    await _publish(log, f"ev.{SHARD}.{kind}.created.AC1.10", b"10", expected=0)
    # What was handed out before the purge may still come; what stands behind it has to.
    assert (await _payloads(follower.fetch, 1, until=b"10"))[-1] == b"10"
    for each in (consumer, follower, late_follower):
        await each.close()


async def a_floor_rises_with_what_is_acknowledged(log: RetainedLog) -> None:
    kind = f"kind{next(_names)}"
    service = f"service-{kind}"
    consumer = await log.consumer(SHARD, service, [f"ev.{SHARD}.{kind}.created.>"])
    first = await _publish(log, f"ev.{SHARD}.{kind}.created.AC1.a", b"a", expected=0)
    await _publish(log, f"ev.{SHARD}.{kind}.created.AC1.b", b"b", expected=0)
    other = await _publish(log, f"ev.{SHARD}.{kind}.changed.AC1", b"not asked for", expected=None)
    assert isinstance(first, Accepted)
    assert isinstance(other, Accepted)
    assert await _floor(log, service) < first.sequence

    one, two = await _deliveries(consumer, 2)
    await two.ack()
    await _settled(log, service)
    assert await _floor(log, service) < first.sequence

    await one.ack()
    for _ in range(2_000):
        assert await consumer.fetch(1, 0.01) == []
        if await _floor(log, service) >= other.sequence:
            break
    assert await _floor(log, service) == other.sequence, "an idle one is through with everything"
    await consumer.close()


async def what_was_put_back_holds_its_floor(log: RetainedLog) -> None:
    kind = f"kind{next(_names)}"
    service = f"service-{kind}"
    consumer = await log.consumer(SHARD, service, [f"ev.{SHARD}.{kind}.created.>"])
    stored = await _publish(log, f"ev.{SHARD}.{kind}.created.AC1.a", b"a", expected=0)
    assert isinstance(stored, Accepted)
    (delivery,) = await _deliveries(consumer, 1)

    await delivery.nak(3600.0)
    await _settled(log, service)

    assert await _floor(log, service) < stored.sequence
    await consumer.close()


async def the_next_message_on_some_subjects_is_found(log: RetainedLog) -> None:
    kind = f"kind{next(_names)}"
    subjects = f"ev.{SHARD}.{kind}.created.>"
    places = [
        await _publish(log, f"ev.{SHARD}.{kind}.{rest}", rest.encode(), expected=0)
        for rest in ("created.AC1.a", "changed.AC1", "created.AC1.b")
    ]
    first, _, third = (place.sequence for place in places if isinstance(place, Accepted))

    found = await log.read_next(SHARD, subjects, after=0, timeout_s=WAIT_S)
    assert isinstance(found, Stored)
    assert (found.sequence, found.payload) == (first, b"created.AC1.a")
    found = await log.read_next(SHARD, subjects, after=first, timeout_s=WAIT_S)
    assert isinstance(found, Stored)
    assert (found.sequence, found.payload) == (third, b"created.AC1.b")
    assert await log.read_next(SHARD, subjects, after=third, timeout_s=WAIT_S) is None
    one = await log.read_next(SHARD, f"ev.{SHARD}.{kind}.changed.AC1", after=0, timeout_s=WAIT_S)
    assert isinstance(one, Stored)


async def a_timer_fires_once_it_is_due_and_not_before(log: Log) -> None:
    name, now = _timer(), _wall()
    consumer = await log.timers.due(TIMER_SHARD, TIMER_SERVICE)
    await _set(log, name, now + 0.6, b"later")
    assert await consumer.fetch(10, 0.2) == []

    (delivery,) = await _due(consumer, 1)

    assert delivery.stored.payload == b"later"
    assert delivery.stored.subject.endswith(f".{name}")
    assert delivery.stored.at >= now + 0.6 - CLOCKS_DIFFER_S
    await delivery.ack()
    assert await log.timers.count(TIMER_SHARD, timeout_s=WAIT_S) == 0
    await consumer.close()


async def a_timer_in_the_past_is_due_at_once(log: Log) -> None:
    await _set(log, _timer(), _wall() - 3600.0, b"past")
    consumer = await log.timers.due(TIMER_SHARD, TIMER_SERVICE)

    (delivery,) = await _due(consumer, 1)

    assert delivery.stored.payload == b"past"
    await delivery.ack()
    await consumer.close()


async def a_timer_set_again_moves(log: Log) -> None:
    name, now = _timer(), _wall()
    consumer = await log.timers.due(TIMER_SHARD, TIMER_SERVICE)
    await _set(log, name, now + FAR_S, b"same")
    await _set(log, name, now + 0.1, b"same")

    (delivery,) = await _due(consumer, 1)

    await delivery.ack()
    assert await log.timers.count(TIMER_SHARD, timeout_s=WAIT_S) == 0
    await consumer.close()


async def a_dropped_timer_does_not_fire(log: Log) -> None:
    name, other = _timer(), _timer()
    consumer = await log.timers.due(TIMER_SHARD, TIMER_SERVICE)
    await _set(log, name, _wall() + 0.5, b"dropped")
    await _set(log, other, _wall() + 0.6, b"kept")

    assert await log.timers.drop(TIMER_SHARD, name, timeout_s=WAIT_S) == 1
    assert await log.timers.drop(TIMER_SHARD, name, timeout_s=WAIT_S) == 0

    (delivery,) = await _due(consumer, 1)
    assert delivery.stored.payload == b"kept"
    await delivery.ack()
    await consumer.close()


async def a_due_timer_that_was_put_back_or_let_go_comes_again(log: Log) -> None:
    await _set(log, _timer(), _wall(), b"again")
    first = await log.timers.due(TIMER_SHARD, TIMER_SERVICE)
    (delivery,) = await _due(first, 1)
    await delivery.nak(0.0)
    (again,) = await _due(first, 1)
    assert again.stored == delivery.stored
    await first.close()

    second = await log.timers.due(TIMER_SHARD, TIMER_SERVICE)
    (third,) = await _due(second, 1)

    assert third.stored == delivery.stored
    await third.ack()
    assert await log.timers.count(TIMER_SHARD, timeout_s=WAIT_S) == 0
    await second.close()


async def what_is_sent_over_the_bus_reaches_each_listener_once(log: ClusteredLog) -> None:
    word = f"check{next(_names)}"
    heard: list[tuple[str, bytes]] = []
    heard_below: list[tuple[str, bytes]] = []
    is_over = asyncio.Event()
    ends = [
        log.bus.subscribe(f"{word}.*", lambda subject, payload: heard.append((subject, payload))),
        log.bus.subscribe(
            f"{word}.>", lambda subject, payload: heard_below.append((subject, payload))
        ),
        log.bus.subscribe(f"{word}-over", lambda _subject, _payload: is_over.set()),
    ]

    assert log.bus.send(f"{word}.one", b"1")
    assert log.bus.send(f"{word}.one", b"")
    assert log.bus.send(f"{word}.one.two", b"2")
    assert log.bus.send(word, b"to nobody")
    assert log.bus.send(f"{word}-over", b"")
    async with asyncio.timeout(WAIT_S):
        await is_over.wait()

    assert heard == [(f"{word}.one", b"1"), (f"{word}.one", b"")]
    assert heard_below == [*heard, (f"{word}.one.two", b"2")]
    for end in ends:
        end()


async def who_stopped_listening_hears_nothing(log: ClusteredLog) -> None:
    word = f"check{next(_names)}"
    heard: list[bytes] = []
    is_over = asyncio.Event()
    end = log.bus.subscribe(word, lambda _subject, payload: heard.append(payload))
    end_over = log.bus.subscribe(f"{word}-over", lambda _subject, _payload: is_over.set())
    end()

    log.bus.send(word, b"unheard")
    log.bus.send(f"{word}-over", b"")
    async with asyncio.timeout(WAIT_S):
        await is_over.wait()

    assert heard == []
    end_over()


CHECKS: Final[tuple[Callable[[ClusteredLog], Awaitable[None]], ...]] = (
    a_register_takes_one_original,
    a_chain_grows_only_behind_its_newest_record,
    an_empty_register_reads_as_nothing,
    what_is_changed_may_repeat_a_subject,
    a_consumer_is_given_what_it_asked_for_and_no_more,
    what_was_put_back_comes_again,
    what_a_closed_consumer_had_in_hand_goes_to_the_next,
    *SHARING,
    a_follower_sees_everything_behind_its_place_in_order,
    what_is_purged_is_gone_and_its_register_is_free,
    purging_gives_room_back,
    a_purged_shard_still_counts_on,
    who_stands_before_what_is_purged_goes_on_behind_it,
    a_floor_rises_with_what_is_acknowledged,
    what_was_put_back_holds_its_floor,
    the_next_message_on_some_subjects_is_found,
    a_timer_fires_once_it_is_due_and_not_before,
    a_timer_in_the_past_is_due_at_once,
    a_timer_set_again_moves,
    a_dropped_timer_does_not_fire,
    a_due_timer_that_was_put_back_or_let_go_comes_again,
    what_is_sent_over_the_bus_reaches_each_listener_once,
    who_stopped_listening_hears_nothing,
)


def _timer() -> str:
    return f"check-{next(_names)}"


def _wall() -> float:
    return SystemClock().wall()


async def _set(log: Log, name: str, due_at: float, payload: bytes) -> None:
    answer = await log.timers.write(TIMER_SHARD, name, due_at, payload, timeout_s=WAIT_S)
    assert isinstance(answer, Accepted)


async def _due(consumer: Consumer, count: int) -> list[Delivery]:
    """A fetch ends early where an engine has looked and found nothing due yet."""
    deadline = Deadline.after(WAIT_S, SystemClock())
    seen: list[Delivery] = []
    while len(seen) < count and not deadline.has_passed():
        seen += await consumer.fetch(10, 0.2)
    assert len(seen) == count
    return seen


def _subject() -> str:
    return f"ev.{SHARD}.message.created.AC1.{next(_names):032x}"


async def _publish(log: Log, subject: str, payload: bytes, *, expected: int | None) -> object:
    return await log.publish(SHARD, subject, payload, expected=expected, timeout_s=WAIT_S)


async def _first(log: Log, subject: str) -> Stored:
    stored = await log.read_first(SHARD, subject, timeout_s=WAIT_S)
    assert isinstance(stored, Stored)
    return stored


async def _last(log: Log, subject: str) -> Stored:
    stored = await log.read_last(SHARD, subject, timeout_s=WAIT_S)
    assert isinstance(stored, Stored)
    return stored


async def _extent(log: RetainedLog) -> Extent:
    extent = await log.extent(SHARD, timeout_s=WAIT_S)
    assert isinstance(extent, Extent)
    return extent


async def _floor(log: RetainedLog, service: str) -> int:
    floors = await log.ack_floors(SHARD, timeout_s=WAIT_S)
    assert not isinstance(floors, Unreadable)
    return floors[service]


async def _settled(log: RetainedLog, service: str) -> None:
    """Answers travel behind one another: after some questions the last one has been heard."""
    for _ in range(20):
        await _floor(log, service)


async def _deliveries(consumer: Consumer, count: int) -> list[Delivery]:
    taken: list[Delivery] = []
    while len(taken) < count:
        came = await consumer.fetch(count - len(taken), WAIT_S)
        assert came, f"only {len(taken)} came"
        taken.extend(came)
    return taken


async def _payloads(
    fetch: Callable[[int, float], Awaitable[Sequence[Delivery] | Sequence[Stored]]],
    count: int,
    *,
    until: bytes | None = None,
) -> list[bytes]:
    """At least `count` payloads, and all until one is `until`."""
    seen: list[bytes] = []
    while len(seen) < count or (until is not None and until not in seen):
        came = await fetch(10, WAIT_S)
        assert came, f"only {seen} came"
        seen += [each.payload if isinstance(each, Stored) else each.stored.payload for each in came]
    return seen
