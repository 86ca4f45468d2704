"""How far each service is through each shard, where several hosts share the services.

The servers keep nothing for a service of a cluster: a reader that they would have to replicate costs
more than what it reads. Whoever reads for a service knows what it has done with, says so to the other
hosts twice a second, and notes it on its disk now and then. Whoever reads next goes on from there.

That a message was done with stays true for ever, so a word that is old or lost costs work and no
message. It must only be of the same log: a note counts while the very message that it names, by its
sequence and the time at which it was stored, still stands there.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from trunkline.kernel import Clock
from trunkline.log.engines.jetstream import api
from trunkline.log.engines.jetstream.requests import Requests
from trunkline.log.interface import Bus

SAY_EVERY_S: Final = 0.5
"""What was done since the last word is looked at once more by whoever takes over."""

NOTE_EVERY_S: Final = 10.0
"""Between two notes. They are needed where no process is left that heard the last word."""

OPEN_MAX: Final = 256
"""So many that are not done are named one by one; what is behind the last of them is read again."""

ASK_TIMEOUT_S: Final = 1.0
LAST_NOTE_S: Final = 1.0
"""All that may be spent on the last note when this process ends."""

FILE_BYTES_MAX: Final = 4 << 20
NOTES_MAX: Final = 1024
"""Some twenty times what a host has; services that are no more stay noted."""

FORMAT: Final = 2
FILE_MODE: Final = 0o600

SUBJECT: Final = "positions"
_SAID: Final = f"{SUBJECT}.said"
_ASKED: Final = f"{SUBJECT}.asked"


class Key(msgspec.Struct, frozen=True):
    """Who reads what: the stream, the service, and what it wants of the stream."""

    stream: str
    service: str
    filters: tuple[str, ...]


class Position(msgspec.Struct, frozen=True):
    """Everything up to the sequence `upto` is done with, but for the sequences that are `open`."""

    upto: int = 0
    open: tuple[int, ...] = ()

    @property
    def floor(self) -> int:
        """Everything up to here is done with."""
        return self.open[0] - 1 if self.open else self.upto

    @classmethod
    def of(cls, upto: int, still_open: list[int]) -> "Position":
        """From what is open up to there, in any order; shortened where that is too much to say."""
        named = sorted(still_open)
        if len(named) > OPEN_MAX:
            upto = named[OPEN_MAX] - 1
            named = named[:OPEN_MAX]
        return cls(upto, tuple(named))

    def is_behind(self, other: "Position") -> bool:
        """Whether the other one, which is as true, says more."""
        mine, theirs = (self.floor, self.upto), (other.floor, other.upto)
        return theirs > mine or (theirs == mine and len(other.open) < len(self.open))


NOWHERE: Final = Position()


class Note(msgspec.Struct, frozen=True):
    """The message at `position.upto` was stored `at`, in the server's own words."""

    key: Key
    position: Position
    at: str


class _Document(msgspec.Struct, frozen=True):
    format: int
    notes: tuple[Note, ...]


class _Said(msgspec.Struct, frozen=True):
    positions: tuple[tuple[Key, Position], ...]


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
    return {note.key: note for note in document.notes if note.position.upto > 0 and note.at}


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


