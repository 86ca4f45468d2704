"""The log that the tests of the directory are about."""

import pytest
from tests.unit.log.scripted_log import ScriptedLog

from trunkline.kernel import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def log(clock: FakeClock) -> ScriptedLog:
    return ScriptedLog(clock)
