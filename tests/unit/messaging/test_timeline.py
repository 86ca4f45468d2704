"""The timeline: all that the log holds of one message, wherever it stands, and what could not be read."""

import msgspec
import pytest
from tests.unit.log.scripted_log import ACCOUNT, Fate, draft, walk
from tests.unit.messaging.message_bench import Bench

from trunkline.domain.events import (
    Body,
    Canceled,
    Deleted,
    Kind,
    MediaKept,
    MediaRemoved,
    MessageCreated,
    Notice,
    Receipt,
    Redacted,
    Refused,
    Type,
)
from trunkline.domain.media import Piece
from trunkline.kernel import Deadline
from trunkline.log.append import Appended, ShardHealth, append
from trunkline.messaging import timeline as reading
from trunkline.messaging.record import EventRecorder
from trunkline.messaging.timeline import BEFORE_S, Timeline, gaps_s, read_timeline

pytestmark = pytest.mark.anyio

NAME = "d" * 32
SID = "SM" + NAME
HOME, SECOND, THIRD, *_ = walk(NAME)
DAY_S = 86_400.0
DELIVERED = Receipt(status="delivered", carrier="acme", carrier_message_id="acme-1")


async def timeline(bench: Bench, *, since: float, wait_s: float = 30.0) -> Timeline:
    deadline = Deadline.after(wait_s, bench.clock)
    reading = read_timeline(bench.log, SID, since=since, clock=bench.clock, deadline=deadline)
    found: Timeline = await bench.within_time(reading)
    return found


async def receive(bench: Bench) -> None:
    recorder = EventRecorder(bench.log, author=bench.author("two"))
    recording = recorder.record(Kind.MESSAGE, Type.RECEIPT, ACCOUNT, SID, DELIVERED)
    assert await bench.within_time(recording)


async def sent(bench: Bench) -> float:
    """When a message was created that was then sent, and whose receipt stands in another shard."""
    created_at = bench.clock.wall()
    await bench.put(NAME)
    async with bench.running(bench.dispatcher("one")):
        await bench.pass_time(2.0)
    bench.log.always(Fate.REFUSED, HOME)
    await receive(bench)
    return created_at


async def test_every_event_is_found_in_whichever_shard_it_stands(bench: Bench) -> None:
    created_at = await sent(bench)
    await bench.put("e" * 32)

    found = await timeline(bench, since=created_at)

    assert [each.what for each in found.happenings] == ["original", "claim", "outcome", "receipt"]
    assert [each.host for each in found.happenings] == ["api", "one", "one", "two"]
    assert {place[0] for each in found.happenings for place in each.places} == {HOME, SECOND}
    assert found.unread == ()
    assert sum(gaps_s(found.happenings)) == pytest.approx(
        found.happenings[-1].at - found.happenings[0].at
    )


async def test_what_was_stored_twice_is_shown_once_with_both_places(bench: Bench) -> None:
    created_at = bench.clock.wall()
    await bench.put(NAME)
    bench.log.will(HOME, Fate.ANSWER_LOST)
    await receive(bench)

    found = await timeline(bench, since=created_at)

    assert [each.what for each in found.happenings] == ["original", "receipt"]
    assert len(found.happenings[1].places) == 2


async def test_what_was_stored_long_before_is_not_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        await bench.put(f"{number:032x}")
    await bench.clock.advance(DAY_S)
    created_at = await sent(bench)
    await bench.clock.advance(DAY_S)
    for number in range(50, 100):
        await bench.put(f"{number:032x}")
    starts: list[int] = []
    follow = bench.log._inner.follower

    async def noting(shard: int, *, after: int) -> object:
        starts.append(after)
        return await follow(shard, after=after)

    monkeypatch.setattr(bench.log._inner, "follower", noting)

    found = await timeline(bench, since=created_at + BEFORE_S - 1.0)

    assert len(found.happenings) == 4
    assert sum(starts) > 0


async def test_a_shard_that_cannot_be_asked_is_named(bench: Bench) -> None:
    created_at = await sent(bench)
    bench.log.unreadable.add(THIRD)

    found = await timeline(bench, since=created_at)

    assert len(found.happenings) == 4
    assert found.unread == (f"shard {THIRD}: cut off",)


