"""Requests and answers of both HTTP edges: bounded bodies, checked parameters, JSON errors."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from trunkline.protocols.simulated import WAIT_MS_MAX

_BIND: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")
_ENCODER: Final = msgspec.json.Encoder()


class BadRequest(Exception):
    """The request is at fault. `field` names the part, empty when it is the whole."""

    def __init__(self, reason: str, *, field: str = "", status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field
        self.status = status


def encode(content: object) -> bytes:
    return _ENCODER.encode(content)


def json_response(content: object, status: int = 200) -> Response:
    return Response(encode(content), status, media_type="application/json")


def told(error: BadRequest) -> dict[str, Any]:
    """What the caller is told: `{"error": ..., "field": ...}`."""
    content: dict[str, Any] = {"error": error.reason}
    if error.field:
        content["field"] = error.field
    return content


async def bad_request(request: Request, error: Exception) -> Response:
    """The handler for `BadRequest`."""
    del request
    if not isinstance(error, BadRequest):
        raise error
    return json_response(told(error), error.status)


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The whole body. Raises `BadRequest` (413) as soon as it is known to be over `bytes_max`."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > bytes_max:
                raise BadRequest(f"the body is over {bytes_max} bytes", status=413)
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise BadRequest("the body was cut off") from error
    return b"".join(chunks)


def whole_number(parameters: Mapping[str, str], name: str, default: int, highest: int) -> int:
    """The query parameter `name`, from 0 to `highest`."""
    text = parameters.get(name)
    if text is None:
        return default
    # More than 18 digits are over every bound, and int() refuses thousands of them.
    if not (text.isascii() and text.isdecimal() and len(text) <= 18) or int(text) > highest:
        raise BadRequest(f"{name} must be a whole number from 0 to {highest}", field=name)
    return int(text)


def wait_s(parameters: Mapping[str, str]) -> float:
    """The query parameter `wait_ms`, in seconds."""
    return whole_number(parameters, "wait_ms", 0, WAIT_MS_MAX) / 1000.0


def bind_name(parameters: Mapping[str, str]) -> str:
    """The query parameter `bind`."""
    name = parameters.get("bind", "")
    if not _BIND.match(name):
        raise BadRequest("bind must be 1 to 64 letters, digits or any of _ . : -", field="bind")
    return name
