"""What the log engine writes into its own log file, for ours: its warnings and errors, as they come."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

READ_BYTES_MAX: Final = 64 * 1024
"""One look takes in this much at the most; a flood is cut, not collected."""

_REFUSED: Final = re.compile(
    r"(?P<peer>\S+) - (?P<link>[rc])id:\d+ - "
    r"(?P<what>authentication error|Route Error 'Authorization Violation'|.*Cluster Name Conflict)"
)
_RECOVERY: Final = re.compile(
    r"Error trying to connect to route|Waiting for routing to be established"
    r"|JetStream has not established contact with a meta leader"
    r"|JetStream is not current with the meta leader"
    r"|Filestore \[[^]]*\] (Stream state outdated|Recovering stream state from index errored)"
    r"|Metalayer blocking snapshot"
)
_GRAVE: Final = re.compile(r"\[(WRN|ERR|FTL)\] (.*)")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Somebody with another secret: `peer` is the address it was seen at, without the port it
    happened to have; `is_host` says that it spoke as another engine does, not as a client."""

    peer: str
    is_host: bool


def refusal_in(text: str) -> Refusal | None:
    """What a line says of a peer or client that was refused, or refused this engine."""
    found = _REFUSED.match(text)
    if found is None:
        return None
    return Refusal(found["peer"].rpartition(":")[0], is_host=found["link"] == "r")


def is_of_recovery(text: str) -> bool:
    """Whether a line only says that other engines are not there yet, or that an engine which was
    killed rebuilds an index: a hundred lines, of which none asks for anything."""
    return _RECOVERY.match(text) is not None


class EngineWords:
    """A place in the file, which may be replaced by a new one when it has grown."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = self._size()

    def new(self) -> Iterator[tuple[str, str]]:
        """Severity (WRN, ERR or FTL) and text of each grave line since the last look."""
        size = self._size()
        if size < self._at:
            self._at = 0
        if size == self._at:
            return
        with self._path.open("rb") as file:
            file.seek(max(self._at, size - READ_BYTES_MAX))
            text = file.read(READ_BYTES_MAX).decode("utf-8", "replace")
        self._at = size
        for line in text.splitlines():
            found = _GRAVE.search(line)
            if found is not None:
                yield found[1], found[2]

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0
