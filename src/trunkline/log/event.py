"""The envelope of every event, and the subjects it stands under.

    ev.<shard>.<kind>.created.<account>.<name>    a register: an original or a tombstone
    ev.<shard>.<kind>.chain                       the chains of the shard, written by compare-and-set
    ev.<shard>.<kind>.changed.<account>           what may arrive in any order

`name` is the 32 digits of a SID; or what the SIDs of several keyless resources begin with, which were
created at the same moment and share a register; or for what must be unique the unique thing itself,
which has its chain behind its original, on the register's own subject. Otherwise one message of the
log may hold several events: each flush costs the engine a tenth of a millisecond of CPU.

A field may be added to the envelope or to a body if whoever overlooks it does no harm; readers pass
over fields they do not know. Anything else needs a new type or a new version, and these are never
passed over: `decode` refuses what a newer program has written as `NewerEvent`.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from trunkline.domain.events import Body, Kind, Type, body_type

ENVELOPE_VERSION: Final = 1


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One fact. `at` is the wall clock of `by_host`; `position` and `prior` are of its append.

    `created_at` and `changed_at` are there on a whole record that was changed or carried forward:
    then `at` says neither. `spent` is of the registers of `directory/records`: the SIDs that were
    lately deleted in this one, up to this event, and when. Without it nobody can tell but by reading
    the register from its beginning.
    """

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
    created_at: float | None = None
    changed_at: float | None = None
    spent: tuple[tuple[str, float], ...] | None = None
    data: msgspec.Raw

    @property
    def is_keyed(self) -> bool:
        """Whether its create carried a key; then its position says which shards it passed over."""
        return self.prior is None

    @property
    def record_created_at(self) -> float:
        """When the record was created that this event is the whole of."""
        return self.at if self.created_at is None else self.created_at

    @property
    def record_changed_at(self) -> float:
        """When that record was last changed, or created."""
        return self.at if self.changed_at is None else self.changed_at

    def body(self) -> Body:
        """The `data`, decoded and validated."""
        return msgspec.json.decode(self.data, type=body_type(self.kind, self.type))


class UnreadableEvent(Exception):
    """An event that cannot be read: it is damaged, or a `NewerEvent`."""


class NewerEvent(UnreadableEvent):
    """An event that only a newer version can read. Passing it over would lose it for good."""


class _Head(msgspec.Struct, frozen=True):
    """What an envelope of any version says about itself."""

    v: int = ENVELOPE_VERSION
    kind: object = ""
    type: object = ""


_DECODER: Final = msgspec.json.Decoder(Event)
_SEVERAL: Final = msgspec.json.Decoder(tuple[Event, ...])
_HEAD_DECODER: Final = msgspec.json.Decoder(_Head | list[_Head])
_ENCODER: Final = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    return _ENCODER.encode(event)


def encode_body(body: Body) -> msgspec.Raw:
    return msgspec.Raw(_ENCODER.encode(body))


def encode_all(events: Sequence[Event]) -> bytes:
    """One payload that holds all of them; `decode_all` gives them back in this order. One alone stands
    as it is: what reads one need not know of several."""
    if len(events) == 1:
        return encode(events[0])
    return b"[" + b",".join(map(_ENCODER.encode, events)) + b"]"


def decode(payload: bytes) -> Event:
    """The one event. Raises `UnreadableEvent`, which names what is wrong."""
    try:
        event = _DECODER.decode(payload)
    except msgspec.MsgspecError as error:
        raise unreadable(payload, error) from error
    _refuse_newer(event)
    return event


def decode_all(payload: bytes) -> tuple[Event, ...]:
    """The event or events. Raises `UnreadableEvent`, which names what is wrong."""
    if not payload.startswith(b"["):
        return (decode(payload),)
    try:
        events = _SEVERAL.decode(payload)
    except msgspec.MsgspecError as error:
        raise unreadable(payload, error) from error
    for event in events:
        _refuse_newer(event)
    return events


def _refuse_newer(event: Event) -> None:
    if event.v > ENVELOPE_VERSION:
        raise NewerEvent(_too_new(event.v))


def unreadable(payload: bytes, error: Exception) -> UnreadableEvent:
    """What a payload is that does not decode: a newer program's, or damaged."""
    try:
        found = _HEAD_DECODER.decode(payload)
    except (msgspec.MsgspecError, RecursionError):
        return UnreadableEvent(f"cannot read an event: {error}")
    for head in found if isinstance(found, list) else [found]:
        if head.v > ENVELOPE_VERSION:
            return NewerEvent(_too_new(head.v))
        for word, known in ((head.kind, Kind), (head.type, Type)):
            if isinstance(word, str) and word and word not in set(known):
                return NewerEvent(f"an event speaks of {word!r}, which this program does not know")
    return UnreadableEvent(f"cannot read an event: {error}")


def _too_new(version: int) -> str:
    return f"an event has envelope version {version}; this program reads up to {ENVELOPE_VERSION}"


def created_subject(shard: int, kind: Kind, account: str, name: str) -> str:
    return f"ev.{shard}.{kind}.created.{account}.{name}"


def register_name(subject: str) -> str:
    """What a register is named by, from the subject it stands under."""
    return subject.rpartition(".")[2]


def chain_subject(shard: int, kind: Kind) -> str:
    """Where the chains of a shard's resources stand. It is also what a consumer subscribes to."""
    return f"ev.{shard}.{kind}.chain"


def changed_subject(shard: int, kind: Kind, account: str) -> str:
    return f"ev.{shard}.{kind}.changed.{account}"


def is_changed(subject: str) -> bool:
    """Whether what stands there is beside all chains."""
    return subject.split(".", 4)[3:4] == ["changed"]


def created_filter(shard: int, kind: Kind) -> str:
    """What a consumer of a kind's originals subscribes to."""
    return f"ev.{shard}.{kind}.created.>"


def changed_filter(shard: int, kind: Kind) -> str:
    """What a consumer of a kind's later events subscribes to."""
    return f"ev.{shard}.{kind}.changed.>"
