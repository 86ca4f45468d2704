"""Inbound messages: the application is asked what to do, and its TwiML is done.

The message itself is safe before anything here begins. Asking has a strict bound and a fallback
URL, as the Twilio API has; replies are accepted under keys made of the inbound message and their
position, so that a crash half way through, and the whole conversation again, cannot double one.
"""

import functools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, assert_never
from urllib.parse import urljoin, urlsplit

import structlog

from trunkline.directory.numbers import find_owned
from trunkline.domain.events import ApplicationMade, MessageReceived, NumberOwned, Type
from trunkline.domain.number import Number, is_e164
from trunkline.kernel import Backoff, Clock, Deadline, Open
from trunkline.kernel.crash import CrashHere, CrashPoint, never_crash
from trunkline.log.event import Event
from trunkline.log.fence import Verdict, is_true_copy
from trunkline.log.interface import Delivery, Log, Unreadable
from trunkline.log.share import WHOLE, Share
from trunkline.messaging.accept import (
    Acceptor,
    Created,
    KeyReused,
    NewMessage,
    NotAccepted,
    OutcomeUnknown,
)
from trunkline.messaging.answering import answering, is_number_of
from trunkline.messaging.wanted import by_inbound
from trunkline.protocols.twiml.messaging import (
    BODY_INVALID,
    Message,
    Redirect,
    Reply,
    TwimlError,
    parse,
)
from trunkline.replica.queries import Replica
from trunkline.webhooks.client import (
    HTTP_RETRIEVAL_FAILURE,
    WEBHOOK_DEADLINE_S,
    Answered,
    Method,
    Unreachable,
    WebhookAnswer,
    WebhookClient,
    WebhookRequest,
    method_of,
    token_of,
)
from trunkline.webhooks.intake import Hands, Intake, readable
from trunkline.webhooks.receivers import Receiver, Receivers

API_VERSION: Final = "2010-04-01"
REDIRECTS_MAX: Final = 5
TEXT_CHARACTERS_MAX: Final = 1600
WORK_MAX_S: Final = 55.0
"""One conversation ends before the log's bound on work (60 s), or goes back to the log."""
FENCE_DEADLINE_S: Final = 5.0
FENCE_RETRY_S: Final = 1.0
ACCEPT_DEADLINE_S: Final = 5.0
ACCEPT_BACKOFF_BASE_S: Final = 0.1
ACCEPT_BACKOFF_CAP_S: Final = 2.0
COPY_RETRY_S: Final = 2.0
RETURN_DELAY_MIN_S: Final = 1.0
RETURN_DELAY_MAX_S: Final = 5.0

# Twilio's codes (Twilio documentation, "Error and Warning Dictionary").
TO_INVALID: Final = 14101
FROM_INVALID: Final = 14102
STATUS_CALLBACK_INVALID: Final = 14105
DOCUMENT_LIMIT_REACHED: Final = 14106

SPARED: Final = TwimlError(HTTP_RETRIEVAL_FAILURE, "it has failed so often that it was not asked")

_GEOGRAPHY: Final = tuple(
    (side + part, "") for side in ("From", "To") for part in ("City", "State", "Zip", "Country")
)
_MEDIA_TYPES: Final = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "3gp": "video/3gpp",
    "mp3": "audio/mpeg",
    "amr": "audio/amr",
    "wav": "audio/wav",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "vcf": "text/vcard",
}

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where to ask: a document's URL and how."""

    url: str
    method: Method


@dataclass(frozen=True, slots=True)
class Conversation:
    """One inbound message and whose application is asked about it."""

    account: str
    auth_token: str
    received: MessageReceived
    primary: Place
    fallback: Place | None


@dataclass(frozen=True, slots=True)
class Document:
    """A reply and where it came from, against which its URLs are resolved."""

    place: Place
    reply: Reply

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(item for item in self.reply.instructions if isinstance(item, Message))

    @property
    def next_place(self) -> Place | None:
        """Where its redirect leads, if it ends with one."""
        last = self.reply.instructions[-1] if self.reply.instructions else None
        if not isinstance(last, Redirect):
            return None
        return Place(resolved(self.place, last.url), last.method)


