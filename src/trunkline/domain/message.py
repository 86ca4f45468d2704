"""A message as everybody reads it: the fold of its events.

`fold` is commutative, associative and idempotent, so any host may have seen the events in any
order, any number of times. Every field is a join: the original with the lowest position, the
furthest open status, the earliest final one, the union of the flags.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from trunkline.domain.events import (
    Ambiguous,
    Body,
    Canceled,
    Claimed,
    Deleted,
    HandedOver,
    KeyConflict,
    MediaKept,
    MediaRemoved,
    MessageCreated,
    MessageReceived,
    Receipt,
    Redacted,
    Refused,
    Returned,
    Told,
    Type,
)
from trunkline.domain.media import Piece
from trunkline.domain.optout import Keyword, keyword_in
from trunkline.domain.status import FINAL, Status, rank

_Content = TypeVar("_Content", MessageCreated, MessageReceived)

Moment = tuple[float, str]
"""When an event happened and its id: a total order among events."""


class Ending(msgspec.Struct, frozen=True, gc=False):
    """A final status and what came with it; the earliest wins."""

    at: float
    event_id: str
    status: Status
    error_code: int | None = None
    done_date: str = ""
    """When it came about, as the carrier said it; empty where it did not."""


class Kept(msgspec.Struct, frozen=True, gc=False):
    """A message's media as they were stored, and when; the earliest wins, whole."""

    at: float
    event_id: str
    pieces: tuple[Piece, ...]


