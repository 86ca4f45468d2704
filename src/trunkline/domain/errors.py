"""Every error the API may answer or write on a message: the code, its HTTP status, and our words.

The codes are those that programs written for Twilio know; the sentences are ours. `explain` fills
a sentence in. No sentence ever repeats what a client sent, except names that are known to us.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Code(IntEnum):
    """Codes of refused requests, named after what is wrong."""

    PARAMETER_INVALID = 20001
    AUTHENTICATION_FAILED = 20003
    METHOD_NOT_ALLOWED = 20004
    ACCOUNT_INACTIVE = 20005
    ACCESS_DENIED = 20006
    NOT_FINISHED = 20009
    NOT_FOUND = 20404
    TIMED_OUT = 20408
    KEY_SPENT = 20409
    BODY_TOO_LARGE = 20413
    MEDIA_TYPE_UNSUPPORTED = 20415
    KEY_REUSED = 20422
    TOO_MANY_REQUESTS = 20429
    INTERNAL = 20500
    NOT_IMPLEMENTED = 20501
    UNAVAILABLE = 20503
    RECIPIENT_INVALID = 21211
    SENDER_INVALID = 21212
    APPLICATION_INVALID = 21218
    SENDER_IS_RECIPIENT = 21266
    URL_INVALID = 21402
    REGION_NOT_PERMITTED = 21408
    NUMBER_INVALID = 21421
    NUMBER_TAKEN = 21422
    NUMBER_NONE_IN_AREA = 21452
    TAKER_UNRELATED = 21473
    GIVER_NOT_PARENT = 21474
    BODY_MISSING = 21602
    SENDER_MISSING = 21603
    RECIPIENT_MISSING = 21604
    SENDER_NOT_CAPABLE = 21606
    STATUS_CALLBACK_INVALID = 21609
    OPTED_OUT = 21610
    SENDER_QUEUE_FULL = 21611
    RECIPIENT_UNROUTABLE = 21612
    RECIPIENT_NOT_MOBILE = 21614
    BODY_TOO_LONG = 21617
    MEDIA_URL_INVALID = 21620
    MEDIA_TOO_MANY = 21623
    SENDER_NOT_OWNED = 21659
    CHANGE_INVALID = 30400
    NOT_CANCELABLE = 30409
    SEND_AT_INVALID = 35114


@dataclass(frozen=True, slots=True)
class Fault:
    """An HTTP status and a sentence, in which `{name}` stands for a field."""

    http_status: int
    sentence: str


FAULTS: Final[Mapping[Code, Fault]] = {
    Code.PARAMETER_INVALID: Fault(400, "{what} is not valid: {reason}."),
    Code.AUTHENTICATION_FAILED: Fault(401, "{reason}"),
    Code.METHOD_NOT_ALLOWED: Fault(405, "This resource does not answer {method}; use {allowed}."),
    Code.ACCOUNT_INACTIVE: Fault(403, "The account is not active, and nothing is made for it."),
    Code.ACCESS_DENIED: Fault(403, "{reason}"),
    Code.NOT_FINISHED: Fault(
        409, "The message is {status}: it can be {what} once it has reached its final status."
    ),
    Code.NOT_FOUND: Fault(404, "The requested resource {path} was not found"),
    Code.TIMED_OUT: Fault(408, "The request body did not arrive within {seconds} seconds."),
    Code.KEY_SPENT: Fault(
        409,
        "The idempotency key names {sid}, which was created with it and has been deleted since. "
        "Use a new key for a new request.",
    ),
    Code.BODY_TOO_LARGE: Fault(413, "The request body is larger than {bytes_max} bytes."),
    Code.MEDIA_TYPE_UNSUPPORTED: Fault(
        415, "The request body must be application/x-www-form-urlencoded, in UTF-8."
    ),
    Code.KEY_REUSED: Fault(
        422,
        "The idempotency key already names {sid}, which was created with other parameters. "
        "Use a new key for a new request.",
    ),
    Code.TOO_MANY_REQUESTS: Fault(
        429,
        "The account has too many requests under way. Nothing was done; try again, or send fewer "
        "at once.",
    ),
    Code.INTERNAL: Fault(
        500, "An internal error occurred. Quote request {request_id} to report it."
    ),
    Code.NOT_IMPLEMENTED: Fault(501, "{what} is not implemented here yet; nothing was done."),
    Code.UNAVAILABLE: Fault(503, "{reason}"),
    Code.RECIPIENT_INVALID: Fault(
        400, "'To' is not a phone number in E.164 form, like +15551234567."
    ),
    Code.SENDER_INVALID: Fault(
        400, "'From' is not a phone number in E.164 form, like +15551234567."
    ),
    Code.APPLICATION_INVALID: Fault(400, "'{parameter}' is not an application of this account."),
    Code.SENDER_IS_RECIPIENT: Fault(400, "'To' and 'From' are the same number."),
    Code.URL_INVALID: Fault(400, "'{parameter}' is not an absolute http or https URL."),
    Code.NUMBER_INVALID: Fault(
        400, "'PhoneNumber' is not a phone number in E.164 form, like +15551234567."
    ),
    Code.NUMBER_TAKEN: Fault(400, "The phone number is not available."),
    Code.NUMBER_NONE_IN_AREA: Fault(400, "No phone number is available in that area code."),
    Code.TAKER_UNRELATED: Fault(
        400, "'AccountSid' is neither the main account nor one of its subaccounts."
    ),
    Code.GIVER_NOT_PARENT: Fault(
        400,
        "Only a main account moves a number to another account, with its SID and auth token.",
    ),
    Code.BODY_MISSING: Fault(400, "A message needs a 'Body' or a 'MediaUrl'."),
    Code.SENDER_MISSING: Fault(400, "A message needs a 'From' phone number."),
    Code.RECIPIENT_MISSING: Fault(400, "A message needs a 'To' phone number."),
    Code.STATUS_CALLBACK_INVALID: Fault(
        400, "'StatusCallback' is not an absolute http or https URL."
    ),
    Code.REGION_NOT_PERMITTED: Fault(400, "Messages to the region of 'To' are not permitted."),
    Code.SENDER_NOT_CAPABLE: Fault(
        400, "'From' is not a number that can send messages, or not one of this account."
    ),
    Code.OPTED_OUT: Fault(
        400, "The recipient has opted out of messages from 'From'; only their START ends that."
    ),
    Code.SENDER_QUEUE_FULL: Fault(400, "The queue of 'From' is full: try again later."),
    Code.RECIPIENT_UNROUTABLE: Fault(400, "No route leads from 'From' to 'To'."),
    Code.RECIPIENT_NOT_MOBILE: Fault(400, "'To' is not the number of a mobile phone."),
    Code.BODY_TOO_LONG: Fault(400, "'Body' is longer than {characters_max} characters."),
    Code.MEDIA_URL_INVALID: Fault(400, "A 'MediaUrl' is not an absolute http or https URL."),
    Code.MEDIA_TOO_MANY: Fault(400, "A message carries at most {items_max} 'MediaUrl'."),
    Code.SENDER_NOT_OWNED: Fault(400, "'From' is not a phone number of this account."),
    Code.CHANGE_INVALID: Fault(
        400,
        "A message is changed by an empty 'Body', which redacts it, or by 'Status=canceled', and not by "
        "both at once.",
    ),
    Code.NOT_CANCELABLE: Fault(
        409,
        "The message is {status}. Only a scheduled message can be canceled, and only before its time.",
    ),
    Code.SEND_AT_INVALID: Fault(
        400,
        "'SendAt' is not a date and time in ISO 8601, like 2026-01-31T18:30:00Z, or not far enough "
        "ahead (15 minutes, unless the host is set otherwise), or more than 35 days ahead.",
    ),
}

DELIVERY: Final[Mapping[int, str]] = {
    11100: "A media URL is not an absolute http or https URL",
    11200: "A media URL did not answer with the file",
    11205: "No connection to a media URL came about",
    11210: "The host of a media URL has no address",
    11215: "A media URL led on and on",
    11220: "No secure connection to a media URL came about",
    11237: "The certificate of a media URL's host is not trusted",
    11751: "The media are larger than a message may carry",
    12300: "A media URL answered with a type that a message may not carry",
    21610: "The recipient had opted out of messages from this sender",
    21620: "A media URL leads to an address that nothing may be fetched from",
    21659: "The sender was no number of the account any more",
    30001: "The queue was full",
    30002: "The account was suspended before the message was sent",
    30003: "The handset could not be reached",
    30004: "The recipient or the carrier blocked the message",
    30005: "The recipient's number is unknown or no longer in service",
    30006: "The recipient is a landline or its carrier cannot be reached",
    30007: "The carrier filtered the message",
    30008: "The carrier gave no reason",
    30009: "A segment of the message did not arrive",
    30010: "The message cost more than its price limit",
    30011: "The recipient's network does not take media",
    30012: "The validity period was too short",
    30034: "The sender is not registered with the recipient's carriers",
    30036: "The validity period passed before the message could be sent",
}
"""What a message's `error_code` means, for its `error_message`."""


def explain(code: Code, fields: Mapping[str, str | int]) -> str:
    """The sentence of `code` with `fields` in it. Fields are data and are never format strings."""
    return FAULTS[code].sentence.format_map(fields)


def explain_delivery(error_code: int | None) -> str | None:
    """A sentence for a message's error code; none without a code, or for one unknown to us."""
    return None if error_code is None else DELIVERY.get(error_code)
