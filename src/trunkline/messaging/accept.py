"""Accepting a message: from here on it is ours. Nothing is answered before it is flushed."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, assert_never

import msgspec

from trunkline.domain import segment
from trunkline.domain.events import Kind, MessageCreated
from trunkline.domain.message import Message, fold
from trunkline.domain.price import DEFAULT_PRICES, Prices
from trunkline.domain.sid import MMS, SMS, digits_of, sid_from_key
from trunkline.kernel import Deadline
from trunkline.kernel.crash import CrashHere, CrashPoint, never_crash
from trunkline.log.append import (
    AppendAnswer,
    Appended,
    Draft,
    Found,
    NotStored,
    ShardHealth,
    Uncertain,
    append,
)
from trunkline.log.author import Author
from trunkline.log.event import Event
from trunkline.log.gather import WALK_EVERY_S, WALKS_MAX, Gatherer
from trunkline.log.interface import Log, Unreadable
from trunkline.log.limits import COPY_LAG_MAX_S
from trunkline.log.lookup import find_original
from trunkline.log.names import Names
from trunkline.replica.queries import Replica

OPERATION: Final = "CreateMessage"

CONNECT_WAIT_S: Final = 2.0
"""How long a create waits for an engine that is just restarting, before it is refused."""


class NewMessage(msgspec.Struct, frozen=True):
    """A checked request for a message. Numbers are E.164; `validity_s` is 1 to 36000; `send_at` is in
    seconds since the epoch. Unset, it is no part of the fingerprint: there are keys from before."""

    account: str
    sender: str
    recipient: str
    text: str
    media_urls: tuple[str, ...] = ()
    status_callback: str | None = None
    messaging_service_sid: str | None = None
    validity_s: int = 36_000
    direction: str = "outbound-api"
    send_at: float | msgspec.UnsetType = msgspec.UNSET
    is_automatic: bool | msgspec.UnsetType = msgspec.UNSET
    """An answer to a keyword, which goes out whoever has opted out. Unset as above."""
    application: str | msgspec.UnsetType = msgspec.UNSET
    """The application whose URL `status_callback` is. Unset as above."""


class Created(msgspec.Struct, frozen=True):
    """It is on flushed storage; `message` is what to answer, also for a repeat of its key."""

    message: Message
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The key already names a message with other parameters."""

    sid: str


@dataclass(frozen=True, slots=True)
class OptedOut:
    """The recipient has asked the sender to stop. Nothing was stored."""


@dataclass(frozen=True, slots=True)
class NotAccepted:
    """Surely not stored; try again after `retry_after_s`."""

    reason: str
    retry_after_s: int = 1


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """It may have been accepted. Repeating is safe only with the same key."""

    reason: str
    retry_after_s: int = 1


@dataclass(frozen=True, slots=True)
class Inactive:
    """The account is suspended or closed: nothing was stored."""


AcceptAnswer = Created | KeyReused | OptedOut | NotAccepted | OutcomeUnknown | Inactive


