"""The life of a message, in one table (Twilio documentation, "Message Status Values").

Events arrive from many hosts in any order, so a record's status is a join (`join`): the furthest
step that is not final, unless a final one is known, and then the earliest of those. The table
orders what is told to the outside.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Twilio's words, as they stand in the API."""

    ACCEPTED = "accepted"
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    FAILED = "failed"
    CANCELED = "canceled"
    RECEIVING = "receiving"
    RECEIVED = "received"


NEXT: Final[Mapping[Status, frozenset[Status]]] = {
    Status.ACCEPTED: frozenset({Status.QUEUED, Status.FAILED}),
    Status.SCHEDULED: frozenset({Status.QUEUED, Status.CANCELED, Status.FAILED}),
    Status.QUEUED: frozenset({Status.SENDING, Status.FAILED, Status.CANCELED}),
    Status.SENDING: frozenset({Status.SENT, Status.FAILED}),
    Status.SENT: frozenset({Status.DELIVERED, Status.UNDELIVERED}),
    Status.DELIVERED: frozenset(),
    Status.UNDELIVERED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELED: frozenset(),
    Status.RECEIVING: frozenset({Status.RECEIVED}),
    Status.RECEIVED: frozenset(),
}

FINAL: Final = frozenset(status for status, after in NEXT.items() if not after)

_RANK: Final[Mapping[Status, int]] = {status: rank for rank, status in enumerate(Status)}


def rank(status: Status) -> int:
    """How far along a status is; greater is later."""
    return _RANK[status]


def steps(start: Status, end: Status) -> tuple[Status, ...]:
    """The shortest way from `start` (exclusive) to `end` (inclusive); empty if there is none.

    A receipt may overtake the answer it belongs to. What the customer is told still goes through
    every step: `steps(QUEUED, DELIVERED)` is sending, sent, delivered.
    """
    ways: list[tuple[Status, ...]] = [(start,)]
    while ways:
        way = ways.pop(0)
        if way[-1] is end:
            return way[1:]
        ways.extend((*way, after) for after in sorted(NEXT[way[-1]], key=rank))
    return ()
