"""The JSON of the JetStream API, as far as we speak it (NATS ADR-1, ADR-15, ADR-31)."""

import base64
import datetime as dt
from typing import Final

import msgspec

from trunkline.log.interface import (
    Accepted,
    Exists,
    LogUnavailable,
    PublishAnswer,
    ReadAnswer,
    Refused,
    Stored,
    Undecided,
    Unknown,
    Unreadable,
)
from trunkline.log.limits import ACK_WAIT_S

ACK_PENDING_MAX: Final = 20_000
"""Deliveries of one shard that one service may have in hand or have put back for later, over all
its processes: those that wait for a receiver that is down count, and must not stop the others."""

WAITING_MAX: Final = 64
FOLLOWER_IDLE_S: Final = 30.0
"""A follower's place is forgotten by the server this long after its process is gone."""

WRONG_LAST_SEQUENCE: Final = 10071
WRONG_LAST_SEQUENCE_PENDING: Final = 10164
SEQUENCE_IN_FLIGHT: Final = 10158
MESSAGE_TOO_LARGE: Final = 10054
STORE_FAILED: Final = 10077
FULL: Final = "maximum bytes exceeded"
NO_MESSAGE: Final = 10037
STREAM_NOT_FOUND: Final = 10059
STREAM_NAME_TAKEN: Final = 10058
CONSUMER_REFUSED: Final = 10012
"""Among other things: a consumer of that name stands, and what cannot be changed is different."""
NO_LEADER: Final = 10008
"""The servers have no leader among them just now."""


class ApiError(msgspec.Struct, frozen=True):
    """What the server says when it says no."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class PubAck(msgspec.Struct, frozen=True):
    """The answer to a publish."""

    seq: int = 0
    duplicate: bool = False
    error: ApiError | None = None


class StoredMessage(msgspec.Struct, frozen=True):
    subject: str = ""
    seq: int = 0
    data: str = ""
    time: str = ""


class MessageAnswer(msgspec.Struct, frozen=True):
    message: StoredMessage | None = None
    error: ApiError | None = None


class StreamState(msgspec.Struct, frozen=True):
    first_seq: int = 0
    last_seq: int = 0
    bytes: int = 0
    num_subjects: int = 0


class Bounds(msgspec.Struct, frozen=True):
    """The part of a standing stream's configuration that may change."""

    max_bytes: int = -1
    num_replicas: int = 1


class Replica(msgspec.Struct, frozen=True):
    """A copy, as its leader knows it: one that is `current` has said to have all that was entered, but
    for the newest."""

    name: str = ""
    current: bool = False
    offline: bool = False


class Cluster(msgspec.Struct, frozen=True):
    """Who serves a stream or a consumer, where there are several servers; "" while nobody does.
    `replicas` are all but the leader."""

    leader: str = ""
    replicas: tuple[Replica, ...] = ()


class StreamAnswer(msgspec.Struct, frozen=True):
    config: Bounds | None = None
    state: StreamState | None = None
    cluster: Cluster | None = None
    error: ApiError | None = None
    ts: str = ""
    """The server's clock."""

    def __post_init__(self) -> None:
        # For a stream without a leader another server answers, and says that it is empty.
        if self.cluster is not None and not self.cluster.leader:
            msgspec.structs.force_setattr(self, "state", None)

    @property
    def at(self) -> float | None:
        """What the server's clock said, in seconds since the epoch."""
        return _seconds(self.ts) if self.ts else None


class SequencePair(msgspec.Struct, frozen=True):
    stream_seq: int = 0


class ConsumerAnswer(msgspec.Struct, frozen=True):
    name: str = ""
    ack_floor: SequencePair | None = None
    cluster: Cluster | None = None
    error: ApiError | None = None


class ConsumerConfig(msgspec.Struct, frozen=True):
    durable_name: str = ""


class ConsumerState(msgspec.Struct, frozen=True):
    """One of a stream's consumers: what it has not been given yet, and has not answered yet."""

    name: str
    config: ConsumerConfig
    ack_floor: SequencePair
    num_ack_pending: int
    num_pending: int


class ConsumersAnswer(msgspec.Struct, frozen=True):
    total: int = 0
    consumers: tuple[ConsumerState, ...] = ()
    error: ApiError | None = None


class PurgeAnswer(msgspec.Struct, frozen=True):
    success: bool = False
    purged: int = 0
    error: ApiError | None = None


_PUB_ACK: Final = msgspec.json.Decoder(PubAck)
_MESSAGE: Final = msgspec.json.Decoder(MessageAnswer)


def stream_name(shard: int) -> str:
    return f"EV_{shard}"


class StreamConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that loses nothing by itself: no age, no counts, and a full one refuses."""

    name: str
    subjects: tuple[str, ...]
    num_replicas: int
    max_bytes: int
    retention: str = "limits"
    storage: str = "file"
    discard: str = "new"
    max_age: int = 0
    max_msgs: int = -1
    max_msgs_per_subject: int = -1
    deny_delete: bool = True
    allow_direct: bool = True


def stream_config(shard: int, *, replicas: int, bytes_max: int) -> StreamConfig:
    return StreamConfig(
        name=stream_name(shard),
        subjects=(f"ev.{shard}.>",),
        num_replicas=replicas,
        max_bytes=bytes_max,
    )


def encode(config: StreamConfig) -> bytes:
    return msgspec.json.encode(config)


def durable_config(
    shard: int,
    service: str,
    filters: list[str],
    *,
    stream: str | None = None,
    is_in_memory: bool = False,
) -> bytes:
    return msgspec.json.encode(
        {
            "stream_name": stream or stream_name(shard),
            "config": {
                "name": service,
                "durable_name": service,
                "deliver_policy": "all",
                "ack_policy": "explicit",
                "ack_wait": _nanoseconds(ACK_WAIT_S),
                "max_deliver": -1,
                "max_ack_pending": ACK_PENDING_MAX,
                "max_waiting": WAITING_MAX,
                "filter_subjects": filters,
                "mem_storage": is_in_memory,
                "replay_policy": "instant",
            },
        }
    )


def follower_config(shard: int, name: str, *, after: int) -> bytes:
    return msgspec.json.encode(
        {
            "stream_name": stream_name(shard),
            "config": {
                "name": name,
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": after + 1,
                "ack_policy": "none",
                "mem_storage": True,
                "num_replicas": 1,
                "inactive_threshold": _nanoseconds(FOLLOWER_IDLE_S),
                "replay_policy": "instant",
            },
        }
    )


def pull_next(expires_s: float) -> bytes:
    """A request for one message, which stays open until there is one."""
    return b'{"batch":1,"expires":%d}' % _nanoseconds(expires_s)


def pull_present(items_max: int) -> bytes:
    """A request for what is there now; it ends with so many, or with a status."""
    return b'{"batch":%d,"no_wait":true}' % items_max


def publish_answer(reply: bytes, *, is_alone: bool) -> PublishAnswer:
    """The class of an answer; anything not on the short list of sure ones is `Unknown`.

    `is_alone`: without replication, a server that says it is full has surely not stored. With it, a
    leader may say so whose own store failed after the entry was committed.
    """
    try:
        ack = _PUB_ACK.decode(reply)
    except msgspec.MsgspecError as error:
        return Unknown(f"an unreadable answer: {error}")
    if ack.error is None:
        if ack.duplicate or ack.seq == 0:
            return Unknown("the server took a publish without id for a duplicate")
        return Accepted(ack.seq)
    code = ack.error.err_code
    if code == WRONG_LAST_SEQUENCE:
        return Exists()
    if code in (WRONG_LAST_SEQUENCE_PENDING, SEQUENCE_IN_FLIGHT):
        return Undecided()
    if code == MESSAGE_TOO_LARGE:
        return Refused(ack.error.description)
    if code == STORE_FAILED and is_alone and FULL in ack.error.description:
        return Refused(ack.error.description, is_full=True)
    return Unknown(f"{code} {ack.error.description}")


def read_answer(shard: int, reply: bytes) -> ReadAnswer:
    try:
        answer = _MESSAGE.decode(reply)
    except msgspec.MsgspecError as error:
        return Unreadable(f"an unreadable answer: {error}")
    if answer.message is not None:
        found = answer.message
        payload = base64.b64decode(found.data)
        return Stored(shard, found.subject, found.seq, _seconds(found.time), payload)
    if answer.error is not None and answer.error.err_code == NO_MESSAGE:
        return None
    return Unreadable("no message" if answer.error is None else answer.error.description)


def raise_for(error: ApiError | None, what: str) -> None:
    """Raises `LogUnavailable` naming what was asked for."""
    if error is not None:
        raise LogUnavailable(f"{what}: {error.description} ({error.err_code})")


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


def _seconds(timestamp: str) -> float:
    """RFC 3339 with nanoseconds, which the standard library reads to the microsecond."""
    whole, _, fraction = timestamp.rstrip("Z").partition(".")
    moment = dt.datetime.fromisoformat(whole).replace(tzinfo=dt.UTC)
    return moment.timestamp() + float(f"0.{fraction or 0}")