class Inbound:
    """Asks applications about inbound messages, and does what they answer."""

    name = "inbound"

    def __init__(
        self,
        *,
        log: Log,
        replica: Replica,
        client: WebhookClient,
        acceptor: Acceptor,
        clock: Clock,
        rng: random.Random,
        crash_here: CrashHere = never_crash,
        share: Share = WHOLE,
    ) -> None:
        self._log = log
        self._replica = replica
        self._client = client
        self._acceptor = acceptor
        self._crash_here = crash_here
        self._clock = clock
        self._rng = rng
        self._backoff = Backoff(ACCEPT_BACKOFF_BASE_S, ACCEPT_BACKOFF_CAP_S, rng)
        self._receivers = Receivers(clock)
        self._intake = Intake(
            log, self.name, by_inbound, self._take, clock=clock, rng=rng, share=share
        )

    async def run(self) -> None:
        """Until drained."""
        await self._intake.run()

    def drain(self) -> None:
        """Take nothing new; `run` returns when what is in hand is answered."""
        self._intake.drain()

    async def _take(self, shard: int, deliveries: Sequence[Delivery], hands: Hands) -> None:
        del shard  # it is in each delivery
        for delivery in deliveries:
            events = await readable(delivery)
            if events is None:
                continue
            event = events[0]  # a register holds one
            if event.type is Type.ORIGINAL:
                work = functools.partial(self._handle, delivery, event)
                await hands.pass_on(delivery, work)
            else:
                await delivery.ack()

    async def _handle(self, delivery: Delivery, event: Event) -> None:
        """Fence, then converse; the delivery is answered in every case."""
        deadline = Deadline.after(FENCE_DEADLINE_S, self._clock)
        match await is_true_copy(
            self._log, event, delivery.stored, clock=self._clock, deadline=deadline
        ):
            case Verdict.TRUE:
                await self._handle_true(delivery, event)
            case Verdict.DUPLICATE:
                await delivery.ack()
            case Verdict.UNSETTLED:
                await delivery.nak(FENCE_RETRY_S)
            case other:
                assert_never(other)

    async def _handle_true(self, delivery: Delivery, event: Event) -> None:
        received = event.body()
        if not isinstance(received, MessageReceived):
            await delivery.ack()
            return
        number = await find_owned(self._log, self._replica, event.account, received.recipient)
        account = self._replica.account(event.account)
        if account is None or isinstance(number, Unreadable):  # not shown yet, or nobody can tell
            await delivery.nak(COPY_RETRY_S)
            return
        if number is None:
            log.warning("inbound.no_owner", sid=event.sid)
            await delivery.ack()
            return
        settings = await answering(number, log=self._log, replica=self._replica)
        if isinstance(settings, Unreadable):
            await delivery.nak(COPY_RETRY_S)
            return
        conversation = conversation_of(received, number, account.auth_token, settings)
        if conversation is None or await self._converse_in_turn(conversation):
            await delivery.ack()
        else:
            await delivery.nak(self._rng.uniform(RETURN_DELAY_MIN_S, RETURN_DELAY_MAX_S))

    async def _converse_in_turn(self, conversation: Conversation) -> bool:
        with self._receivers.hold(conversation.account, conversation.primary.url) as receiver:
            if receiver is None:
                return False
            async with receiver.tries:
                if receiver.is_crowded:  # it fell ill while we waited
                    return False
                return await self._converse(conversation, receiver)

    async def _converse(self, conversation: Conversation, receiver: Receiver) -> bool:
        """Document after document. `False`: it must be had again, from the beginning."""
        sid = conversation.received.sid
        work = Deadline.after(WORK_MAX_S, self._clock)
        place: Place | None = conversation.primary
        position = 0
        for hop in range(1 + REDIRECTS_MAX):
            if place is None:
                return True
            document = await self._fetch(conversation, place, hop, receiver, work)
            if document is None:
                return True
            _warn_all(sid, document.reply.warnings)
            self._crash_here(CrashPoint.DOCUMENT_BEFORE_REPLY)
            for message in document.messages:
                key = f"{sid}:{position}"
                if not await self._reply(conversation, document.place, message, key, work):
                    return False
                self._crash_here(CrashPoint.REPLY_BEFORE_ACK)
                position += 1
            place = document.next_place
        _warn_all(sid, [TwimlError(DOCUMENT_LIMIT_REACHED, f"over {REDIRECTS_MAX} redirects")])
        return True

    async def _fetch(
        self,
        conversation: Conversation,
        place: Place,
        hop: int,
        receiver: Receiver,
        work: Deadline,
    ) -> Document | None:
        """The document, or the fallback URL's; `None` when there is neither."""
        sid = conversation.received.sid
        started = self._clock.monotonic()
        request = request_for(conversation, place, hop)
        # A primary URL that keeps failing is left out where there is another one to ask.
        asked = await self._receivers.ask(
            lambda: self._ask(request, work),
            account=conversation.account,
            url=place.url,
            is_only_chance=conversation.fallback is None,
        )
        reply = SPARED if isinstance(asked, Open) else read(asked)
        if not isinstance(asked, Open):
            took_s = self._clock.monotonic() - started
            receiver.note(is_success=isinstance(reply, Reply), took_s=took_s)
        if isinstance(reply, TwimlError) and conversation.fallback is not None:
            _warn_all(sid, [reply])
            failed, place = place, conversation.fallback
            request = request_for(conversation, place, hop, instead_of=failed, because=reply)
            reply = read(await self._ask(request, work))
        if isinstance(reply, TwimlError):
            _warn_all(sid, [reply])
            return None
        return Document(place, reply)

    async def _ask(self, request: WebhookRequest, work: Deadline) -> WebhookAnswer:
        """Twilio documentation, "Webhooks: Connection Overrides": 15 s in all, and by default one
        retry, only if no connection came about."""
        deadline = Deadline.after(min(WEBHOOK_DEADLINE_S, work.remaining_s()), self._clock)
        answer = await self._client.send(request, deadline=deadline)
        if isinstance(answer, Unreachable) and answer.is_unsent and not deadline.has_passed():
            return await self._client.send(request, deadline=deadline)
        return answer

    async def _reply(
        self, conversation: Conversation, place: Place, message: Message, key: str, work: Deadline
    ) -> bool:
        """Have one reply accepted; `False` if it is not known to be before `work` ends."""
        is_ours = message.sender is None or await is_number_of(
            conversation.account,
            message.sender,
            log=self._log,
            replica=self._replica,
            clock=self._clock,
            backoff=self._backoff,
            deadline=work,
        )
        if is_ours is None:
            return False
        prepared = reply_of(conversation, place, message, is_ours=is_ours)
        _warn_all(conversation.received.sid, prepared.warnings)
        if (reply := prepared.reply) is None:
            return True
        attempt = 0
        while not work.has_passed():
            deadline = Deadline.after(min(ACCEPT_DEADLINE_S, work.remaining_s()), self._clock)
            match await self._acceptor.accept(reply, key=key, deadline=deadline):
                case Created():
                    return True
                case KeyReused(sid=sid):
                    # The conversation was had before and went otherwise; what was said counts.
                    log.info("inbound.reply_kept", sid=sid, inbound=conversation.received.sid)
                    return True
                case NotAccepted() | OutcomeUnknown():
                    delay_s = self._backoff.delay_s(attempt)
                    await self._clock.sleep(min(delay_s, work.remaining_s()))
                    attempt += 1
                case other:
                    assert_never(other)
        return False


