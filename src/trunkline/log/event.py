"""The envelope of every event, and the subjects it stands under.

    ev.<shard>.<kind>.created.<account>.<name>    a register: an original or a tombstone
    ev.<shard>.<kind>.chain                       the chains of the shard, written by compare-and-set
    ev.<shard>.<kind>.changed.<account>           what may arrive in any order

`name` is the 32 digits of a SID, or for what must be unique the unique thing itself; a unique thing
has its chain behind its original, on the register's own subject. Under the last two, one message of
the log may hold several events: each flush costs the engine a tenth of a millisecond of CPU.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from trunkline.domain.events import Body, Kind, Type, body_type

ENVELOPE_VERSION: Final = 1


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fact. `at` is the wall clock of `by_host`; `position` and `prior` are of its append."""

    v: int = ENVELOPE_VERSION
    id: str
    kind: Kind
    type: Type
    sid: str
    account: str
    at: float
    by_host: str
    position: int = 0
    prior: tuple[int, ...] | None = None
    data: msgspec.Raw

    @property
    def is_keyed(self) -> bool:
        """Whether its create carried a key; then its position says which shards it passed over."""
        return self.prior is None

    def body(self) -> Body:
        """The `data`, decoded and validated."""
        return msgspec.json.decode(self.data, type=body_type(self.kind, self.type))


class UnreadableEvent(Exception):
    """An event this version cannot read; the log was written by a newer one, or is damaged."""


_DECODER: Final = msgspec.json.Decoder(Event)
_SEVERAL: Final = msgspec.json.Decoder(tuple[Event, ...])
_ENCODER: Final = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    return _ENCODER.encode(event)


def encode_body(body: Body) -> msgspec.Raw:
    return msgspec.Raw(_ENCODER.encode(body))


def encode_all(events: Iterable[Event]) -> bytes:
    """One payload that holds all of them; `decode_all` gives them back in this order."""
    return b"[" + b",".join(map(_ENCODER.encode, events)) + b"]"


def decode(payload: bytes) -> Event:
    """The one event. Raises `UnreadableEvent`, which names what is wrong."""
    try:
        event = _DECODER.decode(payload)
    except msgspec.MsgspecError as error:
        raise UnreadableEvent(f"cannot read an event: {error}") from error
    _refuse_newer(event)
    return event


def decode_all(payload: bytes) -> tuple[Event, ...]:
    """The event or events. Raises `UnreadableEvent`, which names what is wrong."""
    if not payload.startswith(b"["):
        return (decode(payload),)
    try:
        events = _SEVERAL.decode(payload)
    except msgspec.MsgspecError as error:
        raise UnreadableEvent(f"cannot read events: {error}") from error
    for event in events:
        _refuse_newer(event)
    return events


def _refuse_newer(event: Event) -> None:
    if event.v > ENVELOPE_VERSION:
        raise UnreadableEvent(
            f"event {event.id} has envelope version {event.v}; this program reads {ENVELOPE_VERSION}"
        )


def created_subject(shard: int, kind: Kind, account: str, name: str) -> str:
    return f"ev.{shard}.{kind}.created.{account}.{name}"


def chain_subject(shard: int, kind: Kind) -> str:
    """Where the chains of a shard's resources stand. It is also what a consumer subscribes to."""
    return f"ev.{shard}.{kind}.chain"


def changed_subject(shard: int, kind: Kind, account: str) -> str:
    return f"ev.{shard}.{kind}.changed.{account}"


def is_changed(subject: str) -> bool:
    """Whether what stands there is beside all chains."""
    return subject.split(".", 4)[3] == "changed"


def created_filter(shard: int, kind: Kind) -> str:
    """What a consumer of a kind's originals subscribes to."""
    return f"ev.{shard}.{kind}.created.>"


def changed_filter(shard: int, kind: Kind) -> str:
    """What a consumer of a kind's later events subscribes to."""
    return f"ev.{shard}.{kind}.changed.>"