class Positions:
    """What this process knows, heard or read of it. Use `run` beside the log, until cancelled."""

    def __init__(self, requests: Requests, bus: Bus, path: Path | None, clock: Clock) -> None:
        self._requests = requests
        self._bus = bus
        self._path = path
        self._clock = clock
        self._known: dict[Key, Position] = {}
        self._readers: dict[Key, list[Callable[[], Position]]] = {}
        self._said: dict[Key, Position] = {}
        self._fresh: set[Key] = set()
        """Of these whoever reads has told, here or elsewhere, since this process began."""
        self._noted: dict[Key, Position] = {}
        self._unproven = {} if path is None else read(path)
        """Notes whose message was not looked at yet."""

    def expect(self, key: Key) -> None:
        """There is such a service, and nothing of it is done before something is heard."""
        self._readers.setdefault(key, [])

    def reading(self, key: Key, position: Callable[[], Position]) -> Callable[[], None]:
        """Have `position` asked for how far a reader of this process is. Gives what ends it; the
        last position stays known."""
        readers = self._readers.setdefault(key, [])
        readers.append(position)
        self._fresh.add(key)

        def end() -> None:
            if position in readers:
                self._learn(key, position())
                readers.remove(position)

        return end

    def is_fresh(self, key: Key) -> bool:
        """Whether more than a note speaks for what is known. What is trimmed waits until all hosts
        have heard that it is done, but not for what they noted of it. So only what is fresh is told
        to others, who take it for that."""
        return key in self._fresh

    def known(self, key: Key) -> Position:
        """The best that is known without a look at the log."""
        for position in self._readers.get(key, ()):
            self._learn(key, position())
        return self._known.get(key, NOWHERE)

    async def best(self, key: Key) -> Position:
        """From where to go on. Where the log cannot be asked, an old note counts for nothing yet."""
        note = self._unproven.get(key)
        if note is not None and self.known(key).is_behind(note.position):
            at = await self._stored_at(key.stream, note.position.upto)
            if at is not None:
                del self._unproven[key]
            if at == note.at:
                self._learn(key, note.position)
        return self.known(key)

    def floors(self, stream: str) -> Mapping[str, int]:
        """For every service of the stream that is known, up to where everything is done with."""
        keys = {*self._known, *self._readers}
        return {key.service: self.known(key).floor for key in keys if key.stream == stream}

    async def run(self) -> None:
        """Until cancelled: say how far this process's readers are, hear the others, note it all."""
        ends = [
            self._bus.subscribe(_SAID, self._on_said),
            self._bus.subscribe(_ASKED, self._on_asked),
        ]
        try:
            self._bus.send(_ASKED, b"")
            note_at = self._clock.monotonic() + NOTE_EVERY_S
            while True:
                await self._clock.sleep(SAY_EVERY_S)
                self.say()
                if self._clock.monotonic() >= note_at:
                    self._said.clear()  # a word may be lost, and most services are quiet
                    await self.note()
                    note_at = self._clock.monotonic() + NOTE_EVERY_S
        finally:
            for end in ends:
                end()

    def say(self) -> None:
        """What changed of this process's own."""
        own = self._fresh & self._readers.keys()
        self._send({key: self.known(key) for key in own}, self._said)

    async def note(self) -> None:
        """Write down what changed since the last time. A failure is left, and tried again later."""
        if self._path is None:
            return
        found: dict[Key, Note] = {}
        for key in {*self._known, *self._readers}:
            position = self.known(key)
            if position == NOWHERE or self._noted.get(key) == position:
                continue
            at = await self._stored_at(key.stream, position.upto)
            if at is None:
                break
            if at:
                found[key] = Note(key, position, at)
        if not found:
            return
        # Into what the file holds now, as the host's other processes write there too.
        with contextlib.suppress(OSError):  # a full disk costs the notes, and the work they spare
            write(self._path, read(self._path) | found)
            self._noted.update({key: note.position for key, note in found.items()})

    async def note_at_last(self) -> None:
        """Before the connections are closed."""
        self.say()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_NOTE_S):
                await self.note()

    def _send(self, positions: Mapping[Key, Position], said: dict[Key, Position]) -> None:
        news = {key: each for key, each in positions.items() if said.get(key) != each}
        if news and self._bus.send(_SAID, msgspec.json.encode(_Said(tuple(news.items())))):
            said.update(news)

    def _on_said(self, subject: str, payload: bytes) -> None:
        del subject
        try:
            said = msgspec.json.decode(payload, type=_Said)
        except msgspec.MsgspecError:
            return
        for key, position in said.positions:
            self._fresh.add(key)
            self._learn(key, position)

    def _on_asked(self, subject: str, payload: bytes) -> None:
        """Somebody has just started. Whoever heard the last word of a reader that died repeats it."""
        del subject, payload
        self._send({key: self.known(key) for key in self._fresh}, {})

    def _learn(self, key: Key, position: Position) -> None:
        if self._known.get(key, NOWHERE).is_behind(position):
            self._known[key] = position

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
