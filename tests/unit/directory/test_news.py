"""News: what one host changes is known to all, before their copies show it, and is never taken back."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.unit.directory.test_view import Host
from tests.unit.log.scripted_log import ACCOUNT, ScriptedLog, pen

from trunkline.directory.accounts import all_accounts, open_account
from trunkline.directory.keys import all_keys
from trunkline.directory.news import HEARD_MAX, SUBJECT, Change, News
from trunkline.directory.numbers import Numbers, Owned, Taken
from trunkline.directory.records import Missing, Removed
from trunkline.domain.account import Account, AccountStatus
from trunkline.domain.events import AccountOpened, KeyMade, NumberOwned
from trunkline.domain.key import Key
from trunkline.kernel import FakeClock
from trunkline.log.interface import Unreadable
from trunkline.log.local_bus import LocalBus

pytestmark = pytest.mark.anyio

OPENED = AccountOpened(sid=ACCOUNT, friendly_name="Shop", auth_token="made-up", owner="AC0")
MADE = KeyMade(sid="SK" + "1" * 32, friendly_name="till", secret_digest="d" * 64)
PHONE = "+15125550100"
OWNED = NumberOwned(sid="PN" + "1" * 32, phone_number=PHONE, friendly_name="desk")


@dataclass
class Pair:
    """Two hosts on one log and one bus, of which only the first one's copy follows."""

    log: ScriptedLog
    clock: FakeClock
    one: Host
    two: Host
    bus: LocalBus = field(default_factory=LocalBus)

    def __post_init__(self) -> None:
        self.here, self.there = (News(self.bus, each.replica) for each in (self.one, self.two))
        self.here.listen()
        self.there.listen()
        author = pen("one", self.clock)
        self.accounts = all_accounts(self.log, self.one.replica, self.here, author=author)
        self.keys = all_keys(self.log, self.one.replica, self.here, author=author)

    @asynccontextmanager
    async def following(self, *hosts: Host) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each.follow()) for each in hosts]
            yield
            for each in running:
                each.cancel()

    async def say(self, status: AccountStatus) -> Account | None:
        """The account made so, and as the other host knows it then."""
        changed = await self.accounts.change(
            ACCOUNT,
            ACCOUNT,
            lambda body: msgspec.structs.replace(body, status=status),
            deadline=self.one.deadline(),
        )
        assert isinstance(changed, Account)
        await asyncio.sleep(0)
        return self.there.account(ACCOUNT)


@pytest.fixture
def pair(log: ScriptedLog, clock: FakeClock, tmp_path: Path) -> Iterator[Pair]:
    with (
        closing(Host(log, clock, tmp_path / "one.db")) as one,
        closing(Host(log, clock, tmp_path / "two.db")) as two,
    ):
        yield Pair(log, clock, one, two)


async def test_a_key_is_known_and_refused_where_the_copy_shows_neither(pair: Pair) -> None:
    async with pair.following(pair.one):
        deadline = pair.one.deadline()
        made = await pair.keys.make(ACCOUNT, MADE, is_keyed=False, deadline=deadline)
        await asyncio.sleep(0)
        assert isinstance(made, Key)
        assert pair.there.key(MADE.sid) == made
        assert pair.two.replica.key(MADE.sid) is None

        before = pair.there.version()
        assert isinstance(await pair.keys.delete(ACCOUNT, MADE.sid, deadline=deadline), Removed)
        await asyncio.sleep(0)
        assert pair.there.key(MADE.sid) is None
        assert pair.there.version() != before, "whatever was remembered is read again"
        assert isinstance(await pair.keys.delete(ACCOUNT, MADE.sid, deadline=deadline), Missing)


async def test_a_deleted_key_stays_refused_while_the_copy_still_shows_it(pair: Pair) -> None:
    async with pair.following(pair.one, pair.two):
        deadline = pair.one.deadline()
        made = await pair.keys.make(ACCOUNT, MADE, is_keyed=False, deadline=deadline)
        assert isinstance(made, Key)
        while pair.two.replica.key(MADE.sid) is None:
            await asyncio.sleep(0)
    async with pair.following(pair.one):
        await pair.keys.delete(ACCOUNT, MADE.sid, deadline=deadline)
        await asyncio.sleep(0)

        assert pair.two.replica.key(MADE.sid) == made
        assert pair.there.key(MADE.sid) is None
    async with pair.following(pair.two):
        while pair.two.replica.key(MADE.sid) is not None:
            await asyncio.sleep(0)
        assert pair.there.key(MADE.sid) is None


