"""Whether anybody still waits at the other end of a connection, and for how long they have.

A request may have lain in the system's own buffers before this process read it: for the whole of a
freeze, if it was frozen. Its relative deadline says nothing of that, and what has been read does not
say that the client closed the connection behind it. The system knows both, and tells them in one
question that costs a microsecond.
"""

import socket
import struct
import sys
from dataclasses import dataclass
from typing import Final, Protocol

CALLER_STATE: Final = "trunkline.caller"
"""Under which name a server hands a `Caller` to its application, in the state of an ASGI scope."""

_IS_KNOWN: Final = sys.platform == "linux"
_ESTABLISHED: Final = 1
"""TCP_ESTABLISHED of tcp(7). Any other state of a connection that is served means that the other end
has closed, or broken off; one that only ended its own sending cannot be told from these."""
_INFO_BYTES: Final = 56
_TCP_INFO: Final = struct.Struct("=B51xI")
"""Of `struct tcp_info` in linux/tcp.h: `tcpi_state`, and `tcpi_last_data_recv` in milliseconds."""
_OPTION: Final = getattr(socket, "TCP_INFO", 11)


@dataclass(frozen=True, slots=True)
class Seen:
    """`waited_s`: since the last bytes of the request reached this machine."""

    has_gone: bool = False
    waited_s: float = 0.0


WAITING: Final = Seen()
"""What is taken for true where nothing can be told: somebody waits, and came just now."""


class Caller(Protocol):
    """The other end of one connection."""

    def look(self) -> Seen: ...


class TcpCaller:
    """The one at the other end of `connection`; on Linux alone there is anything to see."""

    __slots__ = ("_connection",)

    def __init__(self, connection: socket.socket | None) -> None:
        self._connection = connection

    def look(self) -> Seen:
        """As of now. A connection that this side has closed already has nobody at its other end."""
        connection = self._connection
        if connection is None or not _IS_KNOWN:
            return WAITING
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, _OPTION, _INFO_BYTES)
        except OSError:
            # Closed; or no TCP, and then nobody knows.
            return Seen(has_gone=connection.fileno() < 0)
        state, waited_ms = _TCP_INFO.unpack(info)
        return Seen(state != _ESTABLISHED, waited_ms / 1000.0)