def conversation_of(
    received: MessageReceived,
    number: Number,
    auth_token: str,
    settings: ApplicationMade | NumberOwned | None = None,
) -> Conversation | None:
    """Whom to ask about `received`; `None` if its number asks nobody. `settings` are those that
    count, if not the number's own."""
    settings = settings or number.settings
    if not settings.sms_url:
        return None
    fallback = Place(settings.sms_fallback_url, method_of(settings.sms_fallback_method))
    return Conversation(
        account=number.account,
        auth_token=auth_token,
        received=received,
        primary=Place(settings.sms_url, method_of(settings.sms_method)),
        fallback=fallback if fallback.url else None,
    )


def params_of(conversation: Conversation) -> tuple[tuple[str, str], ...]:
    """The parameters of the incoming-message webhook, as the Twilio API sends them."""
    received = conversation.received
    media: list[tuple[str, str]] = []
    for index, url in enumerate(received.media_urls):
        media.append((f"MediaUrl{index}", url))
        media.append((f"MediaContentType{index}", media_type_of(url)))
    return (
        ("MessageSid", received.sid),
        ("SmsSid", received.sid),
        ("SmsMessageSid", received.sid),
        ("AccountSid", conversation.account),
        ("From", received.sender),
        ("To", received.recipient),
        ("Body", received.text),
        ("NumMedia", str(len(received.media_urls))),
        ("NumSegments", str(received.num_segments)),
        *media,
        ("SmsStatus", "received"),
        ("ApiVersion", API_VERSION),
        *_GEOGRAPHY,
    )


