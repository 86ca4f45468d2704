"""Reading what a client sent: a bounded body, and urlencoded fields in strict UTF-8.

`request.form()` of Starlette costs twice a whole request; `parse_qsl` is 12 us. Text that is not
UTF-8, or holds a NUL, is refused here, before anything is stored: SQLite, carriers and log viewers
each would read it differently.
"""

import asyncio
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Receive

from trunkline.api.errors import ApiError, invalid
from trunkline.domain.errors import Code

BODY_BYTES_MAX: Final = 64 * 1024
"""The longest message with ten media URLs is about 45 KiB, fully escaped."""
BODY_DEADLINE_S: Final = 10.0
FIELDS_MAX: Final = 200
FORM_TYPE: Final = b"application/x-www-form-urlencoded"

Fields = dict[str, list[str]]
"""Each name with its values, in the order they were sent."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete; nobody waits."""


async def read_body(receive: Receive, headers: dict[bytes, bytes]) -> bytes:
    """The whole body. Raises `ApiError` when it is too large or too slow, or `ClientGone`."""
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and (len(announced) > 9 or int(announced) > BODY_BYTES_MAX):
        raise _too_large()
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            return await _received(receive)
    except TimeoutError as error:
        # The rest of the body may still come, and would be read as the next request.
        raise ApiError(
            Code.TIMED_OUT, headers=((b"connection", b"close"),), seconds=int(BODY_DEADLINE_S)
        ) from error


async def _received(receive: Receive) -> bytes:
    body: bytes = b""
    while True:  # bounded: by BODY_BYTES_MAX and by the caller's timeout
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            raise _too_large()
        if not message.get("more_body", False):
            return body


def fields_of_body(body: bytes, headers: dict[bytes, bytes]) -> Fields:
    """The fields of a form. An empty body has none, whatever its type."""
    if not body:
        return {}
    type_, _, parameters = headers.get(b"content-type", FORM_TYPE).partition(b";")
    if type_.strip().lower() not in (FORM_TYPE, b"") or not _is_utf8(parameters):
        raise ApiError(Code.MEDIA_TYPE_UNSUPPORTED)
    return _fields(body, "body")


def fields_of_query(query: bytes) -> Fields:
    """The fields of a query string."""
    return _fields(query, "query") if query else {}


def _fields(encoded: bytes, where: str) -> Fields:
    # A NUL is either itself or `%00`; an escaped percent sign is `%25` and cannot make a `%00`.
    if b"\x00" in encoded or b"%00" in encoded:
        raise invalid(where, "it contains a NUL character")
    try:
        pairs = parse_qsl(
            encoded.decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FIELDS_MAX,
        )
    except UnicodeDecodeError as error:
        raise invalid(where, "it is not UTF-8") from error
    except ValueError as error:
        raise invalid(where, f"it has more than {FIELDS_MAX} fields") from error
    fields: Fields = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def _is_utf8(parameters: bytes) -> bool:
    name, _, value = parameters.strip().lower().partition(b"=")
    return name != b"charset" or value.strip(b'" ') in (b"utf-8", b"utf8", b"us-ascii")


def _too_large() -> ApiError:
    # What is left of the body is not read, so the connection cannot be used again.
    close = ((b"connection", b"close"),)
    return ApiError(Code.BODY_TOO_LARGE, headers=close, bytes_max=BODY_BYTES_MAX)
