"""The bench that the tests of the messaging services work at."""

import pytest
from tests.unit.messaging.message_bench import Bench

from trunkline.messaging.dispatch import TOGETHER_MIN


@pytest.fixture(params=[TOGETHER_MIN, 1], ids=["alone", "in-batches"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """Messages in a task each where they come alone; and once more with everything in batches."""
    together_min: int = request.param
    return Bench(together_min=together_min)
