"""The Message resource: create, fetch, list, update (redact, cancel) and delete.

A create is answered 201 only when it is on flushed storage. What we cannot honour yet is refused by
name where ignoring it would change what is sent, kept or reported; the rest is taken and ignored.
"""

from collections.abc import Mapping
from typing import Final, assert_never

import msgspec

from trunkline.api import magic_numbers
from trunkline.api.admission import not_begun_in_time
from trunkline.api.answer import Answer, json_answer
from trunkline.api.arguments import Arguments, Value
from trunkline.api.errors import (
    ApiError,
    invalid,
    not_found,
    not_implemented,
    refused,
    unavailable,
)
from trunkline.api.finding import find_message
from trunkline.api.freshness import lag_header
from trunkline.api.idempotency import key_of, split_callback
from trunkline.api.moments import instant, rfc_2822, whole_day
from trunkline.api.paging import requested_page, rows_answer
from trunkline.api.request import Handler, Request
from trunkline.api.services import ApiServices
from trunkline.domain.errors import Code, explain_delivery
from trunkline.domain.media import PIECES_MAX
from trunkline.domain.message import Message
from trunkline.domain.price import CURRENCY, price_of
from trunkline.domain.smart_encoding import plain
from trunkline.domain.status import FINAL, Status
from trunkline.log.interface import Unreadable
from trunkline.messaging.accept import (
    AcceptAnswer,
    Created,
    Inactive,
    KeyReused,
    NewMessage,
    NotAccepted,
    OptedOut,
    OutcomeUnknown,
)
from trunkline.messaging.cancel import Done, TooLate, Unsettled
from trunkline.replica.queries import MessageFilter

BODY_CHARS_MAX: Final = 1_600
VALIDITY_S_MAX: Final = 36_000
"""Ten hours, the longest a message may wait (published default of ValidityPeriod)."""

SEND_AT_MAX_S: Final = 35 * 86_400.0
"""How far ahead a message may be scheduled (published)."""

FULL_RETRY_AFTER_S: Final = 60
"""Room comes back as messages are sent, and not sooner."""

AMBIGUOUS_HEADER: Final = b"x-trunkline-ambiguous-attempts"
KEY_CONFLICT_HEADER: Final = b"x-trunkline-key-conflict"

_CODES: Final[Mapping[str, Code]] = {
    "To": Code.RECIPIENT_INVALID,
    "From": Code.SENDER_INVALID,
    "StatusCallback": Code.STATUS_CALLBACK_INVALID,
    "MediaUrl": Code.MEDIA_URL_INVALID,
    "SendAt": Code.SEND_AT_INVALID,
    "ApplicationSid": Code.APPLICATION_INVALID,
}

# Each with the values that ask for nothing. The two retentions are here because ignoring them would
# keep what the client asked us not to keep. Taken and ignored, because they change nothing that is
# sent: Attempt, ForceDelivery, MaxPrice, ProvideFeedback, RiskCheck, TrafficType.
_UNSUPPORTED: Final[Mapping[str, tuple[Value, ...]]] = {
    "MessagingServiceSid": (),
    "ContentSid": (),
    "ContentVariables": (),
    "FallbackFrom": (),
    "PersistentAction": (),
    "SendAsMms": (False,),
    "ShortenUrls": (False,),
    "ContentRetention": ("retain",),
    "AddressRetention": ("retain",),
}


