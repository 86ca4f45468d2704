"""What a carrier is to us: something that takes messages, and hands back receipts and inbound ones.

A hand-over has three outcomes. `Unknown` is never silently tried again: the dispatcher marks the
attempt ambiguous and the route's policy decides. Whoever implements this must be certain before
answering `Refused` with `is_returned`: it promises that the message surely did not leave.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from trunkline.domain.media import Piece
from trunkline.domain.sid import ACCOUNT, MMS, SMS, is_sid
from trunkline.kernel import Deadline

_DONE_DATE: Final = re.compile(r"[0-9]{10}(?:[0-9]{2})?")


class Submission(msgspec.Struct, frozen=True, gc=False):
    """One attempt at one message. `reference` (see `reference_of`) comes back in receipts where
    the carrier can carry it; `is_possible_duplicate` flags a resend after an ambiguous attempt. The
    carrier has the bytes of `media` before; `media_urls` are where they once came from."""

    reference: str
    sender: str
    recipient: str
    text: str
    media_urls: tuple[str, ...] = ()
    is_possible_duplicate: bool = False
    media: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The carrier has it, under its own id."""

    carrier_message_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The carrier does not have it. With `is_returned` it may be tried again after `retry_after_s`
    (throttled, or the link was down before anything was sent); otherwise the no is final and
    `error_code` is Twilio's code for it. With `is_unsent` the carrier never saw it."""

    error_code: int
    reason: str
    is_returned: bool = False
    retry_after_s: float = 0.0
    is_unsent: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may or may not have reached the carrier."""

    reason: str


Outcome = Accepted | Refused | Unknown

OnOutcome = Callable[[int, Outcome], None]
"""Is given the place of a submission in its batch, and what came of it. It must not raise."""


@dataclass(frozen=True, slots=True)
class ReceiptItem:
    """A carrier's receipt. `status` is one of delivered, undelivered, failed; `item_id` is for the
    acknowledgement; `reference` is empty when the carrier did not bring it back. `done_date` is when
    that came to be by the carrier's clock, in its own time zone: see `done_date`."""

    item_id: str
    carrier_message_id: str
    reference: str
    status: str
    error_code: int | None = None
    done_date: str = ""


@dataclass(frozen=True, slots=True)
class InboundItem:
    """A message from a handset. `carrier_message_id` is the same on every repeat of it."""

    item_id: str
    carrier_message_id: str
    sender: str
    recipient: str
    text: str
    media_urls: tuple[str, ...] = ()


Item = ReceiptItem | InboundItem


def done_date(said: str) -> str:
    """The done date of a receipt, ten digits YYMMDDhhmm (SMPP 3.4 appendix B); empty for anything else
    that a carrier may say. Some add the seconds, which are left out."""
    return said[:10] if _DONE_DATE.fullmatch(said) else ""


def reference_of(account: str, sid: str, attempt: int, shard: int) -> str:
    """What names an attempt to a carrier, so that its receipt names the message to us, and the
    shard in which the message stands."""
    return f"{account}:{sid}:{attempt}:{shard}"


@dataclass(frozen=True, slots=True)
class Referred:
    """Whom a reference speaks of; references of earlier versions do not name the shard."""

    account: str
    sid: str
    shard: int | None = None


def referred_by(reference: str) -> Referred | None:
    """Whom a reference speaks of, if it is one of ours."""
    words = reference.split(":")
    if len(words) not in (3, 4) or not is_sid(words[0], ACCOUNT) or not is_sid(words[1], SMS, MMS):
        return None
    shard = int(words[3]) if len(words) == 4 and words[3].isdigit() else None
    return Referred(words[0], words[1], shard)


class Carrier(Protocol):
    """One link to one carrier. Its window bounds what may be ambiguous when the link is lost."""

    @property
    def name(self) -> str: ...

    @property
    def window(self) -> int:
        """How many submissions may be under way at once."""

    def ready_in_s(self) -> float:
        """Seconds until it is worth trying to hand something over; 0 when it is now. Asked before
        a claim is written, because a claim that cannot be followed by a try is wasted."""

    async def submit(self, submission: Submission, *, key: str, deadline: Deadline) -> Outcome:
        """Hand one message over. Never raises for what a network can do; `key` names the attempt."""

    def submit_many(
        self, submissions: Sequence[Submission], *, deadline: Deadline, on_outcome: OnOutcome
    ) -> None:
        """Hand a batch over, without a task or a future for each. `on_outcome` is called from the
        event loop, exactly once for each of them, as its outcome comes: in any order, by the
        deadline, and never before this returns. Each one's key is its `reference`. The caller
        keeps to the window, and may have several batches under way."""

    async def receive(self, items_max: int, wait_s: float) -> Sequence[Item]:
        """Receipts and inbound messages not yet acknowledged; empty after `wait_s` without one, or
        at once with nothing if the link is down (the caller backs off)."""

    async def acknowledge(self, item_ids: Sequence[str]) -> None:
        """They are written down. Unacknowledged items are offered again, here or on another bind."""

    async def close(self) -> None: ...


class TakesMedia(Protocol):
    """A carrier that is given the bytes of media before the messages that carry them."""

    async def bring_media(self, piece: Piece, content: bytes, *, deadline: Deadline) -> bool:
        """Whether the carrier has them now, flushed. Bringing them twice does no harm."""
