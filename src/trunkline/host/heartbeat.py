"""What the hosts of a cluster say to each other, several times a second, on `hb.<host>`.

A heartbeat carries what its sender heard of the others: the echo by which each of them knows whether
it is heard itself. Fields are only ever appended, with defaults, so that hosts of two versions
understand each other while a cluster is brought to a new one.
"""

from typing import Final

import msgspec

SUBJECT: Final = "hb"
VERSION: Final = 1


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """The newest heartbeat of one incarnation that the sender has: its number, and for how many
    seconds the sender has had it."""

    host: str
    incarnation: str
    number: int
    age_s: float


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`incarnation` names one stretch of a host's life, and is the tail of the lease that it holds;
    `number` counts its heartbeats. `listening_s`: what is not in `heard` was not heard for so long.
    """

    v: int = VERSION
    host: str
    incarnation: str
    number: int
    base_url: str = ""
    zone: str = ""
    is_ready: bool = False
    is_draining: bool = False
    may_act: bool = False
    listening_s: float = 0.0
    heard: tuple[Heard, ...] = ()


_DECODER: Final = msgspec.json.Decoder(Heartbeat)


def subject_of(host: str) -> str:
    """Where a host's heartbeats are sent."""
    return f"{SUBJECT}.{host}"


EVERY_HOST: Final = f"{SUBJECT}.*"


def encode(heartbeat: Heartbeat) -> bytes:
    return msgspec.json.encode(heartbeat)


def decode(payload: bytes) -> Heartbeat | None:
    """`None` for what is no heartbeat that this version can read."""
    try:
        return _DECODER.decode(payload)
    except msgspec.MsgspecError:
        return None
