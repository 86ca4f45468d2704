"""A key used for two messages during a fault: one is sent, and the other does not vanish in silence."""

import pytest
from structlog.testing import capture_logs
from tests.unit.log.scripted_log import ACCOUNT, Fate, Publish, in_virtual_time, walk
from tests.unit.messaging.message_bench import Bench

from trunkline.domain.events import KeyConflict, Kind, MessageCreated, MessageReceived, Type
from trunkline.domain.status import Status
from trunkline.kernel import Deadline
from trunkline.log.append import Appended, Draft, ShardHealth, append
from trunkline.log.event import Event
from trunkline.log.fence import Ruling, Verdict, rule
from trunkline.messaging.key_conflict import conflict_between, note_conflict
from trunkline.messaging.record import EventRecorder

pytestmark = pytest.mark.anyio

NAME = "9" * 32
SID = "SM" + NAME
FIRST, SECOND, *_ = walk(NAME)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def created(bench: Bench, text: str, fingerprint: str, *skipped: int) -> Appended:
    """A create under the key, through a host that passes over some shards."""
    body = MessageCreated(
        sid=SID, sender="+15550001", recipient="+15550002", text=text, fingerprint=fingerprint
    )
    health = ShardHealth(bench.clock)
    for shard in skipped:
        health.eject(shard)
    making = append(
        bench.log,
        Draft(kind=Kind.MESSAGE, sid=SID, account=ACCOUNT, body=body, is_keyed=True),
        author=bench.author(fingerprint),
        health=health,
    )
    answer = await in_virtual_time(bench.clock, making)
    assert isinstance(answer, Appended)
    return answer


async def ruled(bench: Bench, copy: Appended) -> Ruling:
    deadline = Deadline.after(5.0, bench.clock)
    (stored,) = [
        each
        for each in await bench.log.everything()
        if (each.shard, each.sequence) == (copy.shard, copy.sequence)
    ]
    asked = rule(bench.log, copy.event, stored, clock=bench.clock, deadline=deadline)
    return await in_virtual_time(bench.clock, asked)


async def test_two_uses_of_a_key_behind_different_shards_are_recorded_on_the_message(
    bench: Bench,
) -> None:
    # S10: body 1 in the second shard, as its host passes over the first; body 2 in the first.
    dropped = await created(bench, "one", "f1", FIRST)
    kept = await created(bench, "two", "f2")
    ruling = await ruled(bench, dropped)
    recorder = EventRecorder(bench.log, author=bench.author("one"))

    assert ruling == Ruling(Verdict.DUPLICATE, kept.event)
    with capture_logs() as logs:
        for _ in range(2):  # two workers, or one that died before it answered the engine
            assert await note_conflict(
                recorder, dropped.event, ruling.original, shard=dropped.shard
            )

    message = await bench.message(NAME)
    assert message.key_conflicts == {"f1"}
    assert message.original is not None
    assert message.original.text == "two"
    assert logs[0] == {
        "event": "fence.key_conflict",
        "log_level": "error",
        "sid": SID,
        "shard": SECOND,
    }


async def test_the_one_that_counts_is_sent_and_says_that_there_was_another(bench: Bench) -> None:
    dropped = await created(bench, "one", "f1", FIRST)
    kept = await created(bench, "two", "f2")

    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(10.0)

    assert [each.text for each in bench.carrier.submitted] == ["two"]
    assert sorted(bench.acked) == sorted([dropped.event.id, kept.event.id])
    message = await bench.message(NAME)
    assert (message.status, message.key_conflicts) == (Status.SENT, frozenset({"f1"}))


async def test_a_copy_is_not_dropped_before_its_conflict_is_written_down(bench: Bench) -> None:
    dropped = await created(bench, "one", "f1", FIRST)
    await created(bench, "two", "f2")

    async def refuse_what_comes_beside_chains(publish: Publish) -> None:
        if ".changed." in publish.subject:
            bench.log.will(publish.shard, Fate.REFUSED)

    bench.log.on_publish = refuse_what_comes_beside_chains
    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(30.0)
        assert dropped.event.id not in bench.acked
        bench.log.on_publish = None
        await bench.pass_time(30.0)

    assert dropped.event.id in bench.acked
    assert (await bench.message(NAME)).key_conflicts == {"f1"}


async def test_two_copies_of_one_create_are_no_conflict(bench: Bench) -> None:
    dropped = await created(bench, "one", "f1", FIRST)
    kept = await created(bench, "one", "f1")
    bench.log.published.clear()
    recorder = EventRecorder(bench.log, author=bench.author("one"))

    assert conflict_between(dropped.event, kept.event, shard=SECOND) is None
    assert await note_conflict(recorder, dropped.event, kept.event, shard=SECOND)
    assert bench.log.published == []


async def test_a_conflict_that_cannot_be_written_down_keeps_the_copy(bench: Bench) -> None:
    dropped = await created(bench, "one", "f1", FIRST)
    kept = await created(bench, "two", "f2")
    bench.log.always(Fate.LOST)
    recorder = EventRecorder(bench.log, author=bench.author("one"))

    noting = note_conflict(recorder, dropped.event, kept.event, shard=SECOND)

    assert not await in_virtual_time(bench.clock, noting)


async def test_what_a_conflict_says_is_which_is_sent_and_which_is_not(bench: Bench) -> None:
    dropped = await created(bench, "one", "f1", FIRST)
    kept = await created(bench, "two", "f2")

    assert conflict_between(dropped.event, kept.event, shard=SECOND) == KeyConflict(
        kept="f2", dropped="f1", dropped_in_shard=SECOND
    )


async def test_an_inbound_message_has_no_key_to_conflict(bench: Bench) -> None:
    author = bench.author("one")

    def original(text: str) -> Event:
        body = MessageReceived(sid=SID, sender="+1555", recipient="+1556", text=text)
        return author.event(Kind.INBOUND, Type.ORIGINAL, ACCOUNT, SID, body)

    assert conflict_between(original("one"), original("two"), shard=0) is None