async def test_a_suspension_is_known_everywhere_and_ends_everywhere(pair: Pair) -> None:
    async with pair.following(pair.one):
        opened = await pair.accounts.make(
            ACCOUNT, OPENED, is_keyed=False, deadline=pair.one.deadline()
        )
        assert isinstance(opened, Account)
        await asyncio.sleep(0)
        assert pair.there.is_active(ACCOUNT)

        suspended = await pair.say(AccountStatus.SUSPENDED)
        assert suspended is not None
        assert suspended.status is AccountStatus.SUSPENDED
        assert not pair.there.is_active(ACCOUNT)
        assert not pair.here.is_active(ACCOUNT)

        active = await pair.say(AccountStatus.ACTIVE)
        assert active is not None
        assert active.is_active
        assert pair.there.is_active(ACCOUNT)


async def test_words_that_overtake_one_another_leave_the_newest(pair: Pair) -> None:
    def said(sequence: int, status: AccountStatus) -> Change:
        account = Account(
            sid=ACCOUNT,
            friendly_name="",
            auth_token="",
            created_at=0.0,
            updated_at=0.0,
            status=status,
        )
        return Change(sid=ACCOUNT, shard=0, sequence=sequence, account=account)

    pair.here.tell(said(7, AccountStatus.CLOSED))
    pair.here.tell(said(6, AccountStatus.ACTIVE))
    await asyncio.sleep(0)

    for news in (pair.here, pair.there):
        assert news.is_closed(ACCOUNT)


async def test_what_cannot_be_read_is_noted_and_changes_nothing(pair: Pair) -> None:
    with capture_logs() as logs:
        pair.bus.send(SUBJECT, b"\xc1")
        await asyncio.sleep(0)

    assert [each["event"] for each in logs] == ["news.unreadable"] * 2
    assert pair.there.account(ACCOUNT) is None


async def test_a_copy_that_cannot_be_read_makes_nobody_inactive(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(sid: str) -> Account | None:
        raise sqlite3.OperationalError(f"no page for {sid}")

    monkeypatch.setattr(pair.two.replica, "account", fail)

    assert isinstance(pair.there.is_active(ACCOUNT), Unreadable)


async def test_only_so_many_words_are_kept(pair: Pair) -> None:
    for number in range(HEARD_MAX + 10):
        pair.here.tell(Change(sid=f"SK{number:032}", shard=0, sequence=1))

    assert len(pair.here._changes) == HEARD_MAX


async def test_an_account_that_was_changed_is_not_opened_as_it_was(pair: Pair) -> None:
    author = pen("two", pair.clock)
    async with pair.following(pair.one):
        deadline = pair.one.deadline()
        assert await open_account(pair.log, OPENED, author=author, deadline=deadline)
        await pair.say(AccountStatus.SUSPENDED)

        assert await open_account(pair.log, OPENED, author=author, deadline=deadline)

        found = await pair.accounts.find(ACCOUNT, deadline=deadline)
        assert isinstance(found, Account)
        assert found.status is AccountStatus.SUSPENDED


async def test_what_a_closed_account_has_left_is_anybody_s(pair: Pair) -> None:
    other = msgspec.structs.replace(OWNED, sid="PN" + "2" * 32)
    numbers = Numbers(
        pair.log,
        pair.one.replica,
        author=pen("one", pair.clock),
        is_closed=pair.here.is_closed,
    )
    async with pair.following(pair.one):
        deadline = pair.one.deadline()
        await pair.accounts.make(ACCOUNT, OPENED, is_keyed=False, deadline=deadline)
        assert isinstance(
            await numbers.own(ACCOUNT, OWNED, is_keyed=False, deadline=deadline), Owned
        )
        taken = await numbers.own("AC9", other, is_keyed=False, deadline=deadline)
        assert isinstance(taken, Taken)

        await pair.say(AccountStatus.CLOSED)

        owned = await numbers.own("AC9", other, is_keyed=False, deadline=deadline)
        assert isinstance(owned, Owned)
        assert owned.number.account == "AC9"
