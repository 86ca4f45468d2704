"""Records that change: one register each, and no change is lost or made twice, whatever the network does."""

import asyncio
from collections.abc import Callable

import pytest
from msgspec import structs
from tests.unit.log.scripted_log import ACCOUNT, Fate, Publish, ScriptedLog, in_virtual_time

from trunkline.directory.records import (
    Missing,
    Occupied,
    Record,
    Register,
    Removed,
    Spent,
    Undecidable,
    Written,
    change,
    create,
    delete,
    find,
    was_here,
)
from trunkline.directory.spent import SPENT_MAX
from trunkline.domain.events import ApplicationMade, Kind, Type
from trunkline.kernel import Deadline, FakeClock
from trunkline.log.author import Author
from trunkline.log.carry import carry
from trunkline.log.event import decode, encode
from trunkline.log.interface import Accepted, ReadAnswer, Stored, Unreadable
from trunkline.log.limits import KEY_WINDOW_S
from trunkline.log.marker import Markers

pytestmark = pytest.mark.anyio

SID = "AP" + "1" * 32
OTHER_SID = "AP" + "2" * 32
OTHER_ACCOUNT = "AC" + "b" * 32
REGISTER = Register(Kind.APPLICATION, ApplicationMade, SID[2:])
MADE = ApplicationMade(sid=SID, friendly_name="desk")

Edit = Callable[[ApplicationMade], ApplicationMade]


class Office:
    """A log with hosts that each do one thing."""

    def __init__(self, log: ScriptedLog, clock: FakeClock) -> None:
        self.log = log
        self.clock = clock
        self.shard = REGISTER.shard(log)
        self._given = 0

    def author(self, host: str) -> Author:
        def entropy(size: int) -> bytes:
            self._given += 1
            return self._given.to_bytes(size, "big")

        return Author(host, self.clock, entropy)

    def deadline(self) -> Deadline:
        return Deadline.after(5.0, self.clock)

    async def create(
        self, sid: str = SID, account: str = ACCOUNT, *, is_keyed: bool = True
    ) -> object:
        body = structs.replace(MADE, sid=sid)
        return await in_virtual_time(
            self.clock,
            create(
                self.log,
                REGISTER,
                body,
                sid=sid,
                account=account,
                is_keyed=is_keyed,
                author=self.author("one"),
                deadline=self.deadline(),
            ),
        )

    async def changing(self, edit: Edit, account: str = ACCOUNT, sid: str = SID) -> object:
        return await change(
            self.log,
            REGISTER,
            edit,
            sid=sid,
            account=account,
            author=self.author("two"),
            deadline=self.deadline(),
        )

    async def change(self, edit: Edit, account: str = ACCOUNT, sid: str = SID) -> object:
        return await in_virtual_time(self.clock, self.changing(edit, account, sid))

    async def delete(self, sid: str = SID, account: str = ACCOUNT) -> object:
        deleting = delete(
            self.log,
            REGISTER,
            sid=sid,
            account=account,
            author=self.author("three"),
            deadline=self.deadline(),
        )
        return await in_virtual_time(self.clock, deleting)

    async def was_here(self, sid: str) -> bool:
        found = await was_here(self.log, REGISTER, sid, clock=self.clock, deadline=self.deadline())
        assert isinstance(found, bool)
        return found

    async def forget_spent(self) -> None:
        """Have the newest event as a version wrote it that knew nothing of spent keys."""
        newest = await self.log.read_last(self.shard, REGISTER.subject(self.log), timeout_s=1.0)
        assert isinstance(newest, Stored)
        event = structs.replace(decode(newest.payload), spent=None)
        answer = await self.log.publish(
            self.shard, newest.subject, encode(event), expected=newest.sequence, timeout_s=1.0
        )
        assert isinstance(answer, Accepted)

    async def body(self) -> ApplicationMade | None:
        found = await find(self.log, REGISTER)
        assert not isinstance(found, Unreadable)
        return None if found is None else found.body

    async def types(self) -> list[Type]:
        return [event.type for event in await self.log.chain(self.shard, SID[2:])]

    async def trim(self) -> None:
        markers = Markers(self.shard)
        assert await markers.publish(self.log)
        last = await self.log.last_sequence(self.shard, timeout_s=1.0)
        assert isinstance(last, int)
        assert await carry(self.log, self.shard, before=last, clock=self.clock)
        assert isinstance(await self.log.purge(self.shard, before=last, timeout_s=1.0), int)


@pytest.fixture
def office(log: ScriptedLog, clock: FakeClock) -> Office:
    return Office(log, clock)


def named(name: str) -> Edit:
    return lambda body: structs.replace(body, friendly_name=name)


def texted_at(url: str) -> Edit:
    return lambda body: structs.replace(body, sms_url=url)


