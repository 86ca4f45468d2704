"""What durable consumers have surely done with, noted on this host's disk now and then.

In a cluster a consumer is kept in the servers' memory. When all of them have stopped, the servers make
it anew, as it was at its birth: it would deliver everything that the log holds. What stood in this
file is then told to it. That everything up to a floor was acknowledged stays true for ever, so an old
note, or none, costs work and no message. It must only be of the same log: it counts while the very
message that it names, by its sequence and the time at which it was stored, still stands there.
"""

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from trunkline.log.engines.jetstream import api
from trunkline.log.engines.jetstream.requests import Requests

log: Final = structlog.get_logger(__name__)

FLOORS_EVERY_S: Final = 10.0
"""Between two looks at the consumers. What was done since the last one is done again after a stop of
all servers; a look costs two questions for each consumer."""

ASK_TIMEOUT_S: Final = 1.0
LAST_LOOK_S: Final = 1.0
"""All that may be spent on it when this process ends."""

FILE_BYTES_MAX: Final = 1 << 20
NOTES_MAX: Final = 4096
"""Some twenty times what a host has; consumers of services that are no more stay noted."""

FORMAT: Final = 1
FILE_MODE: Final = 0o600


class Key(msgspec.Struct, frozen=True):
    """Which consumer: its stream, its service, and what it wants of the stream."""

    stream: str
    service: str
    filters: tuple[str, ...]


class Note(msgspec.Struct, frozen=True):
    """Everything up to the sequence `floor` is done with; the message there was stored `at`, in the
    server's own words."""

    key: Key
    floor: int
    at: str


class _Document(msgspec.Struct, frozen=True):
    format: int
    notes: tuple[Note, ...]


class _StoredAt(msgspec.Struct, frozen=True):
    time: str = ""


class _Found(msgspec.Struct, frozen=True):
    """The answer to a read, of which only the time counts."""

    message: _StoredAt | None = None
    error: api.ApiError | None = None


def read(path: Path) -> dict[Key, Note]:
    """Empty where there is no file, or none that can be used."""
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
        document = msgspec.json.decode(text, type=_Document)
    except (OSError, msgspec.MsgspecError, UnicodeError):
        return {}
    if document.format != FORMAT or len(text) > FILE_BYTES_MAX:
        return {}
    return {note.key: note for note in document.notes if note.floor > 0 and note.at}


def write(path: Path, notes: Mapping[Key, Note]) -> None:
    """In one step, and not flushed: a note that is lost costs work. Raises `OSError`."""
    document = _Document(FORMAT, tuple(notes.values())[-NOTES_MAX:])
    # The host's other processes write here too; each has a name of its own to write to.
    partial = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        partial.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(partial, flags, FILE_MODE), "wb") as file:
            file.write(msgspec.json.encode(document))
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


class FloorKeeper:
    """Notes the floors of the consumers that this process has, and tells a consumer that has lost
    its memory where to go on. Nothing here is needed: what fails is left, and tried again later."""

    def __init__(self, requests: Requests, path: Path) -> None:
        self._requests = requests
        self._path = path
        self._notes = read(path)
        self._known: dict[Key, None] = {}
        """All that this process ever had, as some are closed before the last look."""

    async def catch_up(self, key: Key) -> None:
        """Move a consumer that has just been opened to what is noted of it."""
        self._known[key] = None
        if key in self._notes:
            await self._look_at(key)

    async def look(self, keys: Sequence[Key]) -> bool:
        """Look at each of the consumers, one after the other, and note what was found. Gives whether
        all of them answered."""
        answered = 0
        for key in keys:
            if not await self._look_at(key):
                break
            answered += 1
        self._write(keys)
        return answered == len(keys)

    async def look_at_last(self) -> None:
        """Once more at everything, within `LAST_LOOK_S`: this process ends."""
        keys = tuple(self._known)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_LOOK_S):
                await self.look(keys)
                return
        self._write(keys)

    async def _look_at(self, key: Key) -> bool:
        floor = await self._floor(key)
        if floor is None:
            return False
        noted = self._notes.get(key)
        if noted is not None and floor < noted.floor:
            await self._move(noted, floor)
        elif floor > (0 if noted is None else noted.floor):
            at = await self._stored_at(key.stream, floor)
            if at:
                self._notes[key] = Note(key, floor, at)
        return True

    async def _move(self, noted: Note, floor: int) -> None:
        """Another host may have moved the consumer further meanwhile; then it goes back, and what it
        delivers again is found to be done."""
        stream, service = noted.key.stream, noted.key.service
        at = await self._stored_at(stream, noted.floor)
        if not at:
            return  # purged, so that nothing is to be moved past; or not there yet
        if at != noted.at:  # another log, or an older one that was put back and went on
            del self._notes[noted.key]
            return
        question = msgspec.json.encode({"seq": noted.floor + 1})
        reply = await self._requests.request(
            f"$JS.API.CONSUMER.RESET.{stream}.{service}", question, timeout_s=ASK_TIMEOUT_S
        )
        if not isinstance(reply, bytes):
            return
        if msgspec.json.decode(reply, type=api.ConsumerAnswer).error is None:
            log.info("log.floor_used", stream=stream, service=service, was=floor, floor=noted.floor)

    async def _floor(self, key: Key) -> int | None:
        """What the server says, or None."""
        subject = f"$JS.API.CONSUMER.INFO.{key.stream}.{key.service}"
        reply = await self._requests.ask(subject, timeout_s=ASK_TIMEOUT_S)
        if not isinstance(reply, bytes):
            return None
        answer = msgspec.json.decode(reply, type=api.ConsumerAnswer)
        return None if answer.ack_floor is None else answer.ack_floor.stream_seq

    async def _stored_at(self, stream: str, sequence: int) -> str | None:
        """When the message there was stored; "" if there is none, None if that cannot be said."""
        question = msgspec.json.encode({"seq": sequence})
        subject = f"$JS.API.STREAM.MSG.GET.{stream}"
        reply = await self._requests.ask(subject, question, timeout_s=ASK_TIMEOUT_S)
        if not isinstance(reply, bytes):
            return None
        found = msgspec.json.decode(reply, type=_Found)
        if found.message is not None:
            return found.message.time
        is_missing = found.error is not None and found.error.err_code == api.NO_MESSAGE
        return "" if is_missing else None

    def _write(self, keys: Sequence[Key]) -> None:
        """Into what the file holds now, as others write there too."""
        standing = read(self._path)
        found = {key: note for key in keys if (note := self._notes.get(key)) is not None}
        kept = {key: note for key, note in standing.items() if key not in keys}
        if kept | found == standing:
            return
        with contextlib.suppress(OSError):  # a full disk costs the notes, and the work they spare
            write(self._path, kept | found)
