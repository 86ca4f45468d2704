"""A collection: whoever is to be told of a record hears of each change that is written, and of no other."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from tests.unit.directory.test_view import Host
from tests.unit.log.scripted_log import ACCOUNT, Fate, ScriptedLog, in_virtual_time, pen

from trunkline.directory.collection import Collection
from trunkline.directory.keys import key_of, register_of
from trunkline.directory.records import Missing, Removed, Spent, Undecidable
from trunkline.domain.events import KeyMade
from trunkline.domain.key import Key
from trunkline.kernel import FakeClock

pytestmark = pytest.mark.anyio

MADE = KeyMade(sid="SK" + "1" * 32, friendly_name="till", secret_digest="d" * 64)
OTHER_ACCOUNT = "AC" + "b" * 32


class Kept:
    """A host's collection of keys, and what was told of them."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.told: list[tuple[str, Key | None, bool]] = []
        self.keys: Collection[KeyMade, Key] = Collection(
            host.log,
            host.replica,
            register_of,
            key_of,
            author=pen("one", host.clock),
            tell=self._tell,
        )

    def _tell(self, sid: str, shard: int, sequence: int, key: Key | None) -> None:
        is_shown = self.host.replica.sequence(shard) >= sequence
        self.told.append((sid, key, is_shown))


@pytest.fixture
def kept(log: ScriptedLog, clock: FakeClock, tmp_path: Path) -> Iterator[Kept]:
    with closing(Host(log, clock, tmp_path / "copy.db")) as host:
        yield Kept(host)


def renamed(body: KeyMade) -> KeyMade:
    return msgspec.structs.replace(body, friendly_name="shop")


async def test_each_change_is_told_before_the_copy_shows_it(kept: Kept) -> None:
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(kept.host.follow())
        deadline = kept.host.deadline()

        made = await kept.keys.make(ACCOUNT, MADE, is_keyed=True, deadline=deadline)
        changed = await kept.keys.change(ACCOUNT, MADE.sid, renamed, deadline=deadline)
        gone = await kept.keys.delete(ACCOUNT, MADE.sid, deadline=deadline)

        assert isinstance(made, Key)
        assert isinstance(changed, Key)
        assert (changed.settings, changed.created_at) == (renamed(MADE), made.created_at)
        assert isinstance(gone, Removed)
        assert kept.told == [(MADE.sid, each, False) for each in (made, changed, None)]
        assert await kept.keys.make(ACCOUNT, MADE, is_keyed=True, deadline=deadline) == Spent()
        following.cancel()


async def test_nothing_is_told_of_what_another_account_asks_for(kept: Kept) -> None:
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(kept.host.follow())
        deadline = kept.host.deadline()
        made = await kept.keys.make(ACCOUNT, MADE, is_keyed=False, deadline=deadline)
        kept.told.clear()

        changed = await kept.keys.change(OTHER_ACCOUNT, MADE.sid, renamed, deadline=deadline)
        gone = await kept.keys.delete(OTHER_ACCOUNT, MADE.sid, deadline=deadline)

        assert (changed, gone) == (Missing(), Missing())
        assert kept.told == []
        assert await kept.keys.find(MADE.sid, deadline=deadline) == made
        following.cancel()


async def test_nothing_is_told_of_what_cannot_be_decided(
    kept: Kept, log: ScriptedLog, clock: FakeClock
) -> None:
    log.always(Fate.REFUSED)

    making = kept.keys.make(ACCOUNT, MADE, is_keyed=False, deadline=kept.host.deadline())
    answer = await in_virtual_time(clock, making)

    assert isinstance(answer, Undecidable)
    assert kept.told == []
