"""The bus of processes that share a log in memory, of which there is one."""

import asyncio
from collections.abc import Callable


class LocalBus:
    """Implements `Bus` for those who share the log: this process."""

    def __init__(self) -> None:
        self._sinks: dict[object, tuple[list[str], Callable[[str, bytes], None]]] = {}

    def send(self, subject: str, payload: bytes) -> bool:
        words = subject.split(".")
        for pattern, sink in self._sinks.values():
            if _matches(pattern, words):
                # Not at once: a sink may send, and its sender may be in the middle of something.
                asyncio.get_running_loop().call_soon(sink, subject, payload)
        return True

    def subscribe(self, subject: str, sink: Callable[[str, bytes], None]) -> Callable[[], None]:
        place = object()
        self._sinks[place] = (subject.split("."), sink)

        def end() -> None:
            self._sinks.pop(place, None)

        return end


def _matches(pattern: list[str], words: list[str]) -> bool:
    if pattern[-1] == ">":
        pattern = pattern[:-1]
        if len(words) <= len(pattern):
            return False
        words = words[: len(pattern)]
    return len(pattern) == len(words) and all(
        wanted in ("*", word) for wanted, word in zip(pattern, words, strict=True)
    )
