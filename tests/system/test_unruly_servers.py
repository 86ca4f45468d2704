"""Servers that never end, drip, or send more than anybody wants: each ends within our bounds."""

import asyncio
import gzip
import random
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from tests.system.webhook_bench import CLOCK, TOKEN, calling

from trunkline.kernel import Deadline
from trunkline.messaging.media_fetch import MediaFetcher, NotFetched
from trunkline.webhooks.client import (
    ANSWER_BYTES_MAX,
    Answered,
    Unreachable,
    WebhookAnswer,
    WebhookRequest,
)

pytestmark = [pytest.mark.system, pytest.mark.anyio]

DRIP_S = 0.02
GIVEN_S = 0.3
"""What a client has that must run out of time."""
ENDS_WITHIN_S = 3.0
MEMORY_BYTES_MAX = 8 * 1024 * 1024
MEDIA_BYTES_MAX = 64 * 1024
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
PIECE = b"x" * 65_536

Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def is_left(reader: asyncio.StreamReader) -> bool:
    """Whether the client has hung up; waits one drip for it."""
    try:
        async with asyncio.timeout(DRIP_S):
            return await reader.read(1) == b""
    except TimeoutError:
        return False


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"\r\n")
    while True:
        writer.write(PIECE)
        await writer.drain()


async def endless_chunks(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + PIECE + b"\r\n")
        await writer.drain()


def dripping(whole: bytes, drip: bytes) -> Say:
    """`whole` at once, then `drip` again and again, one byte at a time."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(whole)
        position = 0
        while not await is_left(reader):
            writer.write(drip[position % len(drip)].to_bytes(1))
            position += 1
            await writer.drain()

    return say


def saying(text: bytes) -> Say:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    return say


async def interim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while not await is_left(reader):
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        await writer.drain()


async def slow_circle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Every hop in time, and never an end."""
    for _ in range(4):
        if await is_left(reader):
            return
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


BOMB = gzip.compress(b"0" * 100_000_000, 1)
PACKED = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(BOMB), BOMB)
MANY_HEADERS = HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(1000)) + b"\r\n"
LONG_HEADER = HEAD + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n"
LONG_STATUS = b"HTTP/1.1 200 " + b"K" * 1_000_000 + b"\r\n\r\n"


@asynccontextmanager
async def serving(say: Say) -> AsyncIterator[str]:
    """A server that says so after each request."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await say(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has had enough
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@asynccontextmanager
async def bounded() -> AsyncIterator[None]:
    """What happens in the block takes little time and memory."""
    tracemalloc.start()
    began = CLOCK.monotonic()
    try:
        yield
        taken_s, (_, peak) = CLOCK.monotonic() - began, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken_s < ENDS_WITHIN_S
    assert peak < MEMORY_BYTES_MAX


async def ask(say: Say, *, within_s: float = GIVEN_S) -> WebhookAnswer:
    async with serving(say) as url, calling() as client, bounded():
        request = WebhookRequest(url, "GET", (), TOKEN, "token-1")
        return await client.send(request, deadline=Deadline.after(within_s, CLOCK))


@pytest.mark.parametrize("say", [endless, endless_chunks, saying(PACKED)])
async def test_more_than_an_answer_may_have_is_not_read(say: Say) -> None:
    answer = await ask(say, within_s=ENDS_WITHIN_S)

    assert isinstance(answer, Answered)
    assert len(answer.body) == ANSWER_BYTES_MAX + 1


@pytest.mark.parametrize(
    "say",
    [
        dripping(b"", HEAD),
        dripping(HEAD + b"X: ", b"y"),
        dripping(HEAD, b"X: y\r\n"),
        dripping(HEAD + b"\r\n", b"x"),
        dripping(HEAD + b"Content-Length: 99999\r\n\r\n", b"x"),
        interim,
        slow_circle,
    ],
)
async def test_drips_do_not_lengthen_the_time_that_there_is(say: Say) -> None:
    answer = await ask(say)

    assert isinstance(answer, Unreachable)
    assert (answer.error_code, answer.is_unsent) == (11200, False)


@pytest.mark.parametrize("text", [MANY_HEADERS, LONG_HEADER, LONG_STATUS])
async def test_a_head_without_measure_is_a_violation_of_the_protocol(text: bytes) -> None:
    answer = await ask(saying(text), within_s=ENDS_WITHIN_S)

    assert isinstance(answer, Unreachable)
    assert (answer.error_code, answer.is_unsent) == (11206, False)


@pytest.mark.parametrize(
    ("say", "error_code"),
    [
        (endless, 11751),
        (endless_chunks, 11751),
        (saying(PACKED), 11200),
        (saying(MANY_HEADERS), 11200),
        (dripping(b"", HEAD), 11200),
        (dripping(HEAD + b"\r\n", b"x"), 11200),
        (slow_circle, 11200),
    ],
)
async def test_media_end_within_the_same_bounds(say: Say, error_code: int) -> None:
    made = MediaFetcher(clock=CLOCK, rng=random.Random(1))
    async with serving(say) as url, bounded():
        answer = await made.fetch(
            url, bytes_max=lambda _: MEDIA_BYTES_MAX, deadline=Deadline.after(GIVEN_S, CLOCK)
        )
    await made.close()

    assert isinstance(answer, NotFetched)
    assert answer.error_code == error_code
