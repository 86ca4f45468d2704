"""The NATS client protocol as a function of bytes: what a server sends in, what it means out.

Control lines end in CR LF; a message's line says how many octets of headers and payload follow
(NATS documentation, "Client Protocol"; headers as in NATS ADR-4). A line or a size over the bounds
ends the connection: the peer is no server we know.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

LINE_BYTES_MAX: Final = 64 * 1024
"""INFO is the longest line: a kilobyte or two, and longer with many servers in a cluster."""

MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024

_HEADER_VERSION: Final = b"NATS/1.0"


class NatsProtocolError(Exception):
    """The peer does not speak the protocol."""


@dataclass(frozen=True, slots=True)
class Info:
    """The server's greeting, and what it says again when its cluster changes. `server` is the name
    it was given."""

    headers: bool
    max_payload: int
    server: str = ""


@dataclass(slots=True)
class Message:
    """A message for the subscription `sid`. `status` is the code of a header that is only a status
    (100, 404, 408, 409, 503), 0 for an ordinary message; `description` comes with it."""

    subject: str
    sid: int
    reply: str
    payload: bytes
    status: int = 0
    description: str = ""


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with `PONG`."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to our `PING`."""


@dataclass(frozen=True, slots=True)
class ServerError:
    """The server's words before it closes, mostly."""

    text: str


Event = Info | Message | Ping | Pong | ServerError

PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"


class Parser:
    """Feed it octets as they come; it keeps what is not complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0

    def receive(self, data: bytes) -> list[Event]:
        """Every event that is complete now. Raises `NatsProtocolError`."""
        self._buffer += data
        events: list[Event] = []
        while (event := self._next()) is not None:
            if event is not _NOTHING:
                events.append(event)
        del self._buffer[: self._at]
        self._at = 0
        return events

    def _next(self) -> "Event | None":
        end = self._buffer.find(b"\r\n", self._at)
        if end < 0:
            if len(self._buffer) - self._at > LINE_BYTES_MAX:
                raise NatsProtocolError("a control line has no end")
            return None
        line = bytes(self._buffer[self._at : end])
        verb = line[:4]
        if verb == b"MSG ":
            return self._message(line[4:].split(), end + 2, header_words=0)
        if verb == b"HMSG":
            return self._message(line[5:].split(), end + 2, header_words=1)
        self._at = end + 2
        return _control(line)

    def _message(self, words: list[bytes], start: int, *, header_words: int) -> "Message | None":
        """`subject sid [reply] [header size] size`, and then the octets, if they are all here."""
        count = len(words) - header_words
        if count not in (3, 4):
            raise NatsProtocolError("a message's line has the wrong number of words")
        try:
            size = int(words[-1])
            header_size = int(words[-2]) if header_words else 0
            sid = int(words[1])
        except ValueError:
            raise NatsProtocolError("a message's line has no numbers") from None
        if not 0 <= header_size <= size <= MESSAGE_BYTES_MAX:
            raise NatsProtocolError(f"a message of {size} octets")
        end = start + size
        if len(self._buffer) < end + 2:
            return None
        payload = bytes(self._buffer[start + header_size : end])
        message = Message(
            subject=words[0].decode(),
            sid=sid,
            reply=words[2].decode() if count == 4 else "",
            payload=payload,
        )
        if header_size:
            _read_status(bytes(self._buffer[start : start + header_size]), message)
        self._at = end + 2
        return message


class _Nothing(Pong):
    """An event that tells nothing."""


_NOTHING: Final = _Nothing()


def _control(line: bytes) -> Event:
    verb = line[:4].upper()
    if verb == b"PING":
        return Ping()
    if verb == b"PONG":
        return Pong()
    if verb == b"INFO":
        return _info(line[5:])
    if verb == b"-ERR":
        return ServerError(line[5:].decode("utf-8", "replace").strip("'"))
    if line[:3].upper() == b"+OK":
        return _NOTHING
    raise NatsProtocolError(f"an unknown control line: {line[:40]!r}")


class _InfoFields(msgspec.Struct):
    headers: bool = False
    max_payload: int = 1_048_576
    server_name: str = ""


_INFO: Final = msgspec.json.Decoder(_InfoFields)


def _info(document: bytes) -> Info:
    try:
        fields = _INFO.decode(document)
    except msgspec.MsgspecError as error:
        raise NatsProtocolError(f"an unreadable greeting: {error}") from error
    return Info(fields.headers, fields.max_payload, fields.server_name)


def _read_status(block: bytes, message: Message) -> None:
    """The first line is the version, and behind it a status where there is one. The rest, which
    says what a publisher set, concerns nobody who reads."""
    first = block[: block.find(b"\r\n")]
    if not first.startswith(_HEADER_VERSION):
        raise NatsProtocolError("headers of an unknown version")
    code, _, description = first[len(_HEADER_VERSION) :].strip().partition(b" ")
    if code:
        try:
            message.status = int(code)
        except ValueError:
            raise NatsProtocolError("a status that is no number") from None
        message.description = description.decode("utf-8", "replace")


def connect(token: str, name: str) -> bytes:
    """The client's greeting."""
    fields = {
        "auth_token": token,
        "name": name,
        "lang": "python",
        "version": "1",
        "protocol": 1,
        "verbose": False,
        "pedantic": False,
        "headers": True,
        "no_responders": True,
    }
    return b"CONNECT " + msgspec.json.encode(fields) + b"\r\n" + PING


def publish(subject: str, payload: bytes, *, reply: str = "", header_block: bytes = b"") -> bytes:
    """A publish; `header_block` is made once with `headers`."""
    if header_block:
        total = len(header_block) + len(payload)
        line = f"HPUB {subject} {reply} {len(header_block)} {total}\r\n".encode()
        return b"".join((line, header_block, payload, b"\r\n"))
    return b"".join((f"PUB {subject} {reply} {len(payload)}\r\n".encode(), payload, b"\r\n"))


def headers(name: str, value: str) -> bytes:
    """A block of one header."""
    return f"NATS/1.0\r\n{name}: {value}\r\n\r\n".encode()


def header_block(*fields: tuple[str, str]) -> bytes:
    """A block of several headers, each a name and a value without line ends."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def subscribe(subject: str, sid: int) -> bytes:
    return f"SUB {subject} {sid}\r\n".encode()


def unsubscribe(sid: int) -> bytes:
    return f"UNSUB {sid}\r\n".encode()
