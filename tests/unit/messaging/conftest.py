"""The bench that the tests of the messaging services work at."""

import pytest
from tests.unit.messaging.message_bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