@dataclass(frozen=True, slots=True)
class Acceptor:
    """Turns requests into originals on flushed storage."""

    log: Log
    replica: Replica
    health: ShardHealth
    author: Author
    crash_here: CrashHere = never_crash
    walks_max: int = WALKS_MAX
    walk_every_s: float = WALK_EVERY_S
    is_near: Callable[[int], bool] = lambda _: True
    """Which shards keyless creates had better go to."""
    is_active: Callable[[str], bool | Unreadable] = lambda _: True
    """Whether an account may send."""
    prices: Prices = DEFAULT_PRICES
    _gatherer: Gatherer = field(init=False)

    def __post_init__(self) -> None:
        names = Names(
            self.log.shards,
            entropy=self.author.entropy,
            clock=self.author.clock,
            is_passable=self._is_passable,
            is_near=self.is_near,
        )
        gatherer = Gatherer(
            self._append,
            author=self.author,
            names=names,
            walks_max=self.walks_max,
            walk_every_s=self.walk_every_s,
        )
        object.__setattr__(self, "_gatherer", gatherer)

    def _is_passable(self, shard: int) -> bool:
        return not self.health.is_ejected(shard) and not self.log.is_nearly_full(shard)

    async def accept(self, new: NewMessage, *, key: str | None, deadline: Deadline) -> AcceptAnswer:
        """Store `new`, or find what `key` already names. Nothing is retried here but the walk."""
        may_send = self.is_active(new.account)
        if isinstance(may_send, Unreadable):
            return OutcomeUnknown(may_send.reason) if key else NotAccepted(may_send.reason)
        if not may_send:
            return Inactive()
        asked_at = self.author.clock.wall()
        prefix = MMS if new.media_urls else SMS
        if key is None:
            return OptedOut() if self._is_unwanted(new) else await self._accept_keyless(new, prefix)
        fingerprint = _fingerprint(new)
        sid = sid_from_key(prefix, new.account, OPERATION, key)
        known = self._known(sid, fingerprint)
        if known is not None:
            return known
        if self.replica.lag_ms() > COPY_LAG_MAX_S * 1000.0:
            # An earlier create of the key may be finished, trimmed, and not in the copy yet.
            return OutcomeUnknown("this host's read copy is too far behind to know the key")
        if self._is_unwanted(new):
            # A key that was answered before the recipient opted out is answered the same again.
            return await self.repeated(new, key=key, deadline=deadline) or OptedOut()
        original = _original(new, sid, fingerprint, self.prices)
        draft = Draft(Kind.MESSAGE, sid, new.account, original, is_keyed=True)
        connect_s = min(CONNECT_WAIT_S, deadline.remaining_s())
        answer = await self._append(draft, connect_s, at=asked_at)
        if isinstance(answer, NotStored):
            # It speaks of this request. An earlier one under the same key may have been stored.
            return OutcomeUnknown(answer.reason)
        return self._answer(answer, original)

    async def _accept_keyless(self, new: NewMessage, prefix: str) -> AcceptAnswer:
        place = self._gatherer.place(prefix, new.account)
        original = _original(new, place.sid, "", self.prices)
        draft = Draft(Kind.MESSAGE, place.sid, new.account, original, is_keyed=False)
        return self._answer(await self._gatherer.append(place, draft), original)

    def _is_unwanted(self, new: NewMessage) -> bool:
        """As far as this host's copy knows, also if it cannot be read: dispatch asks again before it
        sends, and waits for an answer."""
        if new.is_automatic is True:
            return False
        return self.replica.opt_out(new.account, new.sender, new.recipient) is True

    async def repeated(
        self, new: NewMessage, *, key: str, deadline: Deadline
    ) -> AcceptAnswer | None:
        """The answer to `new` if `key` names a message already; `None` if it surely names none.
        Stores nothing: for what would be refused if it came for the first time."""
        prefix = MMS if new.media_urls else SMS
        sid, fingerprint = sid_from_key(prefix, new.account, OPERATION, key), _fingerprint(new)
        known = self._known(sid, fingerprint)
        if known is not None:
            return known
        found = await find_original(self.log, Kind.MESSAGE, new.account, sid, deadline=deadline)
        match found:
            case None:
                return None
            case Unreadable(reason=reason):
                return OutcomeUnknown(reason)
            case _:
                message = message_from(found)
                if message.original is None:
                    return OutcomeUnknown("the key names something that is not an outbound message")
                return _repeat(message, message.original, fingerprint)

    async def _append(
        self, draft: Draft, connect_s: float = CONNECT_WAIT_S, *, at: float | None = None
    ) -> AppendAnswer:
        """Walk; and again if the engine went away just then, which leaves nothing behind."""
        answer: AppendAnswer = NotStored("the log cannot be reached")
        while await self.log.wait_until_connected(connect_s):
            self.crash_here(CrashPoint.ACCEPT_BEFORE_APPEND)
            answer = await append(self.log, draft, author=self.author, health=self.health, at=at)
            self.crash_here(CrashPoint.ACCEPT_AFTER_APPEND)
            if not isinstance(answer, NotStored) or self.log.is_connected:
                break
        return answer

    def _known(self, sid: str, fingerprint: str) -> AcceptAnswer | None:
        """The answer to a repeat of a key whose message the local copy has; also after trimming."""
        message = self.replica.message_named(digits_of(sid))
        if message is None or message.original is None:
            return None
        return _repeat(message, message.original, fingerprint)

    def _answer(self, appended: AppendAnswer, original: MessageCreated) -> AcceptAnswer:
        match appended:
            case Appended(event=event):
                return Created(_created(event, original))
            case Found(event=event):
                message = message_from(event)
                if message.original is None:
                    return OutcomeUnknown("the key names something that is not an outbound message")
                return _repeat(message, message.original, original.fingerprint)
            case NotStored(reason=reason):
                return NotAccepted(reason)
            case Uncertain(reason=reason):
                return OutcomeUnknown(reason)
            case other:
                assert_never(other)


def message_from(event: Event) -> Message:
    """The message as it is when only its original is known."""
    return fold(
        Message(account=event.account),
        event.body(),
        at=event.at,
        event_id=event.id,
        position=event.position,
    )


def _created(event: Event, original: MessageCreated) -> Message:
    """`message_from(event)`, whose body is `original`: without reading what was just written."""
    return Message(
        sid=original.sid,
        account=event.account,
        original=original,
        position=event.position,
        created_at=event.at,
        updated_at=event.at,
    )


def _repeat(message: Message, original: MessageCreated, fingerprint: str) -> AcceptAnswer:
    if original.fingerprint != fingerprint:
        return KeyReused(message.sid)
    return Created(message, is_repeat=True)


def _original(new: NewMessage, sid: str, fingerprint: str, prices: Prices) -> MessageCreated:
    segments = segment.count(new.text).segments
    return MessageCreated(
        sid=sid,
        sender=new.sender,
        recipient=new.recipient,
        text=new.text,
        media_urls=new.media_urls,
        direction=new.direction,
        status_callback=new.status_callback,
        messaging_service_sid=new.messaging_service_sid,
        validity_s=new.validity_s,
        num_segments=segments,
        fingerprint=fingerprint,
        send_at=None if new.send_at is msgspec.UNSET else new.send_at,
        price_micros=prices.outbound(segments=segments, has_media=bool(new.media_urls)),
        is_automatic=new.is_automatic is True,
    )


def _fingerprint(new: NewMessage) -> str:
    """Equal for the same request, whatever order its parameters came in, and however its application
    was changed since."""
    if new.application is not msgspec.UNSET:
        new = msgspec.structs.replace(new, status_callback=None)
    return hashlib.sha256(msgspec.json.encode(new, order="deterministic")).hexdigest()[:32]