class Link(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A record of a message's chain, as whoever works on the message needs it. It stands at
    `sequence` of `shard`; `nonce` and `lease` are those of a claim."""

    shard: int
    sequence: int
    event_id: str
    type: Type
    attempt: int = 0
    nonce: str = ""
    lease: str = ""
    is_resend: bool = False
    is_held: bool = False

    @property
    def place(self) -> tuple[int, int]:
        """What orders the links of a chain; of two chains (there should be one) as well."""
        return self.sequence, self.shard


def link_of(event_id: str, type_: Type, body: Body, *, shard: int, sequence: int) -> Link | None:
    """The link that an event is, if it is one of a chain."""
    match body:
        case Claimed(attempt=attempt, nonce=nonce, lease=lease, is_resend=is_resend):
            return Link(
                shard=shard, sequence=sequence, event_id=event_id, type=type_,
                attempt=attempt, nonce=nonce, lease=lease, is_resend=is_resend,
            )  # fmt: skip
        case HandedOver(attempt=attempt) | Refused(attempt=attempt):
            return Link(
                shard=shard, sequence=sequence, event_id=event_id, type=type_, attempt=attempt
            )
        case Returned(attempt=attempt, is_resend=is_resend):
            return Link(
                shard=shard, sequence=sequence, event_id=event_id, type=type_,
                attempt=attempt, is_resend=is_resend,
            )  # fmt: skip
        case Ambiguous(attempt=attempt, is_held=is_held):
            return Link(
                shard=shard, sequence=sequence, event_id=event_id, type=type_,
                attempt=attempt, is_held=is_held,
            )  # fmt: skip
        case Canceled():
            return Link(shard=shard, sequence=sequence, event_id=event_id, type=type_)
        case _:
            return None


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One message, inbound or outbound. Without an `original` only later events are known yet."""

    sid: str = ""
    account: str = ""
    original: MessageCreated | None = None
    received: MessageReceived | None = None
    position: int = 1_000_000
    created_at: float = 0.0
    updated_at: float = 0.0
    sent_at: float | None = None
    open_status: Status = Status.QUEUED
    ending: Ending | None = None
    carrier: str = ""
    carrier_message_id: str = ""
    attempts: int = 0
    ambiguous: frozenset[int] = frozenset()
    told: frozenset[Status] = frozenset()
    link: Link | None = None
    """The newest record of its chain, where the log's own records may be gone."""
    key_conflicts: frozenset[str] = frozenset()
    """Fingerprints of other creates under its key that were answered 201 and are never sent."""
    media: Kept | None = None
    """Unset where it has none, and until they are stored."""
    media_removed: frozenset[str] = frozenset()
    """The SIDs of pieces that were deleted."""
    redacted_at: float | None = None
    deleted_at: float | None = None
    """It is kept, without its content, so that nothing brings it back and its key stays taken."""
    erased_keyword: Keyword | None = None
    """What its text asked for, where that text was erased: a stop counts whoever erases it."""
    sending_at: float | None = None
    """When it was first claimed; unset in what a version folded that did not keep it."""
    given_up: frozenset[Status] = frozenset()
    """Steps among `told` that nobody took."""
    replayed: frozenset[Status] = frozenset()
    """Steps that were told again because an operator asked for it."""

    @property
    def is_deleted(self) -> bool:
        """Whether nobody who asks may be shown it."""
        return self.deleted_at is not None

    @property
    def status(self) -> Status:
        """What the API answers."""
        if self.received is not None:
            return Status.RECEIVED
        if self.ending is not None:
            return self.ending.status
        if self.open_status is Status.QUEUED and self.is_scheduled:
            return Status.SCHEDULED
        return self.open_status

    @property
    def is_scheduled(self) -> bool:
        """Whether it was accepted for a later time; it shows as scheduled until it is claimed."""
        send_at = None if self.original is None else self.original.send_at
        return send_at is not None and send_at > self.created_at

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Its media that are stored and not deleted, in their order."""
        if self.media is None:
            return ()
        return tuple(piece for piece in self.media.pieces if piece.sid not in self.media_removed)

    @property
    def media_count(self) -> int:
        """How many media it has; before they are stored, how many it was accepted with."""
        content = self.original or self.received
        if self.media is None:
            return 0 if content is None else len(content.media_urls)
        return len(self.pieces)

    @property
    def is_known(self) -> bool:
        """Whether its original has been seen; until then it is not shown."""
        return self.original is not None or self.received is not None


def fold(
    message: Message,
    body: Body,
    *,
    at: float,
    event_id: str,
    position: int,
    link: Link | None = None,
) -> Message:
    """`message` with one more event in it; `link`, where the event is one of its chain. Bodies of
    other kinds leave it as it is."""
    joined = _JOINS.get(type(body))
    if joined is None:
        return message
    changes = joined(message, body, (at, event_id), position)
    changes["updated_at"] = max(message.updated_at, at)
    if link is not None and (message.link is None or link.place > message.link.place):
        changes["link"] = link
    return _shown(msgspec.structs.replace(message, **changes))


def merge(one: Message, other: Message) -> Message:
    """The record of everything that either of two copies of one message has seen.

    `fold` adds one event; this joins two folds, in any order and grouping, however much both have
    seen: folding parts of a history and merging them gives what folding all of it does.
    """
    first = min(one, other, key=_place_of_original)
    endings = [copy.ending for copy in (one, other) if copy.ending is not None]
    sent = [copy.sent_at for copy in (one, other) if copy.sent_at is not None]
    sending = [copy.sending_at for copy in (one, other) if copy.sending_at is not None]
    carried = max((copy.carrier, copy.carrier_message_id) for copy in (one, other))
    links = [copy.link for copy in (one, other) if copy.link is not None]
    media = [copy.media for copy in (one, other) if copy.media is not None]
    redacted = [copy.redacted_at for copy in (one, other) if copy.redacted_at is not None]
    deleted = [copy.deleted_at for copy in (one, other) if copy.deleted_at is not None]
    merged = Message(
        sid=first.sid,
        account=first.account or one.account or other.account,
        original=first.original,
        received=first.received,
        position=first.position,
        created_at=first.created_at,
        updated_at=max(one.updated_at, other.updated_at),
        sent_at=min(sent, default=None),
        open_status=max(one.open_status, other.open_status, key=rank),
        ending=min(endings, default=None, key=_place_of_ending),
        carrier=carried[0],
        carrier_message_id=carried[1],
        attempts=max(one.attempts, other.attempts),
        ambiguous=one.ambiguous | other.ambiguous,
        told=one.told | other.told,
        link=max(links, default=None, key=lambda link: link.place),
        key_conflicts=one.key_conflicts | other.key_conflicts,
        media=min(media, default=None, key=_moment),
        media_removed=one.media_removed | other.media_removed,
        redacted_at=min(redacted, default=None),
        deleted_at=min(deleted, default=None),
        erased_keyword=one.erased_keyword or other.erased_keyword,
        sending_at=min(sending, default=None),
        given_up=one.given_up | other.given_up,
        replayed=one.replayed | other.replayed,
    )
    return _shown(merged)


def _shown(message: Message) -> Message:
    """`message` with no more of its content than may be shown, whichever event came last.

    Redacting takes the text, and leaves media to be deleted on their own; deleting takes both. That
    there were media stays, as the price of a message depends on it.
    """
    if message.redacted_at is None and message.deleted_at is None:
        return message
    original, received, keyword = message.original, message.received, message.erased_keyword
    if original is not None:
        original = _erased(original, has_media=not message.is_deleted)
    if received is not None:
        keyword = keyword or keyword_in(received.text)
        received = _erased(received, has_media=not message.is_deleted)
    return msgspec.structs.replace(
        message,
        original=original,
        received=received,
        erased_keyword=keyword,
        media=None if message.is_deleted else message.media,
    )


def _erased(content: _Content, *, has_media: bool) -> _Content:
    urls = content.media_urls if has_media else ("",) * len(content.media_urls)
    if not content.text and urls == content.media_urls:
        return content
    return msgspec.structs.replace(content, text="", media_urls=urls)


def _place_of_original(copy: Message) -> tuple[int, bool]:
    """The lowest wins. A program of a time before prices left out the price when it folded."""
    content = copy.original or copy.received
    return copy.position, content is None or content.price_micros is None


def _place_of_ending(ending: Ending) -> tuple[Moment, bool]:
    """The lowest wins. A program of a time before done dates left out the date when it folded."""
    return _moment(ending), not ending.done_date


_Changes = dict[str, Any]


def _created(message: Message, body: MessageCreated, moment: Moment, position: int) -> _Changes:
    if message.original is not None and position >= message.position:
        return {}  # a duplicate still counts as the latest sign of it, in whatever order they come
    return {"original": body, "sid": body.sid, "position": position, "created_at": moment[0]}


def _received(message: Message, body: MessageReceived, moment: Moment, position: int) -> _Changes:
    if message.received is not None and position >= message.position:
        return {}  # a duplicate still counts as the latest sign of it, in whatever order they come
    return {"received": body, "sid": body.sid, "position": position, "created_at": moment[0]}


def _claimed(message: Message, body: Claimed, moment: Moment, position: int) -> _Changes:
    del position
    return {
        "sending_at": _earlier(message.sending_at, moment[0]),
        "open_status": max(message.open_status, Status.SENDING, key=rank),
        "attempts": max(message.attempts, body.attempt),
    }


def _handed_over(message: Message, body: HandedOver, moment: Moment, position: int) -> _Changes:
    del position
    carried = max(
        (message.carrier, message.carrier_message_id), (body.carrier, body.carrier_message_id)
    )
    return {
        "open_status": max(message.open_status, Status.SENT, key=rank),
        "sent_at": moment[0] if message.sent_at is None else min(message.sent_at, moment[0]),
        "attempts": max(message.attempts, body.attempt),
        "carrier": carried[0],
        "carrier_message_id": carried[1],
    }


def _refused(message: Message, body: Refused, moment: Moment, position: int) -> _Changes:
    del position
    return _ended(message, Ending(*moment, Status.FAILED, body.error_code))


def _receipt(message: Message, body: Receipt, moment: Moment, position: int) -> _Changes:
    del position
    status = Status(body.status)
    if status not in FINAL:
        return {"open_status": max(message.open_status, status, key=rank)}
    # A carrier has a word only about what it took: the answer that says so may yet be on its way.
    taken = {"open_status": max(message.open_status, Status.SENT, key=rank)}
    return taken | _ended(message, Ending(*moment, status, body.error_code, body.done_date))


def _ambiguous(message: Message, body: Ambiguous, moment: Moment, position: int) -> _Changes:
    del moment, position
    return {"ambiguous": message.ambiguous | {body.attempt}}


def _told(message: Message, body: Told, moment: Moment, position: int) -> _Changes:
    del moment, position
    step = frozenset({Status(body.status)})
    changes: _Changes = {"told": message.told | step}
    if body.is_given_up:
        changes["given_up"] = message.given_up | step
    if body.is_replay:
        changes["replayed"] = message.replayed | step
    return changes


def _returned(message: Message, body: Returned, moment: Moment, position: int) -> _Changes:
    del message, body, moment, position
    return {}


def _key_conflict(message: Message, body: KeyConflict, moment: Moment, position: int) -> _Changes:
    del moment, position
    return {"key_conflicts": message.key_conflicts | {body.dropped}}


def _media_kept(message: Message, body: MediaKept, moment: Moment, position: int) -> _Changes:
    del position
    kept = Kept(*moment, body.pieces)
    known = message.media
    return {"media": kept if known is None else min(known, kept, key=_moment)}


def _media_removed(message: Message, body: MediaRemoved, moment: Moment, position: int) -> _Changes:
    del moment, position
    return {"media_removed": message.media_removed.union(body.media)}


def _canceled(message: Message, body: Canceled, moment: Moment, position: int) -> _Changes:
    del body, position
    return _ended(message, Ending(*moment, Status.CANCELED))


def _redacted(message: Message, body: Redacted, moment: Moment, position: int) -> _Changes:
    del body, position
    return {"redacted_at": _earlier(message.redacted_at, moment[0])}


def _deleted(message: Message, body: Deleted, moment: Moment, position: int) -> _Changes:
    del body, position
    return {"deleted_at": _earlier(message.deleted_at, moment[0])}


def _earlier(known: float | None, at: float) -> float:
    return at if known is None else min(known, at)


def _ended(message: Message, ending: Ending) -> _Changes:
    known = message.ending
    return {"ending": ending if known is None else min(known, ending, key=_moment)}


def _moment(known: Ending | Kept) -> Moment:
    return known.at, known.event_id


_JOINS: Final[Mapping[type[Body], Callable[..., _Changes]]] = {
    MessageCreated: _created,
    MessageReceived: _received,
    Claimed: _claimed,
    HandedOver: _handed_over,
    Refused: _refused,
    Returned: _returned,
    Receipt: _receipt,
    Ambiguous: _ambiguous,
    Told: _told,
    KeyConflict: _key_conflict,
    MediaKept: _media_kept,
    MediaRemoved: _media_removed,
    Canceled: _canceled,
    Redacted: _redacted,
    Deleted: _deleted,
}