async def test_whatever_happens_to_a_message_is_named_without_what_it_says(bench: Bench) -> None:
    created_at = bench.clock.wall()
    await bench.put(NAME)
    piece = Piece(
        sid="ME" + "1" * 32, index=0, sha256="f" * 64, content_type="image/png", size_bytes=7
    )
    said: tuple[tuple[Type, Body], ...] = (
        (Type.MEDIA_KEPT, MediaKept(pieces=(piece,))),
        (Type.MEDIA_REMOVED, MediaRemoved(media=(piece.sid,))),
        (Type.REFUSAL, Refused(attempt=0, error_code=21610, reason="opted out")),
        (Type.CANCEL, Canceled()),
        (Type.REDACTED, Redacted()),
        (Type.NOTICE, Notice(code=11200, reason="answered 500", url="https://a/", method="POST")),
        (Type.DELETED, Deleted()),
    )
    recorder = EventRecorder(bench.log, author=bench.author("two"))
    for type_, body in said:
        await bench.clock.advance(0.1)
        assert await bench.within_time(recorder.record(Kind.MESSAGE, type_, ACCOUNT, SID, body))

    found = await timeline(bench, since=created_at)

    _, *later = found.happenings
    assert [each.what for each in later] == [type_.value for type_, _ in said]
    assert later[0].facts == {"types": ["image/png"], "size_bytes": 7}
    assert later[1].facts == {"removed": 1}
    assert later[2].facts["error_code"] == 21610
    assert later[5].facts["code"] == 11200


async def test_events_beyond_the_bound_are_said_to_be_missing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "EVENTS_MAX", 3)
    created_at = await sent(bench)

    found = await timeline(bench, since=created_at)

    assert len(found.happenings) == 3
    assert found.unread == ("more than 3 events of this message",)


async def test_what_the_message_says_is_not_shown(bench: Bench) -> None:
    created_at = await sent(bench)

    found = await timeline(bench, since=created_at)

    facts = [name for each in found.happenings for name in each.facts]
    assert "recipient" in facts
    assert not {"text", "media_urls", "fingerprint"} & set(facts)


def test_without_events_there_is_nothing_between_them() -> None:
    assert gaps_s([]) == []


async def test_no_password_in_a_url_is_shown(bench: Bench) -> None:
    created_at = bench.clock.wall()
    await create_with(bench, status_callback="https://user:pass@app.example/status?at=1@2")
    refused = Refused(attempt=0, error_code=11200, reason="http://user:pass@media.example/1: 404")
    recorder = EventRecorder(bench.log, author=bench.author("two"))
    recording = recorder.record(Kind.MESSAGE, Type.REFUSAL, ACCOUNT, SID, refused)
    assert await bench.within_time(recording)

    original, refusal = (await timeline(bench, since=created_at)).happenings

    assert original.facts["status_callback"] == "https://***@app.example/status?at=1@2"
    assert refusal.facts["reason"] == "http://***@media.example/1: 404"


async def test_of_a_deleted_message_neither_the_parties_nor_urls_are_left(bench: Bench) -> None:
    created_at = bench.clock.wall()
    await create_with(bench, status_callback="https://app.example/status")
    recorder = EventRecorder(bench.log, author=bench.author("two"))
    assert not (await timeline(bench, since=created_at)).has_deletion
    recording = recorder.record(Kind.MESSAGE, Type.DELETED, ACCOUNT, SID, Deleted())
    assert await bench.within_time(recording)

    found = await timeline(bench, since=created_at)

    assert found.has_deletion
    whole, left = found.happenings[0].facts, found.without_places().happenings[0].facts
    assert set(whole) - set(left) == {"sender", "recipient", "status_callback"}
    assert "sid" in left


async def create_with(bench: Bench, *, status_callback: str) -> None:
    """A message whose sender wants to be told."""
    made = draft(NAME)
    assert isinstance(made.body, MessageCreated)
    body = msgspec.structs.replace(made.body, status_callback=status_callback)
    appending = append(
        bench.log,
        msgspec.structs.replace(made, body=body),
        author=bench.author("api"),
        health=ShardHealth(bench.clock),
    )
    assert isinstance(await bench.within_time(appending), Appended)
