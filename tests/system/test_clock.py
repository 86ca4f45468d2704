"""A host whose wall clock is not the log's, against the real engine."""

import asyncio
import random
import secrets
from pathlib import Path

import pytest
from tests.system.running import up

from trunkline.domain.events import Kind, MessageCreated
from trunkline.host.engine import Door, open_door
from trunkline.host.layout import Layout
from trunkline.kernel import SystemClock
from trunkline.log.append import CLOCK_OFF, AppendAnswer, Appended, Draft, NotStored, ShardHealth
from trunkline.log.append import append as append_to
from trunkline.log.author import Author
from trunkline.log.interface import Log

pytestmark = [pytest.mark.system, pytest.mark.anyio, pytest.mark.timeout(120)]

LIMIT_S = 40.0
HOURS_3 = 3 * 3600.0


class SettableClock(SystemClock):
    """The machine's clock as a process would see it after somebody had set it."""

    __slots__ = ("set_by_s",)

    def __init__(self) -> None:
        self.set_by_s = 0.0

    def wall(self) -> float:
        return super().wall() + self.set_by_s


@pytest.mark.parametrize("jump_s", [HOURS_3, -HOURS_3])
async def test_a_host_with_a_wrong_clock_creates_nothing_and_goes_on_when_it_is_right(
    tmp_path: Path, jump_s: float
) -> None:
    with up(tmp_path / "data") as host:
        clock = SettableClock()
        door = Door.find(Layout(tmp_path / "data"))
        async with open_door(door, clock=clock, rng=random.Random()) as log:
            account = host.facts["account_sid"]
            assert isinstance(await append(log, account, clock), Appended)

            clock.set_by_s = jump_s
            await until_told(log, is_off=True)
            assert log.clock_off_s(0) == pytest.approx(-jump_s, abs=5.0)
            assert await append(log, account, clock) == NotStored(CLOCK_OFF)

            clock.set_by_s = 0.0
            await until_told(log, is_off=False)
            assert isinstance(await append(log, account, clock), Appended)


async def append(log: Log, account: str, clock: SettableClock) -> AppendAnswer:
    sid = f"SM{secrets.token_hex(16)}"
    body = MessageCreated(sid=sid, sender="+15550001", recipient="+15550002", text="hi")
    draft = Draft(kind=Kind.MESSAGE, sid=sid, account=account, body=body, is_keyed=True)
    author = Author("other", clock, secrets.token_bytes)
    return await append_to(log, draft, author=author, health=ShardHealth(clock))


async def until_told(log: Log, *, is_off: bool) -> None:
    """Shards are asked every few seconds."""
    async with asyncio.timeout(LIMIT_S):
        while not all((log.clock_off_s(shard) != 0.0) is is_off for shard in range(log.shards)):
            await asyncio.sleep(0.05)
