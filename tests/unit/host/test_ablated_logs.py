"""A log with one habit left out lacks that habit, and has all the others."""

from pathlib import Path

import pytest
from tests.unit.log.scripted_log import Fate, ScriptedLog, draft, in_virtual_time, pen, put, walk

from trunkline.domain.events import AccountOpened, Kind, MessageCreated, Type
from trunkline.host.ablations import ABLATIONS
from trunkline.kernel import FakeClock
from trunkline.log.append import AppendAnswer, Appended, ShardHealth, append
from trunkline.log.event import created_subject, encode
from trunkline.log.interface import Log, PublishAnswer
from trunkline.log.limits import ANSWER_MAX_S
from trunkline.log.marker import marker_subject
from trunkline.replica import schema

pytestmark = pytest.mark.anyio

NAME = "5" * 32
FIRST, SECOND, *_ = walk(NAME)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def log(clock: FakeClock) -> ScriptedLog:
    return ScriptedLog(clock)


async def created(log: Log, clock: FakeClock, *, is_keyed: bool = True) -> AppendAnswer:
    making = append(
        log, draft(NAME, is_keyed=is_keyed), author=pen("one", clock), health=ShardHealth(clock)
    )
    return await in_virtual_time(clock, making)


def tried(log: ScriptedLog) -> set[int]:
    return {publish.shard for publish in log.published}


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.REFUSED, Fate.UNDECIDED])
async def test_without_diversion_a_create_waits_for_its_first_shard(
    log: ScriptedLog, clock: FakeClock, fate: Fate
) -> None:
    began = clock.monotonic()
    log.will(FIRST, *[fate] * 5)

    answer = await created(ABLATIONS["diversion"].stored(log, clock), clock)

    assert isinstance(answer, Appended)
    assert (answer.shard, tried(log)) == (FIRST, {FIRST})
    assert clock.monotonic() > began


@pytest.mark.parametrize("is_keyed", [True, False])
async def test_without_diversion_a_try_that_landed_after_all_is_the_answer(
    log: ScriptedLog, clock: FakeClock, is_keyed: bool
) -> None:
    log.will(FIRST, Fate.ANSWER_LOST)

    answer = await created(ABLATIONS["diversion"].stored(log, clock), clock, is_keyed=is_keyed)

    assert isinstance(answer, Appended)
    assert len(await log.everything()) == 1


async def test_without_diversion_a_shard_that_stays_away_is_given_up_when_the_create_is(
    log: ScriptedLog, clock: FakeClock
) -> None:
    began = clock.monotonic()
    log.always(Fate.LOST, FIRST)

    answer = await created(ABLATIONS["diversion"].stored(log, clock), clock)

    assert not isinstance(answer, Appended)
    assert clock.monotonic() - began >= ANSWER_MAX_S


async def test_with_it_the_same_create_goes_to_another_shard(
    log: ScriptedLog, clock: FakeClock
) -> None:
    log.always(Fate.LOST, FIRST)

    answer = await created(ABLATIONS["claims"].stored(log, clock), clock)

    assert isinstance(answer, Appended)
    assert answer.shard == SECOND


async def test_without_timeouts_a_shard_is_waited_for_as_long_as_the_create_is(
    clock: FakeClock,
) -> None:
    log = _Waiting(clock)

    await created(ABLATIONS["timeouts"].stored(log, clock), clock)

    assert log.waited_s == [ANSWER_MAX_S]


class _Waiting(ScriptedLog):
    """Remembers how long each publish was to wait."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.waited_s: list[float] = []

    async def publish(
        self, shard: int, subject: str, payload: bytes, *, expected: int | None, timeout_s: float
    ) -> PublishAnswer:
        self.waited_s.append(timeout_s)
        return await super().publish(
            shard, subject, payload, expected=expected, timeout_s=timeout_s
        )


async def test_a_lost_copy_that_is_not_filled_begins_with_what_comes_now(
    log: ScriptedLog, clock: FakeClock, tmp_path: Path
) -> None:
    author = pen("one", clock)
    await put(log, 0, NAME, author, Type.ORIGINAL, _message(NAME))
    opened = AccountOpened(sid="AC" + NAME, friendly_name="first", auth_token="made-up")
    account = author.event(Kind.ACCOUNT, Type.ORIGINAL, "AC" + NAME, "AC" + NAME, opened)
    subject = created_subject(0, Kind.ACCOUNT, "AC" + NAME, NAME)
    await log.publish(0, subject, encode(account), expected=0, timeout_s=1.0)
    await clock.advance(60.0)
    followed = ABLATIONS["copies"].copied(log, tmp_path / "copy.sqlite3", clock.wall())
    await put(log, 0, "6" * 32, author, Type.ORIGINAL, _message("6" * 32))

    follower = await followed.follower(0, after=0)
    before, owner, new = await follower.fetch(10, 0.0)

    assert (before.sequence, before.subject) == (1, marker_subject(0))
    assert owner.subject == subject
    assert "6" * 32 in new.subject
    assert follower.is_at_end
    await follower.close()


async def test_a_copy_that_was_begun_is_followed_up_as_ever(
    log: ScriptedLog, clock: FakeClock, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.sqlite3"
    schema.make(copy, cluster="test")
    copied = ABLATIONS["copies"].copied

    assert copied(log, copy, clock.wall()) is not log, "an empty file is no copy yet"
    database = schema.open_for_writing(copy, cluster="test")
    database.execute("INSERT INTO cursor VALUES (0, 7)")
    database.close()
    assert copied(log, copy, clock.wall()) is log


def _message(digits: str) -> MessageCreated:
    return MessageCreated(sid="SM" + digits, sender="+15550001", recipient="+15550002", text="hi")
