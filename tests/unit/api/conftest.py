"""The world that the tests of the API are about."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.api.api_world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "copy.sqlite3")
    yield made
    made.copy.close()