def media_type_of(url: str) -> str:
    """What the name of a file says about its content."""
    ending = urlsplit(url).path.rpartition(".")[2].lower()
    return _MEDIA_TYPES.get(ending, "application/octet-stream")


def request_for(
    conversation: Conversation,
    place: Place,
    hop: int,
    *,
    instead_of: Place | None = None,
    because: TwimlError | None = None,
) -> WebhookRequest:
    """The request for the `hop`th document. The fallback is told what it stands in for."""
    params = params_of(conversation)
    if instead_of is not None and because is not None:
        params = (*params, ("ErrorCode", str(because.code)), ("ErrorUrl", instead_of.url))
    role = "document" if instead_of is None else "fallback"
    return WebhookRequest(
        url=place.url,
        method=place.method,
        params=params,
        auth_token=conversation.auth_token,
        token=token_of(conversation.received.sid, role, str(hop)),
    )


def read(answer: WebhookAnswer) -> Reply | TwimlError:
    """What an application's answer says to do."""
    match answer:
        case Unreachable(reason=reason, error_code=error_code):
            return TwimlError(error_code, reason)
        case Answered(status=status):
            if not answer.is_success:
                return TwimlError(HTTP_RETRIEVAL_FAILURE, f"answered {status}")
            return parse(answer.body, answer.content_type)
        case other:
            assert_never(other)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The message to accept for a `<Message>`, if it can be sent, and what is wrong with it."""

    reply: NewMessage | None
    warnings: tuple[TwimlError, ...] = ()


def reply_of(
    conversation: Conversation,
    place: Place,
    message: Message,
    *,
    is_ours: bool,
) -> Prepared:
    """What a `<Message>` comes to; `is_ours` guards its sender. It is sent without what is only
    around it and cannot be used."""
    received = conversation.received
    sender = message.sender or received.recipient
    if len(message.text) > TEXT_CHARACTERS_MAX:
        return _unsendable(BODY_INVALID, f"a body has at most {TEXT_CHARACTERS_MAX} characters")
    if message.recipient is not None and not is_e164(message.recipient):
        return _unsendable(TO_INVALID, f"cannot send to {message.recipient!r}")
    if not is_ours:
        return _unsendable(FROM_INVALID, f"{sender!r} is not a number of this account")
    callback = _callback_of(place, message)
    warnings = (callback,) if isinstance(callback, TwimlError) else ()
    reply = NewMessage(
        account=conversation.account,
        sender=sender,
        recipient=message.recipient or received.sender,
        text=message.text,
        media_urls=tuple(resolved(place, url) for url in message.media_urls),
        status_callback=None if isinstance(callback, TwimlError) else callback,
        direction="outbound-reply",
    )
    return Prepared(reply, warnings)


def _unsendable(code: int, reason: str) -> Prepared:
    return Prepared(None, (TwimlError(code, reason),))


def _callback_of(place: Place, message: Message) -> str | TwimlError | None:
    written = message.status_callback or message.action
    if written is None:
        return None
    callback = resolved(place, written)
    try:
        parts = urlsplit(callback)
        is_callable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_callable = False
    if not is_callable:
        return TwimlError(STATUS_CALLBACK_INVALID, f"cannot call back {callback!r}")
    return callback


def resolved(place: Place, url: str) -> str:
    """A URL of a document; one that cannot be read stays as it is, and fails where it is used."""
    try:
        return urljoin(place.url, url)
    except ValueError:  # a bracket without its pair
        return url


def _warn_all(sid: str, errors: Iterable[TwimlError]) -> None:
    for error in errors:
        log.warning("inbound.twiml", sid=sid, code=error.code, reason=error.reason)
