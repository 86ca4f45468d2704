"""What is said to an application about an inbound message, and what its answer says to do.

Nothing here asks or sends anything: `messaging/converse` does.
"""

from dataclasses import dataclass
from typing import Final, assert_never
from urllib.parse import urljoin, urlsplit

from trunkline.domain.events import ApplicationMade, MessageReceived, NumberOwned
from trunkline.domain.number import Number, is_e164
from trunkline.messaging.accept import NewMessage
from trunkline.messaging.replies import LOOPING, Dropped, Taken
from trunkline.protocols.twiml.messaging import (
    BODY_INVALID,
    METHOD_INVALID,
    SCHEMA_WARNING,
    Message,
    Redirect,
    Reply,
    TwimlError,
    parse,
)
from trunkline.webhooks.client import (
    HTTP_RETRIEVAL_FAILURE,
    Answered,
    Method,
    Unreachable,
    WebhookAnswer,
    WebhookRequest,
    method_of,
    token_of,
)
from trunkline.webhooks.cookies import Cookies

API_VERSION: Final = "2010-04-01"
TEXT_CHARACTERS_MAX: Final = 1600

# Twilio's bounds and codes (Twilio documentation, "Error and Warning Dictionary").
DOCUMENTS_MAX: Final = 50
REPLIES_MAX: Final = 10
EMPTY_CHUNKED_BODY: Final = 11770
TO_INVALID: Final = 14101
FROM_INVALID: Final = 14102
STATUS_CALLBACK_INVALID: Final = 14105
DOCUMENT_LIMIT_REACHED: Final = 14106
REPLY_LIMIT_REACHED: Final = 14109
WARNINGS: Final = frozenset(
    {
        SCHEMA_WARNING,
        TO_INVALID,
        FROM_INVALID,
        BODY_INVALID,
        METHOD_INVALID,
        STATUS_CALLBACK_INVALID,
        DOCUMENT_LIMIT_REACHED,
        REPLY_LIMIT_REACHED,
        LOOPING,
    }
)
"""The codes that stop nothing but what they speak of; the others are errors."""

