"""Fetching media over real sockets: bounded in bytes, time and redirects, and never more than asked."""

import asyncio
import gzip
import random
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from trunkline.domain.media import BYTES_MAX
from trunkline.kernel import Deadline, SystemClock
from trunkline.messaging.media import sendable_bytes
from trunkline.messaging.media_fetch import REDIRECTS_MAX, Answer, Fetched, MediaFetcher, NotFetched

pytestmark = [pytest.mark.system, pytest.mark.anyio]

CLOCK = SystemClock()
PICTURE = b"\x89PNG" + b"x" * 100_000


ANSWERS = {
    "/cat.png": (200, {"Content-Type": "image/png"}, PICTURE),
    "/huge.png": (200, {"Content-Type": "image/png"}, b"x" * (BYTES_MAX + 1)),
    "/big.pdf": (200, {"Content-Type": "application/pdf"}, b"x" * (600 * 1024)),
    "/packed.png": (
        200,
        {"Content-Type": "image/png", "Content-Encoding": "gzip"},
        gzip.compress(b"0" * 100_000_000, 1),
    ),
    "/file": (302, {"Location": "file:///etc/passwd"}, b""),
    "/busy": (503, {}, b""),
}


class Site:
    """A web server on loopback."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[web.Request] = []
        self.released = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if request.path == "/silent":
            await self.released.wait()
        if request.path == "/moved":
            left = int(request.query["n"])
            onward = f"/moved?n={left - 1}" if left else "/cat.png"
            return web.Response(status=302, headers={"Location": onward})
        status, headers, body = ANSWERS.get(request.path, (404, {}, b""))
        return web.Response(status=status, headers=headers, body=body)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    app = web.Application(client_max_size=2 * BYTES_MAX)
    app.router.add_route("*", "/{tail:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}"
    yield made
    made.released.set()
    await runner.cleanup()


@pytest.fixture
async def fetcher() -> AsyncIterator[MediaFetcher]:
    made = MediaFetcher(clock=CLOCK, rng=random.Random(1))
    yield made
    await made.close()


async def fetch(fetcher: MediaFetcher, url: str, within_s: float = 10.0) -> Answer:
    deadline = Deadline.after(within_s, CLOCK)
    return await fetcher.fetch(url, bytes_max=sendable_bytes, deadline=deadline)


async def test_a_picture_comes_whole_with_its_type(fetcher: MediaFetcher, site: Site) -> None:
    assert await fetch(fetcher, f"{site.url}/cat.png") == Fetched(PICTURE, "image/png")
    assert site.asked[0].headers["Accept-Encoding"] == "identity"
    assert "Cookie" not in site.asked[0].headers


async def test_redirects_are_followed_and_end(fetcher: MediaFetcher, site: Site) -> None:
    led = await fetch(fetcher, f"{site.url}/moved?n={REDIRECTS_MAX - 1}")
    lost = await fetch(fetcher, f"{site.url}/moved?n={REDIRECTS_MAX}")

    assert isinstance(led, Fetched)
    assert isinstance(lost, NotFetched)
    assert (lost.error_code, lost.is_final) == (11215, True)


@pytest.mark.parametrize(
    ("path", "error_code", "is_final"),
    [
        ("/huge.png", 11751, True),
        ("/big.pdf", 11751, True),
        ("/nothing", 11200, True),
        ("/busy", 11200, False),
        ("/file", 11100, True),
    ],
)
async def test_what_cannot_be_had_says_why_and_whether_it_may_pass(
    fetcher: MediaFetcher, site: Site, path: str, error_code: int, is_final: bool
) -> None:
    answer = await fetch(fetcher, site.url + path)

    assert isinstance(answer, NotFetched)
    assert (answer.error_code, answer.is_final) == (error_code, is_final)


async def test_a_signed_url_is_asked_for_as_it_was_given(fetcher: MediaFetcher, site: Site) -> None:
    path = "/cat.png?signature=a%7Eb%27c%2Bd&key=%41"

    await fetch(fetcher, site.url + path)

    assert site.asked[0].raw_path == path


async def test_a_link_local_address_is_out_of_reach(fetcher: MediaFetcher) -> None:
    answer = await fetch(fetcher, "http://169.254.77.7/cat.png", within_s=2.0)

    assert isinstance(answer, NotFetched)
    assert "link-local" in answer.reason


async def test_what_comes_packed_is_not_unpacked(fetcher: MediaFetcher, site: Site) -> None:
    answer = await fetch(fetcher, f"{site.url}/packed.png")

    assert isinstance(answer, NotFetched)
    assert answer.is_final


async def test_a_server_that_is_silent_costs_no_more_than_the_deadline(
    fetcher: MediaFetcher, site: Site
) -> None:
    started = CLOCK.monotonic()

    answer = await fetch(fetcher, f"{site.url}/silent", within_s=0.2)

    assert isinstance(answer, NotFetched)
    assert (answer.error_code, answer.is_final) == (11200, False)
    assert CLOCK.monotonic() - started < 2.0


async def test_what_cannot_be_connected_to_says_why(fetcher: MediaFetcher) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = await fetch(fetcher, f"http://127.0.0.1:{unused.getsockname()[1]}/")
    not_a_url = await fetch(fetcher, "front desk")

    assert isinstance(refused, NotFetched)
    assert (refused.error_code, refused.is_final) == (11205, False)
    assert isinstance(not_a_url, NotFetched)
    assert (not_a_url.error_code, not_a_url.is_final) == (11100, True)
