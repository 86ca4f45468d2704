"""Addresses and listening sockets.

The parent process opens the API's listener and hands it down: while a host process is replaced,
connections wait in the kernel instead of being refused.
"""

import errno
import socket
from dataclasses import dataclass
from typing import Final

from trunkline.host.refusal import AddressInUseError, ListenError

LISTEN_BACKLOG_MAX: Final = 2048
"""Connections that may wait in the kernel; the system's own limit (somaxconn) may be lower."""

WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, never bound


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens. Port 0 means any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """From `HOST:PORT` or `[IPV6]:PORT`; raises `ValueError`."""
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError("an IPv6 address stands in brackets")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65_536):
            raise ValueError("not HOST:PORT")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """How a client on this machine reaches it."""
        return f"http://{Address(WILDCARDS.get(self.host, self.host), self.port)}"


def open_listener(address: Address, *, setting: str) -> socket.socket:
    """A listening socket on `address`; raises `ListenError`, which names `setting` as the mend."""
    listener = bound(address, setting=setting)
    listener.listen(LISTEN_BACKLOG_MAX)
    return listener


def api_listener(address: Address, inherited: int | None) -> socket.socket:
    """The listening socket that the parent process handed down, or one of our own."""
    if inherited is not None:
        return socket.socket(fileno=inherited)
    return open_listener(address, setting="--http")


def address_of(listener: socket.socket) -> Address:
    """Where it listens, with the port the system chose."""
    host, port = listener.getsockname()[:2]
    return Address(str(host), int(port))


def free_address(address: Address, *, setting: str) -> Address:
    """`address` with a free port in place of 0; raises `ListenError` if it is in use."""
    with bound(address, setting=setting) as held:
        return address_of(held)


def is_free(address: Address) -> bool:
    """Whether something could listen there now."""
    try:
        free_address(address, setting="")
    except ListenError:
        return False
    return True


def bound(address: Address, *, setting: str) -> socket.socket:
    """A socket that holds `address` and does not listen; raises `ListenError`."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise ListenError(
            f"cannot find the address {address} ({error.strerror})", f"correct {setting}"
        ) from error
    family, _, _, _, target = found[0]
    # The protocol is named because asyncio turns Nagle's delay off only for IPPROTO_TCP: with
    # protocol 0 a keep-alive request takes 44 ms instead of 0.03 ms.
    held = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(target)
    except OSError as error:
        held.close()
        raise _refusal(address, error, setting) from error
    return held


def _refusal(address: Address, error: OSError, setting: str) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        return AddressInUseError(
            f"{address} is already in use by another program",
            f"stop that program, or choose another address with {setting} "
            f"(port 0 takes a free one: {Address(address.host, 0)})",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ListenError(
            f"{address} is not an address of this machine",
            f"choose one that it has, with {setting}",
        )
    return ListenError(
        f"cannot listen on {address} ({error.strerror})", f"choose another address with {setting}"
    )
