"""An append-only file of JSON lines, written and flushed in batches by a thread of its own."""

import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from trunkline.drills.refusal import DrillError

WAITING_RECORDS_MAX: Final = 200_000
"""A disk that takes none of them for so long has failed; the drill ends rather than forget."""
CLOSE_S: Final = 30.0

Record = TypeVar("Record")


class Journal:
    """Takes records from any thread without waiting; all are on the disk when it is closed."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._waiting: queue.Queue[bytes | None] = queue.Queue(WAITING_RECORDS_MAX)
        self._encode = msgspec.json.Encoder().encode
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._write_all, name=path.stem, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, record: object) -> None:
        """Raises `DrillError` if the file cannot be written any more."""
        if self._failure is not None:
            raise DrillError(f"cannot write {self.path} ({self._failure.strerror})", "make room")
        try:
            self._waiting.put_nowait(self._encode(record) + b"\n")
        except queue.Full as full:
            raise DrillError(f"the disk under {self.path} does not follow", "use another") from full

    def close(self) -> None:
        """Write and flush what is left; repeating it is harmless."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(CLOSE_S)

    def _write_all(self) -> None:
        with self.path.open("ab") as file:
            while (line := self._waiting.get()) is not None:
                lines = [line]
                is_last = self._take_more(lines)
                try:
                    file.write(b"".join(lines))
                    file.flush()
                    os.fdatasync(file.fileno())
                except OSError as error:
                    self._failure = error
                    return
                if is_last:
                    return

    def _take_more(self, lines: list[bytes]) -> bool:
        """Whatever waits already; whether the end was among it."""
        while True:
            try:
                line = self._waiting.get_nowait()
            except queue.Empty:
                return False
            if line is None:
                return True
            lines.append(line)


def read(path: Path, decoder: msgspec.json.Decoder[Record]) -> Iterator[Record]:
    """The records of a file, oldest first."""
    decode = decoder.decode
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            yield decode(line)