class MessageJson(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Every property of the published schema; counts are strings, as published."""

    sid: str
    account_sid: str
    to: str
    from_: str
    body: str
    status: str
    direction: str
    num_segments: str
    num_media: str
    date_created: str
    date_updated: str
    date_sent: str | None
    error_code: int | None
    error_message: str | None
    messaging_service_sid: str | None
    uri: str
    subresource_uris: dict[str, str]
    price: str | None = None
    price_unit: str = CURRENCY
    api_version: str = "2010-04-01"


async def _create(request: Request, services: ApiServices) -> Answer:
    arguments = request.arguments
    _refuse_unsupported(arguments)
    callback, key_in_callback = split_callback(arguments.text("StatusCallback") or "")
    key = key_of(request, key_in_callback)
    sender, recipient = await _parties(request, services)
    media_urls = arguments.texts("MediaUrl")
    # The published order: with a callback of its own, the message is no business of an application.
    application = None if callback else arguments.text("ApplicationSid")
    refusal = None
    if application is not None:
        callback, refusal = await _callback_of(application, request, services)
    new = NewMessage(
        account=request.account.sid,
        sender=sender,
        recipient=recipient,
        text=_text(arguments, media_urls),
        media_urls=media_urls,
        status_callback=callback or None,
        validity_s=_validity_s(arguments),
        send_at=_send_at(request),
        application=msgspec.UNSET if application is None else application,
    )
    if request.deadline.has_passed():
        raise not_begun_in_time()
    refusal = refusal or _not_to_be_scheduled(new, services)
    if refusal is not None:
        return await _refused_or_repeated(refusal, new, key, request, services)
    answer = await services.acceptor.accept(new, key=key, deadline=request.deadline)
    return _accepted(answer, request, key)


async def _callback_of(
    name: str, request: Request, services: ApiServices
) -> tuple[str, ApiError | None]:
    """The URL that an application is told the message's status at, empty if it has none; or why it is
    refused. Raises `ApiError` where that cannot be told."""
    # The log is asked, and not the copy: it may have been made, or changed, through another host.
    found = await services.applications.find(name, deadline=request.deadline)
    if isinstance(found, Unreadable):
        raise unavailable(
            "Whether the application of 'ApplicationSid' exists cannot be told at the moment; "
            "nothing was done. Try again."
        )
    if found is None or found.account != request.account.sid:
        return "", ApiError(Code.APPLICATION_INVALID, parameter="ApplicationSid")
    settings = found.settings
    return settings.message_status_callback or settings.sms_status_callback, None


def _not_to_be_scheduled(new: NewMessage, services: ApiServices) -> ApiError | None:
    """Why it cannot be scheduled, if it is to be."""
    if new.send_at is msgspec.UNSET:
        return None
    ahead_s = new.send_at - services.clock.wall()
    if not services.send_at_min_s <= ahead_s <= SEND_AT_MAX_S:
        return ApiError(Code.SEND_AT_INVALID)
    if not services.has_room_for_later():
        # One without a timer would be in a dispatcher's hands until its time, in the way of others.
        return unavailable(
            "The message was not accepted and will not be sent (as many are scheduled as there is "
            "room for). Try again, or send it without SendAt.",
            FULL_RETRY_AFTER_S,
        )
    return None


async def _refused_or_repeated(
    refusal: ApiError, new: NewMessage, key: str | None, request: Request, services: ApiServices
) -> Answer:
    """A repeat of a create whose answer was lost may come when its time is near or past, or when its
    application is gone. It is no new message, and a refusal would say that there is none."""
    earlier = None
    if key is not None:
        earlier = await services.acceptor.repeated(new, key=key, deadline=request.deadline)
    if earlier is None:
        raise refusal
    return _accepted(earlier, request, key)


def _accepted(answer: AcceptAnswer, request: Request, key: str | None) -> Answer:
    match answer:
        case Created(message):
            return json_answer(201, message_json(message, request.account.sid))
        case KeyReused(earlier):
            raise ApiError(Code.KEY_REUSED, sid=earlier)
        case Inactive():
            raise refused("The account is not active, and nothing is sent for it.")
        case OptedOut():
            raise ApiError(Code.OPTED_OUT)
        case NotAccepted(reason, retry_after_s):
            raise unavailable(
                f"The message was not accepted and will not be sent ({reason}). Try again.",
                retry_after_s,
            )
        case OutcomeUnknown(reason, retry_after_s):
            raise unavailable(_unknown_outcome(reason, key), retry_after_s)
        case other:
            assert_never(other)


def _unknown_outcome(reason: str, key: str | None) -> str:
    then = (
        "it had no Idempotency-Key, so look for it in the list before repeating it"
        if key is None
        else "repeat with the same Idempotency-Key"
    )
    return f"The message may have been accepted ({reason}); {then}."


def _refuse_unsupported(arguments: Arguments) -> None:
    for name, value in arguments.given(_UNSUPPORTED):
        if value not in _UNSUPPORTED[name]:
            raise not_implemented(f"The parameter '{name}' of a message")


async def _parties(request: Request, services: ApiServices) -> tuple[str, str]:
    recipient = request.arguments.text("To")
    if recipient is None:
        raise ApiError(Code.RECIPIENT_MISSING)
    sender = request.arguments.text("From")
    if sender is None:
        raise ApiError(Code.SENDER_MISSING)
    if sender == recipient:
        raise ApiError(Code.SENDER_IS_RECIPIENT)
    if services.has_magic_numbers:
        refusal = magic_numbers.refusal_of(sender, recipient)
        if refusal is not None:
            raise ApiError(refusal)
        if sender == magic_numbers.ALWAYS_OURS:
            return sender, recipient
    await _require_owned(sender, request, services)
    return sender, recipient


async def _require_owned(sender: str, request: Request, services: ApiServices) -> None:
    account = request.account.sid
    shown = services.replica.number_by_phone(sender)
    if shown is not None and shown.account == account:
        return
    # It may have been bought through another host a moment ago.
    found = await services.numbers.find_owned(account, sender, deadline=request.deadline)
    if isinstance(found, Unreadable):
        raise unavailable(
            "Whether 'From' is a phone number of this account cannot be told at the moment; the "
            "message was not accepted and will not be sent. Try again."
        )
    # One answer for a number that nobody owns and one that somebody else does: who owns what here
    # is not for another account to find out.
    if found is None:
        raise ApiError(Code.SENDER_NOT_OWNED)


def _text(arguments: Arguments, media_urls: tuple[str, ...]) -> str:
    text = arguments.text("Body") or ""
    if arguments.flag("SmartEncoded"):
        text = plain(text)  # first of all: it may become longer, or empty
    if not text and not media_urls:
        raise ApiError(Code.BODY_MISSING)
    if len(text) > BODY_CHARS_MAX:
        raise ApiError(Code.BODY_TOO_LONG, characters_max=BODY_CHARS_MAX)
    if len(media_urls) > PIECES_MAX:
        raise ApiError(Code.MEDIA_TOO_MANY, items_max=PIECES_MAX)
    return text


def _validity_s(arguments: Arguments) -> int:
    validity_s = arguments.integer("ValidityPeriod")
    if validity_s is None:
        return VALIDITY_S_MAX
    if not 1 <= validity_s <= VALIDITY_S_MAX:
        raise invalid("ValidityPeriod", f"it must be 1 to {VALIDITY_S_MAX} seconds")
    return validity_s


def _send_at(request: Request) -> float | msgspec.UnsetType:
    """When to send it, if that is not at once.

    Unlike Twilio: no MessagingServiceSid is needed. There, a schedule without one is dropped and the
    message is sent at once, which nobody who gives a time can want.
    """
    arguments = request.arguments
    span, type_ = arguments.span("SendAt"), arguments.text("ScheduleType")
    if span is None and type_ is None:
        return msgspec.UNSET
    if span is None:
        raise invalid("SendAt", "a ScheduleType needs the time to send at")
    if type_ is None:
        raise invalid("ScheduleType", "a SendAt needs it, and it must be fixed")
    # To the fraction of a second: the beginning of that second would be too early.
    moment = instant(request.fields["SendAt"][0])
    if moment is None:
        raise ApiError(Code.SEND_AT_INVALID)
    return moment


async def _fetch(request: Request, services: ApiServices) -> Answer:
    message = await _wanted(request, services)
    headers = lag_header(services.replica)
    if message.ambiguous:
        headers += ((AMBIGUOUS_HEADER, str(len(message.ambiguous)).encode()),)
    if message.key_conflicts:
        headers += ((KEY_CONFLICT_HEADER, str(len(message.key_conflicts)).encode()),)
    return json_answer(200, message_json(message, message.account), headers)


async def _update(request: Request, services: ApiServices) -> Answer:
    """Cancel it or redact it."""
    bodies = request.fields.get("Body")
    is_canceling = request.arguments.text("Status") is not None
    if any(bodies or ()) or is_canceling == (bodies is not None):
        raise ApiError(Code.CHANGE_INVALID)
    message = await _wanted(request, services)
    if is_canceling:
        message = await _canceled(message, request, services)
    else:
        message = await _redacted(message, request, services)
    return json_answer(200, message_json(message, message.account))


async def _canceled(message: Message, request: Request, services: ApiServices) -> Message:
    # A repeat is answered as the first one was: its answer may have been lost.
    if message.status is Status.CANCELED:
        return message
    if message.status is not Status.SCHEDULED:
        raise ApiError(Code.NOT_CANCELABLE, status=message.status)
    answer = await services.canceller.cancel(message, deadline=request.deadline)
    match answer:
        case Done(message=canceled):
            return canceled
        case TooLate():
            raise ApiError(Code.NOT_CANCELABLE, status="being sent, or was")
        case Unsettled(reason=reason):
            raise unavailable(
                f"The message may have been canceled or not ({reason}). Send the request again."
            )
        case other:
            assert_never(other)


async def _redacted(message: Message, request: Request, services: ApiServices) -> Message:
    _require_finished(message, "redacted")
    if message.redacted_at is not None:
        return message
    redacted = await services.eraser.redact(message, deadline=request.deadline)
    if redacted is None:
        raise unavailable("The message may have been redacted or not. Send the request again.")
    return redacted


async def _delete(request: Request, services: ApiServices) -> Answer:
    message = await _wanted(request, services)
    _require_finished(message, "deleted")
    if not await services.eraser.delete(message, deadline=request.deadline):
        raise unavailable("The message may have been deleted or not. Send the request again.")
    return Answer(204, b"")


def _require_finished(message: Message, what: str) -> None:
    # `sent` may still become delivered, and Twilio refuses it, too.
    if message.status not in FINAL:
        raise ApiError(Code.NOT_FINISHED, status=message.status, what=what)


async def _wanted(request: Request, services: ApiServices) -> Message:
    """The message that the path names, if this account may see it."""
    message = await find_message(
        request.account.sid, request.words[1], services, deadline=request.deadline
    )
    if message is None:
        raise not_found(request.path)
    return message


async def _list(request: Request, services: ApiServices) -> Answer:
    page = requested_page(request.arguments)
    rows = services.replica.messages(
        request.account.sid,
        _filter(request.arguments),
        items_max=page.rows_max,
        behind=page.behind,
    )
    return rows_answer(
        request,
        page,
        rows,
        lambda message: message_json(message, message.account),
        services.replica,
    )


def _filter(arguments: Arguments) -> MessageFilter:
    """`DateSent<` and `DateSent>` include the date they name: a client writes `DateSent<=2026-01-31`,
    of which the equals sign is the query's own. `DateSent` is a day, also with a time: the SDKs have
    no other way to write one, and make midnight of it."""
    on, until, since = (arguments.span(name) for name in ("DateSent", "DateSent<", "DateSent>"))
    on = None if on is None else whole_day(on)
    starts = [each.start for each in (on, since) if each is not None]
    ends = [each.end for each in (on, until) if each is not None]
    return MessageFilter(
        sender=arguments.text("From"),
        recipient=arguments.text("To"),
        sent_from=max(starts, default=None),
        sent_to=min(ends, default=None),
    )


def message_json(message: Message, account: str) -> MessageJson:
    """The message as the API shows it; its original must be known."""
    content = message.original or message.received
    if content is None:
        raise ValueError(f"message {message.sid} has no original to show")
    original, error_code = message.original, message.ending.error_code if message.ending else None
    place = f"/2010-04-01/Accounts/{account}/Messages/{message.sid}"
    return MessageJson(
        sid=message.sid,
        account_sid=account,
        to=content.recipient,
        from_=content.sender,
        body=content.text,
        status=message.status,
        direction=original.direction if original else "inbound",
        num_segments=str(content.num_segments),
        num_media=str(message.media_count),
        date_created=rfc_2822(message.created_at),
        date_updated=rfc_2822(max(message.created_at, message.updated_at)),
        date_sent=_date_sent(message),
        error_code=error_code,
        error_message=explain_delivery(error_code),
        messaging_service_sid=original.messaging_service_sid if original else None,
        uri=f"{place}.json",
        subresource_uris={"media": f"{place}/Media.json"},
        price=price_of(message),
    )


def _date_sent(message: Message) -> str | None:
    if message.sent_at is not None:
        return rfc_2822(message.sent_at)
    if message.ending is not None and message.open_status is Status.SENT:
        # Its receipt came before the carrier's answer was written down, milliseconds apart.
        return rfc_2822(message.ending.at)
    # An inbound message was sent before it came; the moment it came is the closest we know.
    return rfc_2822(message.created_at) if message.received is not None else None


CREATE: Final = Handler(_create, _CODES)
FETCH: Final = Handler(_fetch)
UPDATE: Final = Handler(_update, {"Status": Code.CHANGE_INVALID}, is_for_inactive=True)
DELETE: Final = Handler(_delete)
LIST: Final = Handler(_list)
