"""What is still to be told of a message, since when, and to whom: all of it follows from its record.

So any host that has the record knows it, and nothing else has to be kept for it.
"""

from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from trunkline.domain.message import Message
from trunkline.domain.status import FINAL, Status, rank, steps

WAYS_CACHED_MAX: Final = 1_024
"""There are some dozens; each record that is written asks for one."""


def has_callback(message: Message) -> bool:
    """Whether anybody wants to know."""
    return message.original is not None and bool(message.original.status_callback)


@lru_cache(maxsize=WAYS_CACHED_MAX)
def untold(status: Status, passed: Status, told: frozenset[Status]) -> tuple[Status, ...]:
    """The way from the furthest step told to `status`, in order, through `passed`: the furthest
    step short of an end that the record shows.

    The table's shortest way to failed leaves out what a message went through, so that what is told
    would depend on when the ending came.
    """
    start = max(told, key=rank, default=Status.QUEUED)
    if start in FINAL:
        return ()
    way = steps(start, passed)
    if status not in FINAL:
        return way
    reached = way[-1] if way else start
    # A carrier may fail what it had taken. There is no way from sent to failed in the table, and
    # still the end must be told.
    return way + (steps(reached, status) or (status,))


def untold_of(message: Message, told: frozenset[Status] = frozenset()) -> tuple[Status, ...]:
    """The steps that are to be told of it, in order; `told` comes on top of what its record says."""
    if not has_callback(message):
        return ()
    return untold(message.status, message.open_status, message.told | told)


def came_about(message: Message, step: Status) -> float:
    """When a step came about, by the clock of the host that wrote it down. One that only follows from
    a later one came about with that; so a step is never later than the one behind it."""
    moments: dict[Status, float | None] = {
        Status.SENDING: message.sending_at,
        Status.SENT: message.sent_at,
    }
    if message.ending is not None:
        moments[message.ending.status] = message.ending.at
    known = [at for each, at in moments.items() if at is not None and rank(each) >= rank(step)]
    return min(known, default=message.updated_at)


def given_up(message: Message) -> tuple[Status, ...]:
    """The steps that nobody was told, and that no replay has made up for, in order."""
    return tuple(sorted(message.given_up - message.replayed, key=rank))


def receiver_of(account: str, url: str) -> str:
    """Who is told: what one account has at one host and port, in words that may be shown. A URL that
    cannot be read is a receiver of its own, whose requests all fail."""
    try:
        parts = urlsplit(url)
        return f"{account} {parts.scheme}://{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
    except (ValueError, KeyError):
        return f"{account} {url.rpartition('@')[2]}"


_PORTS: Final = {"http": 80, "https": 443}
