"""Unpredictable bytes, a page at a time: one system call serves some hundred ids.

Each process makes its own after it was started, so two never share a page.
"""

import os
from typing import Final

PAGE_BYTES: Final = 4096


class BufferedEntropy:
    """`entropy(n)` gives n bytes that nobody was given before; see `trunkline.domain.ports`."""

    def __init__(self) -> None:
        self._page = b""
        self._used = 0

    def __call__(self, count: int, /) -> bytes:
        if count > PAGE_BYTES:
            return os.urandom(count)
        if self._used + count > len(self._page):
            self._page = os.urandom(PAGE_BYTES)
            self._used = 0
        self._used += count
        return self._page[self._used - count : self._used]
