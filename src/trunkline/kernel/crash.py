"""Crash points: the labelled places at which a process can be told to kill itself, for drills.

Code that could lose or double something says where it is: `crash_here(CrashPoint.CLAIM_AFTER)`.
In a process that is not armed that call does nothing. Each row of `CrashPoint` is drilled by a test
of its own; a row that nothing passes fails that test.
"""

import itertools
import os
import signal
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeAlias

PASSINGS_MAX: Final = 1_000_000


class CrashPoint(StrEnum):
    """Every place, in the order in which a message meets them."""

    ACCEPT_BEFORE_APPEND = "accept-before-append"
    """A create is checked, and stands nowhere."""
    ACCEPT_AFTER_APPEND = "accept-after-append"
    """A create is stored and flushed, and its client has no answer."""
    TIMER_BEFORE_ACK = "timer-before-ack"
    """A message for later has its timer, and the log's delivery is open."""
    DUE_BEFORE_HANDING_BACK = "due-before-handing-back"
    """The time of a message has come, and nobody was given it yet."""
    FENCE_BEFORE = "fence-before"
    """An original is in hand, and no earlier shard is settled for it."""
    CLAIM_BEFORE = "claim-before"
    """A place in the window is taken, and no claim is written."""
    CLAIM_AFTER = "claim-after"
    """The claim stands, and its lease was not looked at again."""
    HAND_OVER_BEFORE = "hand-over-before"
    """All checks are passed, and nothing was given to the carrier."""
    ANSWER_BEFORE_OUTCOME = "answer-before-outcome"
    """The carrier has answered, and nobody else knows."""
    OUTCOME_BEFORE_ACK = "outcome-before-ack"
    """What came of the attempt is written, and the log's delivery is open."""
    RECEIPT_BEFORE_RECORD = "receipt-before-record"
    """A receipt is in hand, and written nowhere."""
    RECEIPT_BEFORE_ACKNOWLEDGE = "receipt-before-acknowledge"
    """A receipt is written, and the carrier does not know."""
    INBOUND_BEFORE_APPEND = "inbound-before-append"
    """An inbound message is in hand, and written nowhere."""
    INBOUND_BEFORE_ACKNOWLEDGE = "inbound-before-acknowledge"
    """An inbound message is written, and the carrier does not know."""
    WEBHOOK_BEFORE_TELLING = "webhook-before-telling"
    """A step is due, and the application does not know."""
    WEBHOOK_BEFORE_TOLD = "webhook-before-told"
    """The application was told a step, and that is written nowhere."""
    TOLD_BEFORE_ACK = "told-before-ack"
    """That a step was told is written, and the log's delivery is open."""
    DOCUMENT_BEFORE_REPLY = "document-before-reply"
    """The application's document is here, and none of its replies is accepted."""
    REPLY_BEFORE_ACK = "reply-before-ack"
    """A reply is accepted, and the log's delivery of the inbound message is open."""
    ANSWERED_BEFORE_ACK = "answered-before-ack"
    """All is done that the application said, and the log's delivery of the inbound message is open."""
    PROJECTION_BEFORE_COMMIT = "projection-before-commit"
    """Rows and cursors are in an open transaction of the read copy."""
    PROJECTION_AFTER_COMMIT = "projection-after-commit"
    """The transaction is flushed, and nobody was told how far the copy is."""
    SNAPSHOT_BEFORE_RENAME = "snapshot-before-rename"
    """A snapshot of the read copy is whole and flushed, and has no name."""
    SNAPSHOT_AFTER_RENAME = "snapshot-after-rename"
    """The snapshot has its name, and nobody knows of it."""
    PURGE_BEFORE = "purge-before"
    """What may go from a shard is decided, and what never ends is carried forward; nothing is gone."""
    PURGE_AFTER = "purge-after"
    """A shard is purged, and the ones behind it are not."""


CrashHere: TypeAlias = Callable[[CrashPoint], None]
"""`crash_here(point)` returns, unless this process is to die just there."""


def never_crash(point: CrashPoint, /) -> None:
    """What processes run with that are not armed."""


def read_crash_at(text: str) -> tuple[CrashPoint, int]:
    """The point of `NAME` or `NAME:N`, and which of its passings is meant. Raises `ValueError`."""
    name, colon, number = text.partition(":")
    if not colon:
        return CrashPoint(name), 1
    if not (number.isascii() and number.isdigit() and 1 <= int(number) <= PASSINGS_MAX):
        raise ValueError(text)
    return CrashPoint(name), int(number)


def arm(crash_at: str, folder: Path, *, die: Callable[[], None] | None = None) -> CrashHere:
    """Have this process die at `crash_at`; at an empty one, never.

    A file of `folder` is left behind first, and where it is, nothing dies there again: the process
    that replaces the dead one works on, and of several armed processes only one dies.
    """
    if not crash_at:
        return never_crash
    chosen, passing = read_crash_at(crash_at)
    mark = mark_of(folder, chosen)
    if mark.exists():
        return never_crash
    passings = itertools.count(1)

    def crash_here(point: CrashPoint, /) -> None:
        if point is chosen and next(passings) == passing and _leave(mark):
            (die or _die)()

    return crash_here


def mark_of(folder: Path, point: CrashPoint) -> Path:
    """The file that says that a process died at `point`; its content is the process id."""
    return folder / f"crashed-{point}"


def _leave(mark: Path) -> bool:
    """Whether this process is the first."""
    try:
        with mark.open("x", encoding="ascii") as file:
            # No flush: what kills here is a signal, and the system keeps what it was given.
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def _die() -> None:
    # Nothing may run any more: no handler, no `finally`, no flush of ours.
    os.kill(os.getpid(), signal.SIGKILL)
