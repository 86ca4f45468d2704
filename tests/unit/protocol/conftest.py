"""What the protocol's tests share."""

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of interleavings say thousands of things: nobody reads them."""
    with capture_logs():
        yield
