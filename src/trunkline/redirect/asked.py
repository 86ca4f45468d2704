"""A request of the program and its answer, as they go between the forwarder and the hosts."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

Headers = tuple[tuple[bytes, bytes], ...]


def _is_there() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Asked:
    """What the program asks for: `target` is path and query as they stood in the request. `has_gone`
    says whether the program has hung up since."""

    method: str
    target: str
    headers: Headers = ()
    body: bytes = b""
    has_gone: Callable[[], bool] = _is_there

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def with_header(self, name: bytes, value: bytes) -> "Asked":
        return replace(self, headers=(*self.headers, (name, value)))


@dataclass(frozen=True, slots=True)
class Replied:
    """What a host answered: the whole body, or its beginning and the way to `rest`."""

    status: int
    reason: str
    headers: Headers = ()
    body: bytes = b""
    rest: "Rest | None" = None

    def header(self, wanted: bytes) -> bytes | None:
        """The first of that name, which is in small letters."""
        return next((value for name, value in self.headers if name.lower() == wanted), None)


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left of a long body. `chunks` raises `OSError` where the host breaks off; `close` lets
    go of the connection, and may be called at any time."""

    chunks: Callable[[], AsyncIterator[bytes]]
    close: Callable[[], None]


class Unsent(OSError):
    """No connection came about: no host has seen anything of the request."""
