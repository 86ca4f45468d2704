"""What one room needs of another that it may not import: wired by the composition root."""

from collections.abc import Callable
from typing import Protocol

Entropy = Callable[[int], bytes]
"""`entropy(n)` gives n unpredictable bytes; `secrets.token_bytes` in production."""


class Counter(Protocol):
    """A metric that only grows."""

    def inc(self, amount: float = 1.0) -> None: ...
