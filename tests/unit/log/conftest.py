"""The shards that the tests of the log are about, and hosts that write to them."""

from dataclasses import dataclass

import pytest
from tests.unit.log.scripted_log import ScriptedLog, draft, in_virtual_time, pen

from trunkline.kernel import FakeClock
from trunkline.log.append import AppendAnswer, Appended, ShardHealth, append
from trunkline.log.author import Author


@dataclass
class Host:
    """One host's view: its pen, and which shards it passes over."""

    log: ScriptedLog
    author: Author
    health: ShardHealth
    clock: FakeClock

    async def create(
        self, digits: str, *, text: str = "hello", is_keyed: bool = True
    ) -> AppendAnswer:
        new = draft(digits, text=text, is_keyed=is_keyed)
        making = append(self.log, new, author=self.author, health=self.health)
        return await in_virtual_time(self.clock, making)

    async def created(self, digits: str, *, is_keyed: bool = True) -> Appended:
        """As `create`, when it must succeed."""
        answer = await self.create(digits, is_keyed=is_keyed)
        assert isinstance(answer, Appended)
        return answer


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def log(clock: FakeClock) -> ScriptedLog:
    return ScriptedLog(clock)


@pytest.fixture
def host(log: ScriptedLog, clock: FakeClock) -> Host:
    return Host(log, pen("one", clock), ShardHealth(clock), clock)


@pytest.fixture
def other_host(log: ScriptedLog, clock: FakeClock) -> Host:
    return Host(log, pen("two", clock), ShardHealth(clock), clock)
