"""The Message resource: create, fetch and list.

A create is answered 201 only when it is on flushed storage. What we cannot honour yet is refused by
name where ignoring it would change what is sent, kept or reported; the rest is taken and ignored.
"""

from collections.abc import Mapping
from typing import Final, assert_never

import msgspec

from trunkline.api.admission import not_begun_in_time
from trunkline.api.answer import Answer, json_answer
from trunkline.api.arguments import Arguments, Value
from trunkline.api.errors import ApiError, invalid, not_found, not_implemented, unavailable
from trunkline.api.finding import find_message
from trunkline.api.freshness import lag_header
from trunkline.api.idempotency import key_of, split_callback
from trunkline.api.moments import rfc_2822
from trunkline.api.paging import page_answer, requested_page
from trunkline.api.request import Handler, Request
from trunkline.api.services import ApiServices
from trunkline.domain.errors import Code, explain_delivery
from trunkline.domain.media import PIECES_MAX
from trunkline.domain.message import Message
from trunkline.domain.status import Status
from trunkline.messaging.accept import (
    AcceptAnswer,
    Created,
    KeyReused,
    NewMessage,
    NotAccepted,
    OutcomeUnknown,
)
from trunkline.replica.queries import MessageFilter, Place

BODY_CHARS_MAX: Final = 1_600
VALIDITY_S_MAX: Final = 36_000
"""Ten hours, the longest a message may wait (published default of ValidityPeriod)."""

AMBIGUOUS_HEADER: Final = b"x-trunkline-ambiguous-attempts"
KEY_CONFLICT_HEADER: Final = b"x-trunkline-key-conflict"

_CODES: Final[Mapping[str, Code]] = {
    "To": Code.RECIPIENT_INVALID,
    "From": Code.SENDER_INVALID,
    "StatusCallback": Code.STATUS_CALLBACK_INVALID,
    "MediaUrl": Code.MEDIA_URL_INVALID,
}

# Each with the values that ask for nothing. The two retentions are here because ignoring them would
# keep what the client asked us not to keep. Taken and ignored, because they change nothing that is
# sent: Attempt, ForceDelivery, MaxPrice, ProvideFeedback, RiskCheck, SmartEncoded, TrafficType.
_UNSUPPORTED: Final[Mapping[str, tuple[Value, ...]]] = {
    "MessagingServiceSid": (),
    "ContentSid": (),
    "ContentVariables": (),
    "ApplicationSid": (),
    "FallbackFrom": (),
    "PersistentAction": (),
    "ScheduleType": (),
    "SendAt": (),
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
    price_unit: str = "USD"
    api_version: str = "2010-04-01"


async def _create(request: Request, services: ApiServices) -> Answer:
    arguments = request.arguments
    _refuse_unsupported(arguments)
    callback, key_in_callback = split_callback(arguments.text("StatusCallback") or "")
    key = key_of(request, key_in_callback)
    sender, recipient = _parties(request, services)
    media_urls = arguments.texts("MediaUrl")
    new = NewMessage(
        account=request.account.sid,
        sender=sender,
        recipient=recipient,
        text=_text(arguments, media_urls),
        media_urls=media_urls,
        status_callback=callback or None,
        validity_s=_validity_s(arguments),
    )
    if request.deadline.has_passed():
        raise not_begun_in_time()
    answer = await services.acceptor.accept(new, key=key, deadline=request.deadline)
    return _accepted(answer, request, key)


def _accepted(answer: AcceptAnswer, request: Request, key: str | None) -> Answer:
    match answer:
        case Created(message):
            return json_answer(201, message_json(message, request.account.sid))
        case KeyReused(earlier):
            raise ApiError(Code.KEY_REUSED, sid=earlier)
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


def _parties(request: Request, services: ApiServices) -> tuple[str, str]:
    recipient = request.arguments.text("To")
    if recipient is None:
        raise ApiError(Code.RECIPIENT_MISSING)
    sender = request.arguments.text("From")
    if sender is None:
        raise ApiError(Code.SENDER_MISSING)
    if sender == recipient:
        raise ApiError(Code.SENDER_IS_RECIPIENT)
    number = services.replica.number_by_phone(sender)
    # One answer for a number that nobody owns and one that somebody else does: who owns what here
    # is not for another account to find out.
    if number is None or number.account != request.account.sid:
        raise ApiError(Code.SENDER_NOT_OWNED)
    return sender, recipient


def _text(arguments: Arguments, media_urls: tuple[str, ...]) -> str:
    text = arguments.text("Body") or ""
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


async def _fetch(request: Request, services: ApiServices) -> Answer:
    message = await find_message(
        request.account.sid, request.words[1], services, deadline=request.deadline
    )
    if message is None:
        raise not_found(request.path)
    headers = lag_header(services.replica)
    if message.ambiguous:
        headers += ((AMBIGUOUS_HEADER, str(len(message.ambiguous)).encode()),)
    if message.key_conflicts:
        headers += ((KEY_CONFLICT_HEADER, str(len(message.key_conflicts)).encode()),)
    return json_answer(200, message_json(message, message.account), headers)


async def _list(request: Request, services: ApiServices) -> Answer:
    page = requested_page(request.arguments)
    rows = services.replica.messages(
        request.account.sid,
        _filter(request.arguments),
        items_max=page.rows_max,
        behind=page.behind,
    )
    shown = rows[: page.size]
    last = Place(shown[-1].created_at, shown[-1].sid) if len(rows) > page.size else None
    return page_answer(
        request,
        page,
        [message_json(message, message.account) for message in shown],
        last=last,
        headers=lag_header(services.replica),
    )


def _filter(arguments: Arguments) -> MessageFilter:
    """`DateSent<` and `DateSent>` include the date they name: a client writes `DateSent<=2026-01-31`,
    of which the equals sign is the query's own."""
    on, until, since = (arguments.span(name) for name in ("DateSent", "DateSent<", "DateSent>"))
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
LIST: Final = Handler(_list)
