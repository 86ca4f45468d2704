"""A connection's transport that sends the head of an answer together with its body.

The server writes the two one after the other, and each write is a call of the system, for some ten
microseconds on both sides: a tenth of what a create costs. So the head waits for the body that comes
right behind it.
"""

import asyncio
from typing import Any, Final

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
"""It is no answer, and who waits for it sends no body before."""


class WholeAnswers(asyncio.Transport):
    """`transport` for a server that calls `end` behind every answer."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._head: bytes | None = None
        self._is_begun = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """The first write of an answer is kept until there is more of it, or it has ended."""
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head + data)
        elif self._is_begun or data == _CONTINUE:
            self._transport.write(data)
        else:
            self._head, self._is_begun = bytes(data), True

    def end(self) -> None:
        """An answer is complete: the next write begins another."""
        self._send_head()
        self._is_begun = False

    def close(self) -> None:
        self._send_head()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def _send_head(self) -> None:
        if self._head is not None:
            self._transport.write(self._head)
            self._head = None
