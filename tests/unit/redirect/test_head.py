"""Heads and bodies of requests: what is taken, and what is refused."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.redirect.head import BODY_BYTES_MAX, BadRequest, parse, read_body, read_head

pytestmark = pytest.mark.anyio


def stream(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=64 * 1024)
    reader.feed_data(data)
    reader.feed_eof()
    return reader


def test_a_head_is_its_line_and_its_headers() -> None:
    head = parse(b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Empty:\r\nX-Two: 1, 2 \r\n\r\n")

    assert (head.method, head.target) == ("POST", "/a?b=c")
    assert head.headers == ((b"Host", b"x"), (b"X-Empty", b""), (b"X-Two", b"1, 2"))
    assert head.keeps_connection


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
    ],
)
def test_a_connection_is_kept_as_the_program_says(text: bytes, keeps: bool) -> None:
    assert parse(text).keeps_connection is keeps


@pytest.mark.parametrize(
    "text",
    [
        b"GET / HTTP/2\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nSpace : x\r\n\r\n",
    ],
)
def test_what_is_no_head_is_refused(text: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(text)


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data: bytes) -> None:
    with contextlib.suppress(BadRequest):
        parse(data + b"\r\n\r\n")


async def test_one_request_is_read_behind_another() -> None:
    reader = stream(b"GET /1 HTTP/1.1\r\n\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")

    heads = [await read_head(reader) for _ in range(3)]

    assert [head.target if head else None for head in heads] == ["/1", "/2", None]


async def test_a_head_that_does_not_end_is_refused() -> None:
    with pytest.raises(BadRequest) as refused:
        await read_head(stream(b"GET /" + b"x" * 200_000 + b"\r\n\r\n"))

    assert refused.value.status == 431


async def read(headers: bytes, body: bytes) -> bytes:
    return await read_body(parse(b"POST / HTTP/1.1\r\n" + headers + b"\r\n\r\n"), stream(body))


async def test_a_body_is_as_long_as_it_says() -> None:
    assert await read(b"Content-Length: 3", b"abcdef") == b"abc"
    assert await read(b"X: y", b"abcdef") == b""


async def test_a_body_may_come_in_chunks() -> None:
    chunks = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n"

    assert await read(b"Transfer-Encoding: chunked", chunks) == b"abcde"


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (b"Content-Length: -1", b"", 400),
        (b"Content-Length: 1\r\nContent-Length: 2", b"ab", 400),
        (b"Content-Length: 5", b"ab", 400),
        (b"Content-Length: %d" % (BODY_BYTES_MAX + 1), b"", 413),
        (b"Content-Length: 99999999999999999999", b"", 413),
        (b"Transfer-Encoding: gzip", b"", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 1", b"0\r\n\r\n", 400),
        (b"Transfer-Encoding: chunked", b"zz\r\n", 400),
        (b"Transfer-Encoding: chunked", b"-5\r\n", 413),
        (b"Transfer-Encoding: chunked", b"FFFFFFF\r\n", 413),
        (b"Transfer-Encoding: chunked", b"3\r\nab", 400),
    ],
)
async def test_a_body_whose_length_cannot_be_trusted_is_refused(
    headers: bytes, body: bytes, status: int
) -> None:
    with pytest.raises(BadRequest) as refused:
        await read(headers, body)

    assert refused.value.status == status
