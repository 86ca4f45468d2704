"""Accepting: what is answered for a new message, for a repeat of its key, and when nobody knows."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.unit.log.scripted_log import ACCOUNT, Fate
from tests.unit.messaging.message_bench import Bench, Copy

from trunkline.domain.events import Deleted, Kind, Type
from trunkline.domain.sid import SMS, digits_of, is_sid
from trunkline.domain.status import Status
from trunkline.kernel import Deadline
from trunkline.log.append import ShardHealth
from trunkline.log.interface import Unreadable
from trunkline.messaging.accept import (
    AcceptAnswer,
    Acceptor,
    Created,
    Inactive,
    KeyReused,
    NewMessage,
    NotAccepted,
    OutcomeUnknown,
)
from trunkline.messaging.record import EventRecorder

pytestmark = pytest.mark.anyio

HELLO = NewMessage(account=ACCOUNT, sender="+15550001", recipient="+15550002", text="hello")
ACCOUNT_OF_OLD = "AC" + "a" * 32
WITH_MEDIA = replace(HELLO, media_urls=("https://media.example/cat.jpg",))


LATER = replace(HELLO, send_at=1_700_100_000.0)
OF_AN_APPLICATION = replace(
    HELLO, application="AP" + "1" * 32, status_callback="https://app.example/status"
)


class Host:
    """An acceptor over a read copy of its own."""

    def __init__(self, bench: Bench, name: str, copy: Copy) -> None:
        self._bench = bench
        self.copy = copy
        self._acceptor = Acceptor(
            bench.log,
            copy.replica,
            ShardHealth(bench.clock),
            bench.author(name),
            is_active=bench.is_active,
        )

    async def accept(self, new: NewMessage, *, key: str | None = None) -> AcceptAnswer:
        deadline = Deadline.after(10.0, self._bench.clock)
        answer: AcceptAnswer = await self._bench.within_time(
            self._acceptor.accept(new, key=key, deadline=deadline)
        )
        return answer

    async def repeated(self, new: NewMessage, key: str) -> AcceptAnswer | None:
        deadline = Deadline.after(10.0, self._bench.clock)
        repeating = self._acceptor.repeated(new, key=key, deadline=deadline)
        answer: AcceptAnswer | None = await self._bench.within_time(repeating)
        return answer

    async def created(self, new: NewMessage, *, key: str | None = None) -> Created:
        answer = await self.accept(new, key=key)
        assert isinstance(answer, Created)
        return answer


@pytest.fixture
async def host(bench: Bench, tmp_path: Path) -> AsyncIterator[Host]:
    async with Copy(bench, tmp_path / "one.sqlite3").following() as copy:
        yield Host(bench, "one", copy)


@pytest.fixture
async def other_host(bench: Bench, tmp_path: Path) -> AsyncIterator[Host]:
    async with Copy(bench, tmp_path / "two.sqlite3").following() as copy:
        yield Host(bench, "two", copy)


async def test_an_accepted_message_is_queued_and_stored(bench: Bench, host: Host) -> None:
    created = await host.created(HELLO)

    message = created.message
    assert (message.status, created.is_repeat) == (Status.QUEUED, False)
    assert is_sid(message.sid, SMS)
    assert message.account == ACCOUNT
    assert message.created_at == bench.clock.wall()
    assert await bench.message(digits_of(message.sid)) == message


async def test_what_was_accepted_is_soon_shown_by_the_copy(host: Host) -> None:
    created = await host.created(HELLO)

    await host.copy.catch_up()

    assert host.copy.replica.message(created.message.sid) == created.message


async def test_a_message_with_media_is_an_mms(host: Host) -> None:
    created = await host.created(WITH_MEDIA)

    assert created.message.sid.startswith("MM")


async def test_a_message_without_a_key_is_another_one_each_time(bench: Bench, host: Host) -> None:
    first, second = await host.created(HELLO), await host.created(HELLO)

    assert first.message.sid != second.message.sid
    assert len(await bench.log.everything()) == 2


@pytest.mark.parametrize("key", [None, "order 7"])
async def test_nothing_is_accepted_for_a_suspended_account(
    bench: Bench, host: Host, key: str | None
) -> None:
    bench.inactive.add(ACCOUNT)

    assert await host.accept(HELLO, key=key) == Inactive()
    assert await bench.log.everything() == []

    bench.is_copy_readable = False
    unsure = await host.accept(HELLO, key=key)
    assert isinstance(unsure, OutcomeUnknown if key else NotAccepted)
    assert await bench.log.everything() == []

    bench.inactive.clear()
    bench.is_copy_readable = True
    assert isinstance(await host.accept(HELLO, key=key), Created)


async def test_a_create_is_taken_while_the_copy_cannot_be_read(bench: Bench, host: Host) -> None:
    host.copy.replica.close()
    unsure = host.copy.replica.opt_out(ACCOUNT, HELLO.sender, HELLO.recipient)
    assert isinstance(unsure, Unreadable)

    created = await host.created(HELLO)

    assert await bench.message(digits_of(created.message.sid)) == created.message


async def test_a_repeated_key_is_the_same_message(bench: Bench, host: Host) -> None:
    first = await host.created(HELLO, key="order 7")

    repeat = await host.created(HELLO, key="order 7")

    assert repeat == Created(first.message, is_repeat=True)
    assert len(await bench.log.everything()) == 1


async def test_a_repeated_key_is_the_same_message_through_another_host(
    bench: Bench, host: Host, other_host: Host
) -> None:
    first = await host.created(HELLO, key="order 7")
    before_its_copy_knows = await other_host.created(HELLO, key="order 7")
    await other_host.copy.catch_up()
    once_its_copy_knows = await other_host.created(HELLO, key="order 7")

    assert before_its_copy_knows == once_its_copy_knows == Created(first.message, is_repeat=True)
    assert len(await bench.log.everything()) == 1


async def test_a_repeat_is_answered_from_the_copy_even_while_the_log_is_away(
    bench: Bench, host: Host
) -> None:
    first = await host.created(HELLO, key="order 7")
    await host.copy.catch_up()
    bench.log.always(Fate.LOST)

    repeat = await host.created(HELLO, key="order 7")

    assert repeat.message.sid == first.message.sid


async def test_a_key_with_other_parameters_is_refused_and_names_the_first_message(
    host: Host, other_host: Host
) -> None:
    first = await host.created(HELLO, key="order 7")

    from_the_log = await other_host.accept(replace(HELLO, text="bye"), key="order 7")
    await host.copy.catch_up()
    from_the_copy = await host.accept(replace(HELLO, text="bye"), key="order 7")

    assert from_the_log == from_the_copy == KeyReused(first.message.sid)


async def test_a_key_is_one_key_whether_the_message_has_media_or_not(
    bench: Bench, host: Host
) -> None:
    first = await host.created(HELLO, key="order 7")

    assert await host.accept(WITH_MEDIA, key="order 7") == KeyReused(first.message.sid)
    await host.copy.catch_up()
    assert await host.accept(WITH_MEDIA, key="order 7") == KeyReused(first.message.sid)
    assert len(await bench.log.everything()) == 1


async def test_keys_of_two_accounts_have_nothing_to_do_with_each_other(host: Host) -> None:
    ours = await host.created(HELLO, key="order 7")
    theirs = await host.created(replace(HELLO, account="AC" + "b" * 32), key="order 7")

    assert ours.message.sid != theirs.message.sid


async def test_a_key_that_an_older_version_stored_still_names_the_same_request(host: Host) -> None:
    # The fingerprint stands in the log for as long as the key: it may never be made another way.
    plain = NewMessage(ACCOUNT_OF_OLD, "+15125550100", "+15125550123", "Grüße")
    rich = NewMessage(
        ACCOUNT_OF_OLD,
        "+15125550100",
        "+15125550123",
        "",
        media_urls=("https://a.example/1",),
        status_callback="https://app.example/status",
        validity_s=60,
    )

    stored = [
        (await host.created(new, key="k" + new.text)).message.original for new in (plain, rich)
    ]

    assert [original.fingerprint for original in stored if original] == [
        "c895dffd637b1b460abf428634b3d90a",
        "a1bcd0c895e849339780d71de3622f59",
    ]


async def test_a_message_that_no_shard_takes_is_not_accepted(bench: Bench, host: Host) -> None:
    bench.log.always(Fate.REFUSED)

    assert isinstance(await host.accept(HELLO), NotAccepted)


async def test_a_repeat_is_never_told_that_nothing_will_be_sent(bench: Bench, host: Host) -> None:
    # An earlier request under the same key may have been stored by a shard that refuses now.
    bench.log.always(Fate.REFUSED)

    assert isinstance(await host.accept(HELLO, key="order 7"), OutcomeUnknown)


async def test_a_message_is_not_accepted_while_the_log_cannot_be_reached(
    bench: Bench, host: Host
) -> None:
    bench.log.is_connected = False

    answer = await host.accept(HELLO)

    assert isinstance(answer, NotAccepted)
    assert bench.log.published == []


async def test_a_create_of_unknown_outcome_is_told_so_and_its_repeat_finds_it(
    bench: Bench, host: Host
) -> None:
    bench.log.always(Fate.DELAYED)
    assert isinstance(await host.accept(HELLO, key="order 7"), OutcomeUnknown)

    bench.log.always(Fate.WELL)
    await bench.log.land()
    repeat = await host.created(HELLO, key="order 7")

    assert repeat.is_repeat
    assert repeat.message.position == 0


async def test_the_segments_of_a_message_are_counted_when_it_is_accepted(host: Host) -> None:
    created = await host.created(replace(HELLO, text="x" * 161))

    assert created.message.original is not None
    assert created.message.original.num_segments == 2


async def test_a_message_for_later_is_answered_as_scheduled(host: Host, bench: Bench) -> None:
    send_at = bench.clock.wall() + 3600.0

    answer = await host.accept(replace(HELLO, send_at=send_at), key="k")

    assert isinstance(answer, Created)
    assert isinstance(await host.accept(HELLO, key="k"), KeyReused)
    assert answer.message.status is Status.SCHEDULED
    assert answer.message.original is not None
    assert answer.message.original.send_at == send_at


async def test_what_a_key_names_is_found_without_storing_anything(bench: Bench, host: Host) -> None:
    assert await host.repeated(LATER, "order 7") is None
    first = await host.created(LATER, key="order 7")

    at_once = await host.repeated(LATER, "order 7")
    await host.copy.catch_up()
    shown = await host.repeated(LATER, "order 7")

    for again in (at_once, shown):
        assert isinstance(again, Created)
        assert (again.message.sid, again.is_repeat) == (first.message.sid, True)
    assert isinstance(await host.repeated(HELLO, "order 7"), KeyReused)
    assert len(await bench.log.everything()) == 1


async def test_what_nobody_can_say_of_a_key_is_not_said(bench: Bench, host: Host) -> None:
    for shard in range(bench.log.shards):
        bench.log.unreadable.add(shard)

    assert isinstance(await host.repeated(LATER, "order 7"), OutcomeUnknown)


async def test_the_key_of_a_deleted_message_stays_taken(bench: Bench, host: Host) -> None:
    first = await host.created(HELLO, key="order 7")
    await host.copy.catch_up()
    recorder = EventRecorder(bench.log, author=bench.author("one"))
    sid = first.message.sid
    deleting = recorder.record(Kind.MESSAGE, Type.DELETED, ACCOUNT, sid, Deleted())
    assert await bench.within_time(deleting)
    await host.copy.catch_up()
    bench.log.trim()

    again = await host.created(HELLO, key="order 7")

    assert (again.message.sid, again.is_repeat) == (sid, True)
    assert again.message.is_deleted


async def test_a_repeat_is_the_same_message_though_its_application_was_changed(
    bench: Bench, host: Host
) -> None:
    created = await host.created(OF_AN_APPLICATION, key="order-42")

    again = await host.created(replace(OF_AN_APPLICATION, status_callback=None), key="order-42")
    without = await host.accept(HELLO, key="order-42")

    assert (again.is_repeat, again.message.sid) == (True, created.message.sid)
    assert again.message.original is not None
    assert again.message.original.status_callback == "https://app.example/status"
    assert isinstance(without, KeyReused)