_GEOGRAPHY: Final = tuple(
    (side + part, "") for side in ("From", "To") for part in ("City", "State", "Zip", "Country")
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where to ask: a document's URL and how."""

    url: str
    method: Method


Said = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Asking:
    """A document that is wanted. `said` is what its place is told besides, or instead, of what it is
    told of the inbound message: what came of the reply whose action it is."""

    place: Place
    said: Said = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """One inbound message and whose application is asked about it."""

    account: str
    auth_token: str
    received: MessageReceived
    primary: Place
    fallback: Place | None
    media: tuple[tuple[str, str], ...] = ()
    """The URL and the content type of each."""
    cookies: Cookies | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A reply and where it came from, against which its URLs are resolved."""

    place: Place
    reply: Reply

    def behind(self, redirect: Redirect) -> Asking:
        """What a redirect of it leads to."""
        return Asking(Place(resolved(self.place, redirect.url), redirect.method))

    def action_of(self, message: Message, came: Taken | TwimlError | Dropped) -> Asking | None:
        """What goes on behind a `<Message>` of it, with an action of its own.

        One that names the same URL as its `statusCallback` has none: it is what the documentation of
        the Twilio API recommends to those who want to be told of the message, and no more than that.
        """
        if message.action is None or message.action == message.status_callback:
            return None
        return Asking(Place(resolved(self.place, message.action), message.method), _said_of(came))


def conversation_of(
    received: MessageReceived,
    number: Number,
    auth_token: str,
    settings: ApplicationMade | NumberOwned | None = None,
    *,
    media: tuple[tuple[str, str], ...] = (),
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
        media=media,
    )


def params_of(conversation: Conversation) -> tuple[tuple[str, str], ...]:
    """The parameters of the incoming-message webhook, as the Twilio API sends them."""
    received = conversation.received
    media: list[tuple[str, str]] = []
    for index, (url, content_type) in enumerate(conversation.media):
        media.append((f"MediaUrl{index}", url))
        media.append((f"MediaContentType{index}", content_type))
    return (
        ("MessageSid", received.sid),
        ("SmsSid", received.sid),
        ("SmsMessageSid", received.sid),
        ("AccountSid", conversation.account),
        ("From", received.sender),
        ("To", received.recipient),
        ("Body", received.text),
        ("NumMedia", str(len(conversation.media))),
        ("NumSegments", str(received.num_segments)),
        *media,
        ("SmsStatus", "received"),
        ("ApiVersion", API_VERSION),
        *_GEOGRAPHY,
    )


def request_for(
    conversation: Conversation,
    asking: Asking,
    hop: int,
    *,
    instead: Place | None = None,
    because: TwimlError | None = None,
) -> WebhookRequest:
    """The request for the `hop`th document. One that is asked `instead` is told why."""
    place, said, role = asking.place, asking.said, "document"
    if instead is not None and because is not None:
        said = (*said, ("ErrorCode", str(because.code)), ("ErrorUrl", place.url))
        place, role = instead, "fallback"
    return WebhookRequest(
        url=place.url,
        method=place.method,
        params=tuple({**dict(params_of(conversation)), **dict(said)}.items()),
        auth_token=conversation.auth_token,
        token=token_of(conversation.received.sid, role, str(hop)),
        cookies=conversation.cookies,
    )


def _said_of(came: Taken | TwimlError | Dropped) -> Said:
    """What an action is told of its message (Twilio documentation, "TwiML Message")."""
    match came:
        case Taken(sid=sid):
            return _status(sid, "sending")
        case TwimlError(code=code):
            return (*_status("", "invalid"), ("ErrorCode", str(code)))
        case Dropped(code=code):
            return (*_status("", "failed"), ("ErrorCode", str(code)))
        case other:
            assert_never(other)


def _status(sid: str, status: str) -> Said:
    named = tuple((name, sid) for name in ("MessageSid", "SmsSid", "SmsMessageSid"))
    return (*named, ("MessageStatus", status), ("SmsStatus", status))


def read(answer: WebhookAnswer) -> Reply | TwimlError:
    """What an application's answer says to do."""
    match answer:
        case Unreachable(reason=reason, error_code=error_code):
            return TwimlError(error_code, reason)
        case Answered(status=status):
            if not answer.is_success:
                return TwimlError(HTTP_RETRIEVAL_FAILURE, f"answered {status}")
            if answer.is_chunked and not answer.body:
                return TwimlError(EMPTY_CHUNKED_BODY, "answered in chunks, and none came")
            return parse(answer.body, answer.content_type)
        case other:
            assert_never(other)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The message to accept for a `<Message>`, or why it cannot be sent; and what else is wrong."""

    reply: NewMessage | TwimlError
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
    if not message.text and not message.media_urls:
        return _unsendable(BODY_INVALID, "a <Message> has neither body nor media; not sent")
    if len(message.text) > TEXT_CHARACTERS_MAX:
        return _unsendable(BODY_INVALID, f"a body has at most {TEXT_CHARACTERS_MAX} characters")
    if message.recipient is not None and not is_e164(message.recipient):
        return _unsendable(TO_INVALID, f"cannot send to {message.recipient[:64]!r}")
    if not is_ours:
        return _unsendable(FROM_INVALID, f"{sender[:64]!r} is not a number of this account")
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
    return Prepared(TwimlError(code, reason))


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
    if is_callable:
        return callback
    if message.status_callback is None:
        return None  # an action: whoever asks it says so
    return TwimlError(STATUS_CALLBACK_INVALID, f"cannot call back {callback[:128]!r}")


def resolved(place: Place, url: str) -> str:
    """A URL of a document; one that cannot be read stays as it is, and fails where it is used."""
    try:
        return urljoin(place.url, url)
    except ValueError:  # a bracket without its pair
        return url
