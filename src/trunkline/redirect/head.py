"""The head of an HTTP/1.1 request, and its body: RFC 9112, as far as clients on loopback use it.

Bytes in, values out; the two functions that read take a stream. What cannot be understood is
`BadRequest`, and the connection is closed behind it.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Final

from trunkline.redirect.asked import Headers

HEAD_BYTES_MAX: Final = 64 * 1024
BODY_BYTES_MAX: Final = 64 * 1024
"""As many as the API takes."""

_END: Final = b"\r\n\r\n"
_REQUEST_LINE: Final = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.([01])")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_CHUNK_LINE_BYTES_MAX: Final = 1024


class BadRequest(Exception):
    """What came is no request that can be forwarded. `status` is what to answer."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    method: str
    target: str
    headers: Headers
    is_1_0: bool = False

    def header(self, wanted: bytes) -> bytes | None:
        """The first of that name, which is in small letters."""
        return next((value for name, value in self.headers if name.lower() == wanted), None)

    @property
    def keeps_connection(self) -> bool:
        words = (self.header(b"connection") or b"").lower()
        return b"keep-alive" in words if self.is_1_0 else b"close" not in words


def parse(data: bytes) -> Head:
    """All up to the empty line. Raises `BadRequest`."""
    first, *lines = data.removesuffix(_END).split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(first)
    if request is None:
        raise BadRequest("the first line is not that of an HTTP/1.1 request")
    headers = []
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise BadRequest("a header is not one")
        headers.append((found[1], found[2]))
    return Head(
        request[1].decode("ascii"),
        request[2].decode("latin-1"),
        tuple(headers),
        is_1_0=request[3] == b"0",
    )


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next request's; None where the program is done. Raises `BadRequest`, `OSError`."""
    try:
        return parse((await reader.readuntil(_END)).lstrip(b"\r\n"))
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest(f"its head is larger than {HEAD_BYTES_MAX} bytes", 431) from error


async def read_body(head: Head, reader: asyncio.StreamReader) -> bytes:
    """The whole body. Raises `BadRequest`, also for one that is too long; `OSError`."""
    lengths = {value for name, value in head.headers if name.lower() == b"content-length"}
    coding = head.header(b"transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked" or lengths:
            raise BadRequest("how long its body is cannot be told")
        return await _read_chunks(reader)
    if not lengths:
        return b""
    text = lengths.pop()
    if lengths or not text.isdigit():
        raise BadRequest("how long its body is cannot be told")
    if len(text) > 9 or int(text) > BODY_BYTES_MAX:
        raise BadRequest(f"its body is larger than {BODY_BYTES_MAX} bytes", 413)
    return await _exactly(reader, int(text))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:  # bounded: by BODY_BYTES_MAX
        size = (await _line(reader)).partition(b";")[0].strip()
        try:
            length = int(size, 16)
        except ValueError as error:
            raise BadRequest("a chunk of its body has no length") from error
        if length == 0:
            break
        if length < 0 or len(body) + length > BODY_BYTES_MAX:
            raise BadRequest(f"its body is larger than {BODY_BYTES_MAX} bytes", 413)
        body += await _exactly(reader, length)
        await _exactly(reader, 2)
    while await _line(reader):  # trailers, which say nothing to us
        pass
    return bytes(body)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        line = await reader.readuntil(b"\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise BadRequest("its body broke off") from error
    if len(line) > _CHUNK_LINE_BYTES_MAX:
        raise BadRequest("a chunk of its body has no length")
    return line[:-2]


async def _exactly(reader: asyncio.StreamReader, length: int) -> bytes:
    try:
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise BadRequest("its body broke off") from error
