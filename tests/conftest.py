"""What every test may ask for."""

import gc

import pytest


def pytest_collection_finish() -> None:
    """What the tests were collected into stays until the end: no pass of the collector looks at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as the product does."""
    return "asyncio"