async def test_a_record_is_created_changed_and_deleted(office: Office) -> None:
    created = await office.create()
    await office.clock.advance(60.0)
    changed = await office.change(named("shop"))

    assert isinstance(created, Written)
    assert isinstance(changed, Written)
    assert changed.record.body.friendly_name == "shop"
    assert changed.record.created_at == created.record.created_at
    assert changed.record.changed_at == created.record.created_at + 60.0
    assert await find(office.log, REGISTER) == changed.record

    assert isinstance(await office.delete(), Removed)
    assert await find(office.log, REGISTER) is None
    assert await office.delete() == Missing()
    assert await office.change(named("ghost")) == Missing()
    assert await office.types() == [Type.ORIGINAL, Type.CHANGE, Type.DELETED]


async def test_a_record_of_another_account_can_be_neither_changed_nor_deleted(
    office: Office,
) -> None:
    await office.create()

    assert await office.change(named("theirs"), OTHER_ACCOUNT) == Missing()
    assert await office.delete(account=OTHER_ACCOUNT) == Missing()
    assert await office.delete(OTHER_SID) == Missing()
    assert await office.types() == [Type.ORIGINAL]


async def test_two_changes_at_once_to_different_fields_are_both_kept(office: Office) -> None:
    await office.create()
    gate = asyncio.Barrier(2)
    waits = 2

    async def meet(publish: Publish) -> None:
        nonlocal waits
        if waits and publish.event.type is Type.CHANGE:
            waits -= 1
            await gate.wait()

    office.log.on_publish = meet
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(office.change(named("shop")))
        tasks.create_task(office.change(texted_at("https://app.example/sms")))

    body = await office.body()
    assert body is not None
    assert (body.friendly_name, body.sms_url) == ("shop", "https://app.example/sms")
    assert await office.types() == [Type.ORIGINAL, Type.CHANGE, Type.CHANGE]


async def test_a_change_whose_answer_was_lost_is_made_once(office: Office) -> None:
    await office.create()
    office.log.will(office.shard, Fate.ANSWER_LOST)

    assert isinstance(await office.change(named("shop")), Written)
    assert await office.types() == [Type.ORIGINAL, Type.CHANGE]


async def test_a_change_that_landed_unseen_does_not_undo_the_one_behind_it(office: Office) -> None:
    await office.create()
    office.log.will(office.shard, Fate.ANSWER_LOST)
    tries = 0

    async def overtake(publish: Publish) -> None:
        nonlocal tries
        tries += publish.event.type is Type.CHANGE
        if tries == 2:
            office.log.on_publish = None
            await office.changing(named("last"))

    office.log.on_publish = overtake

    assert isinstance(await office.change(named("first")), Written)
    body = await office.body()
    assert body is not None
    assert body.friendly_name == "last"
    assert await office.types() == [Type.ORIGINAL, Type.CHANGE, Type.CHANGE]


async def test_a_change_that_changes_nothing_is_not_written(office: Office) -> None:
    await office.create()

    answer = await office.change(named("desk"))

    assert isinstance(answer, Written)
    assert answer.is_repeat
    assert await office.types() == [Type.ORIGINAL]


async def test_a_register_that_is_free_again_is_taken_by_exactly_one(office: Office) -> None:
    await office.create()
    assert isinstance(await office.create(OTHER_SID, OTHER_ACCOUNT), Occupied)
    await office.delete()
    answers: list[object] = []

    async def ask(sid: str, account: str) -> None:
        answers.append(await office.create(sid, account))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask("AP" + "3" * 32, ACCOUNT))
        tasks.create_task(ask(OTHER_SID, OTHER_ACCOUNT))

    assert sorted(type(answer).__name__ for answer in answers) == ["Occupied", "Written"]


async def test_the_repeat_of_a_create_finds_what_became_of_it(office: Office) -> None:
    await office.create()
    await office.change(named("shop"))

    repeat = await office.create()

    assert isinstance(repeat, Written)
    assert repeat.is_repeat
    assert repeat.record.body.friendly_name == "shop"


async def test_the_repeat_of_a_create_brings_back_nothing_that_was_deleted(office: Office) -> None:
    await office.create()
    await office.delete()
    assert await office.create() == Spent()

    await office.create(OTHER_SID, OTHER_ACCOUNT)
    await office.delete(OTHER_SID, OTHER_ACCOUNT)

    assert await office.create() == Spent()
    assert await office.body() is None


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.REFUSED, Fate.UNDECIDED])
async def test_what_cannot_be_decided_is_not_decided_elsewhere(office: Office, fate: Fate) -> None:
    await office.create()
    office.log.published.clear()
    office.log.always(fate, office.shard)

    assert isinstance(await office.change(named("shop")), Undecidable)
    assert isinstance(await office.delete(), Undecidable)
    assert {publish.shard for publish in office.log.published} == {office.shard}
    assert await office.body() == MADE


