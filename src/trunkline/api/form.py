"""Reading what a client sent: a bounded body, and urlencoded fields in strict UTF-8.

The pairs are those of `urllib.parse.parse_qsl`, which costs three times as much because it serves
every alphabet. Text that is not UTF-8, or holds a NUL, is refused here, before anything is stored:
SQLite, carriers and log viewers each would read it differently.
"""

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.types import Receive

from trunkline.api.answer import Headers
from trunkline.api.catalogue import Parameter
from trunkline.api.errors import ApiError, invalid, invalid_part
from trunkline.domain.errors import Code
from trunkline.kernel import Alarms, Bound

BODY_BYTES_MAX: Final = 64 * 1024
"""The longest message with ten media URLs is about 45 KiB, fully escaped."""
BODY_DISCARDED_BYTES_MAX: Final = 16 * 1024 * 1024
"""A body that is too large is read to its end up to here. A connection that is closed while its
client still sends is reset, and the client never sees why."""
BODY_DEADLINE_S: Final = 10.0
FIELDS_MAX: Final = 200
FORM_TYPE: Final = b"application/x-www-form-urlencoded"

_CLOSE: Final[Headers] = ((b"connection", b"close"),)
"""The rest of the body may still come, and would be read as the next request."""

Fields = dict[str, list[str]]
"""Each name with its values, in the order they were sent."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete; nobody waits."""


async def read_body(receive: Receive, headers: dict[bytes, bytes], alarms: Alarms) -> bytes:
    """The whole body. Raises `ApiError` when it is too large or too slow, or `ClientGone`."""
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and _is_refused_unread(announced, headers):
        raise _too_large(_CLOSE)
    try:
        with Bound(alarms, BODY_DEADLINE_S):
            return await _received(receive)
    except TimeoutError as error:
        raise ApiError(Code.TIMED_OUT, headers=_CLOSE, seconds=int(BODY_DEADLINE_S)) from error


def _is_refused_unread(announced: bytes, headers: dict[bytes, bytes]) -> bool:
    """A client that asks before it sends (RFC 9110 section 10.1.1) is spared the sending."""
    is_asking = headers.get(b"expect", b"").lower() == b"100-continue"
    bytes_max = BODY_BYTES_MAX if is_asking else BODY_DISCARDED_BYTES_MAX
    return len(announced) > 9 or int(announced) > bytes_max


async def _received(receive: Receive) -> bytes:
    body: bytes = b""
    size = 0
    while True:  # bounded: by BODY_DISCARDED_BYTES_MAX and by the caller's bound
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size <= BODY_BYTES_MAX:
            body += chunk
        if not message.get("more_body", False):
            break
        if size > BODY_DISCARDED_BYTES_MAX:
            raise _too_large(_CLOSE)
    if size > BODY_BYTES_MAX:
        raise _too_large()
    return body


def fields_of_body(
    body: bytes, headers: dict[bytes, bytes], parameters: Sequence[Parameter] = ()
) -> Fields:
    """The fields of a form. An empty body has none, whatever its type. A refusal names the one of
    `parameters` that it is about."""
    if not body:
        return {}
    type_, _, rest = headers.get(b"content-type", FORM_TYPE).partition(b";")
    if type_.strip().lower() not in (FORM_TYPE, b"") or not _is_utf8(rest):
        raise ApiError(Code.MEDIA_TYPE_UNSUPPORTED)
    return _fields(body, "body", parameters)


def fields_of_query(query: bytes, parameters: Sequence[Parameter] = ()) -> Fields:
    """The fields of a query string."""
    return _fields(query, "query", parameters) if query else {}


def _fields(encoded: bytes, part: str, parameters: Sequence[Parameter]) -> Fields:
    # A NUL is either itself or `%00`; an escaped percent sign is `%25` and cannot make a `%00`.
    if b"\x00" in encoded or b"%00" in encoded:
        name = _name_of_first(encoded, parameters, _has_nul)
        raise _refusal(name, part, "it contains a NUL character")
    if encoded.count(b"&") >= FIELDS_MAX:
        raise invalid_part(part, f"it has more than {FIELDS_MAX} fields")
    fields: Fields = {}
    try:
        for pair in encoded.decode("utf-8").split("&"):
            name, _, value = pair.partition("=")
            if pair:
                fields.setdefault(_plain(name), []).append(_plain(value))
    except UnicodeDecodeError as error:
        bad = _name_of_first(encoded, parameters, _is_not_utf8)
        raise _refusal(bad, part, "it is not UTF-8") from error
    return fields


def _plain(text: str) -> str:
    """`text` without its escapes. Raises `UnicodeDecodeError`."""
    if "+" in text:
        text = text.replace("+", " ")
    if "%" not in text:
        return text
    # Nearly every escape is the plus sign of a phone number.
    if text.startswith("%2B") and text.find("%", 1) < 0:
        return "+" + text[3:]
    return unquote_to_bytes(text).decode("utf-8")


def _name_of_first(
    encoded: bytes, parameters: Sequence[Parameter], is_bad: Callable[[bytes], bool]
) -> str:
    """The first parameter with a bad value; empty if what is bad has no name that we know."""
    names = {parameter.name.encode(): parameter.name for parameter in parameters}
    for pair in encoded.split(b"&"):
        name, _, value = pair.partition(b"=")
        if is_bad(unquote_to_bytes(pair)):
            return names.get(unquote_to_bytes(name), "") if is_bad(unquote_to_bytes(value)) else ""
    return ""


def _refusal(name: str, part: str, reason: str) -> ApiError:
    return invalid(name, reason) if name else invalid_part(part, reason)


def _has_nul(value: bytes) -> bool:
    return b"\x00" in value


def _is_not_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _is_utf8(parameters: bytes) -> bool:
    name, _, value = parameters.strip().lower().partition(b"=")
    return name != b"charset" or value.strip(b'" ') in (b"utf-8", b"utf8", b"us-ascii")


def _too_large(headers: Headers = ()) -> ApiError:
    return ApiError(Code.BODY_TOO_LARGE, headers=headers, bytes_max=BODY_BYTES_MAX)
