"""An answer: an HTTP status, a body that is already bytes, and headers of its own."""

from typing import Final

import msgspec

Headers = tuple[tuple[bytes, bytes], ...]

JSON_TYPE: Final = b"application/json"

_ENCODER: Final = msgspec.json.Encoder()


class Answer(msgspec.Struct, frozen=True):
    """What a handler gives back. The application adds the headers that every answer has."""

    http_status: int
    body: bytes
    headers: Headers = ()
    content_type: bytes = JSON_TYPE


def json_answer(http_status: int, content: object, headers: Headers = ()) -> Answer:
    """`content` as JSON: structs, dicts, lists and plain values."""
    return Answer(http_status, _ENCODER.encode(content), headers)