async def test_nothing_is_said_to_be_missing_while_its_shard_cannot_be_asked(
    office: Office,
) -> None:
    await office.create()
    office.log.unreadable.add(office.shard)

    assert isinstance(await office.change(named("shop")), Undecidable)
    assert isinstance(await office.delete(), Undecidable)
    assert isinstance(await find(office.log, REGISTER), Unreadable)


async def test_a_record_outlives_the_trimming_of_the_log_with_its_times(office: Office) -> None:
    await office.create()
    await office.clock.advance(60.0)
    await office.change(named("shop"))
    before = await find(office.log, REGISTER)

    for _ in range(2):
        await office.clock.advance(60 * 86_400.0)
        await office.trim()
    after = await find(office.log, REGISTER)

    assert isinstance(before, Record)
    assert isinstance(after, Record)
    assert after == structs_like(before, after)
    assert isinstance(await office.change(named("store")), Written)


def structs_like(before: Record[ApplicationMade], after: Record[ApplicationMade]) -> object:
    """`before`, at the place of `after`: everything else must be as it was."""
    return Record(
        before.account,
        before.sid,
        before.body,
        before.created_at,
        before.changed_at,
        before.shard,
        after.sequence,
    )


async def test_what_was_deleted_is_not_carried_forward(office: Office) -> None:
    await office.create()
    await office.delete()

    await office.clock.advance(60 * 86_400.0)
    await office.trim()

    assert await office.types() == []
    assert isinstance(await office.create(OTHER_SID, OTHER_ACCOUNT), Written)


async def test_however_often_a_record_was_changed_a_create_behind_it_reads_little(
    office: Office,
) -> None:
    await office.create()
    for number in range(50):
        await office.change(named(f"name {number}"))
    await office.delete()
    reads = counted_reads(office)

    assert await office.create() == Spent()
    assert isinstance(await office.create(OTHER_SID, OTHER_ACCOUNT), Written)
    assert await office.was_here(SID)
    assert await office.was_here(OTHER_SID)
    assert not await office.was_here("AP" + "9" * 32)
    assert len(reads) <= 7


async def test_a_spent_key_stays_spent_whoever_owns_changes_and_deletes_the_record_later(
    office: Office,
) -> None:
    await office.create()
    await office.delete()
    for number in range(3, 6):
        other = "AP" + str(number) * 32
        await office.create(other, is_keyed=False)
        await office.change(named(f"of {number}"), sid=other)
        await office.trim()
        assert await office.was_here(SID)
        await office.delete(other)

    assert await office.create() == Spent()
    await office.clock.advance(KEY_WINDOW_S + 1.0)
    assert isinstance(await office.create(), Written)


async def test_a_register_remembers_no_more_deletions_than_it_may(office: Office) -> None:
    for number in range(SPENT_MAX + 2):
        await office.create(f"AP{number:032x}")
        await office.delete(f"AP{number:032x}")

    assert await office.create(f"AP{2:032x}") == Spent()
    assert isinstance(await office.create(f"AP{1:032x}"), Written)
    subject = REGISTER.subject(office.log)
    newest = await office.log.read_last(office.shard, subject, timeout_s=1.0)
    assert isinstance(newest, Stored)
    assert len(decode(newest.payload).spent or ()) == SPENT_MAX


async def test_what_an_older_version_wrote_is_read_from_the_beginning(office: Office) -> None:
    await office.create()
    await office.change(named("shop"))
    await office.delete()
    await office.forget_spent()

    assert await office.create() == Spent()
    assert await office.was_here(SID)
    assert isinstance(await office.create(OTHER_SID, OTHER_ACCOUNT), Written)

    reads = counted_reads(office)
    assert await office.was_here(SID)
    assert len(reads) == 1


async def test_a_record_of_an_older_version_that_has_outlived_all_keys_knows_of_none(
    office: Office,
) -> None:
    await office.create(is_keyed=False)
    await office.forget_spent()
    await office.clock.advance(KEY_WINDOW_S + 1.0)
    await office.change(named("shop"))
    await office.delete()
    reads = counted_reads(office)

    assert not await office.was_here(OTHER_SID)
    assert await office.create() == Spent()
    assert len(reads) <= 4


def counted_reads(office: Office) -> list[str]:
    """What is asked of the log from now on."""
    reads: list[str] = []
    read_next, read_last = office.log.read_next, office.log.read_last

    async def next_of(shard: int, subjects: str, *, after: int, timeout_s: float) -> ReadAnswer:
        reads.append("next")
        return await read_next(shard, subjects, after=after, timeout_s=timeout_s)

    async def last_of(shard: int, subject: str, *, timeout_s: float) -> ReadAnswer:
        reads.append("last")
        return await read_last(shard, subject, timeout_s=timeout_s)

    office.log.read_next = next_of  # type: ignore[method-assign]  # to count
    office.log.read_last = last_of  # type: ignore[method-assign]  # to count
    return reads
