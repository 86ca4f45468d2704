"""Two applications that answer each other are stopped, whichever hosts have their conversations."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.unit.log.scripted_log import ACCOUNT
from tests.unit.messaging.message_bench import Bench, Copy

from trunkline.kernel import Deadline
from trunkline.log.append import ShardHealth
from trunkline.messaging.accept import Acceptor, NewMessage
from trunkline.messaging.replies import (
    LOOP_REPLIES_MAX,
    LOOP_WINDOW_S,
    LOOPING,
    Dropped,
    Replies,
    Taken,
)

pytestmark = pytest.mark.anyio

ONE, OTHER, THIRD = "+15550001", "+15550002", "+15550003"
REPLY = NewMessage(
    account=ACCOUNT, sender=ONE, recipient=OTHER, text="hello", direction="outbound-reply"
)
BACK = replace(REPLY, sender=OTHER, recipient=ONE)
INBOUND = "SM" + "7" * 32


class Host:
    """A host that has conversations."""

    def __init__(self, bench: Bench, name: str, copy: Copy) -> None:
        self._bench = bench
        self.copy = copy
        acceptor = Acceptor(bench.log, copy.replica, ShardHealth(bench.clock), bench.author(name))
        self._replies = Replies(acceptor, bench.clock, random.Random(1))

    async def reply(self, new: NewMessage, key: str) -> Taken | Dropped | None:
        work = Deadline.after(10.0, self._bench.clock)
        answer: Taken | Dropped | None = await self._bench.within_time(
            self._replies.accept(new, INBOUND, key, work)
        )
        return answer


@pytest.fixture
async def host(bench: Bench, tmp_path: Path) -> AsyncIterator[Host]:
    async with Copy(bench, tmp_path / "one.sqlite3").following() as copy:
        yield Host(bench, "one", copy)


@pytest.fixture
async def other_host(bench: Bench, tmp_path: Path) -> AsyncIterator[Host]:
    async with Copy(bench, tmp_path / "two.sqlite3").following() as copy:
        yield Host(bench, "two", copy)


async def fill(*hosts: Host) -> None:
    """As many replies as there may be, either way, by turns of the hosts."""
    for turn in range(LOOP_REPLIES_MAX):
        host = hosts[turn % len(hosts)]
        new = (REPLY, BACK)[turn % 2]
        assert isinstance(await host.reply(new, f"{INBOUND}:{turn}"), Taken)
    for host in hosts:
        await host.copy.catch_up()


async def test_one_reply_too_many_is_not_sent_by_any_host(
    bench: Bench, host: Host, other_host: Host
) -> None:
    await fill(host, other_host)
    stored = len(await bench.log.everything())

    for each in (host, other_host):
        for new in (REPLY, BACK):
            assert await each.reply(new, "one more") == Dropped(LOOPING)
    assert len(await bench.log.everything()) == stored


async def test_it_is_no_different_for_a_host_that_has_just_started(
    bench: Bench, host: Host, tmp_path: Path
) -> None:
    await fill(host)

    async with Copy(bench, tmp_path / "new.sqlite3").following() as copy:
        await copy.catch_up()
        assert await Host(bench, "new", copy).reply(REPLY, "one more") == Dropped(LOOPING)


async def test_a_reply_of_a_conversation_that_is_had_again_is_not_too_many(host: Host) -> None:
    await fill(host)

    first, again = [await host.reply(REPLY, f"{INBOUND}:0") for _ in range(2)]

    assert isinstance(first, Taken)
    assert first == again


async def test_other_numbers_and_answers_to_keywords_are_sent_all_the_same(host: Host) -> None:
    await fill(host)

    assert isinstance(await host.reply(replace(REPLY, recipient=THIRD), "third"), Taken)
    assert isinstance(await host.reply(replace(REPLY, is_automatic=True), "stop"), Taken)


async def test_messages_by_the_api_do_not_count(host: Host) -> None:
    for turn in range(LOOP_REPLIES_MAX):
        await host.reply(replace(REPLY, direction="outbound-api"), f"{INBOUND}:{turn}")
    await host.copy.catch_up()

    assert isinstance(await host.reply(REPLY, "a reply"), Taken)


async def test_after_a_while_there_may_be_replies_again(bench: Bench, host: Host) -> None:
    await fill(host)

    await bench.pass_time(LOOP_WINDOW_S)

    assert isinstance(await host.reply(REPLY, "later"), Taken)


async def test_while_the_copy_cannot_be_read_replies_are_not_held_back(host: Host) -> None:
    await fill(host)
    host.copy.replica.close()

    count = host.copy.replica.replies_between(ACCOUNT, ONE, OTHER, since=0.0)

    assert not isinstance(count, int)
