"""Asking for a document again: by default once, if no connection came about; else as its URL says."""

import asyncio
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self, cast

import aiohttp
import pytest

from trunkline.kernel import Deadline, VirtualClock
from trunkline.kernel.virtual import run_in_virtual_time
from trunkline.messaging.converse import Converser
from trunkline.webhooks import guard
from trunkline.webhooks.client import Answered, WebhookAnswer, WebhookClient, WebhookRequest

URL = "https://app.example/sms"
REFUSED = aiohttp.ConnectionTimeoutError("no connection")
BROKEN = aiohttp.ServerDisconnectedError()
GUARDED = aiohttp.ClientConnectorError(
    cast("Any", SimpleNamespace(host="app.example", port=443, ssl=True)),
    OSError(guard.REFUSED, "127.0.0.1 is this machine"),
)


class Network:
    """Each request takes so many seconds and then comes to a status or an exception."""

    def __init__(self, *ends: tuple[float, int | Exception]) -> None:
        self._ends = list(ends)
        self.urls: list[str] = []
        self.timeouts: list[aiohttp.ClientTimeout] = []

    def request(self, method: str, url: object, **sent: Any) -> "_Exchange":
        del method
        self.urls.append(str(url))
        self.timeouts.append(sent["timeout"])
        return _Exchange(*self._ends.pop(0), sent["timeout"].total)


class _Exchange:
    def __init__(self, takes_s: float, end: int | Exception, total_s: float) -> None:
        self._takes_s, self._end, self._total_s = takes_s, end, total_s
        self.headers: dict[str, str] = {}
        self.content = aiohttp.EMPTY_PAYLOAD
        self.status = 0

    async def __aenter__(self) -> Self:
        async with asyncio.timeout(self._total_s):
            await asyncio.sleep(self._takes_s)
        if isinstance(self._end, Exception):
            raise self._end
        self.status = self._end
        return self

    async def __aexit__(self, *_: object) -> None:
        return


def ask(network: Network, fragment: str = "", work_s: float = 45.0) -> tuple[WebhookAnswer, float]:
    """The answer that counts, and after how long."""

    async def main() -> tuple[WebhookAnswer, float]:
        clock = VirtualClock()
        session = cast("aiohttp.ClientSession", network)
        client = WebhookClient(session_factory=lambda: session, clock=clock, rng=random.Random(1))
        unused = cast("Any", None)
        converser = Converser(
            client,
            unused,
            unused,
            unused,
            unused,
            unused,
            clock,
            cast("Callable[..., None]", unused),
        )
        request = WebhookRequest(URL + fragment, "POST", (), "token", "t")
        answer = await converser._ask(request, Deadline.after(work_s, clock))
        return answer, clock.monotonic()

    return run_in_virtual_time(main())


@pytest.mark.parametrize(
    ("end", "fragment", "tries"),
    [
        (REFUSED, "", 2),
        (REFUSED, "#rc=0", 1),
        (REFUSED, "#rc=4", 5),
        (REFUSED, "#rc=4&rp=5xx", 1),
        (REFUSED, "#rc=4&rp=5xx,ct", 5),
        (BROKEN, "#rc=4&rp=all", 1),
        (GUARDED, "", 1),
        (GUARDED, "#rc=4&rp=all", 1),
        (500, "", 1),
        (500, "#rp=5xx", 2),
        (503, "#rp=4xx&rc=3", 1),
        (404, "#rp=4xx&rc=3", 4),
        (404, "#rp=all&rc=9", 6),
        (200, "#rp=all&rc=5", 1),
    ],
)
def test_the_policy_says_what_is_tried_again_and_how_often(
    end: int | Exception, fragment: str, tries: int
) -> None:
    network = Network(*[(0.1, end)] * 10)

    ask(network, fragment)

    assert network.urls == [URL] * tries


def test_what_comes_of_a_later_try_counts() -> None:
    answer, _ = ask(Network((0.1, 500), (0.1, 500), (0.1, 200)), "#rp=5xx&rc=2")

    assert isinstance(answer, Answered)
    assert answer.status == 200


def test_a_read_timeout_is_tried_again_where_the_policy_says_so_within_the_fifteen_seconds() -> (
    None
):
    network = Network(*[(6.0, aiohttp.SocketTimeoutError())] * 6)

    _, took_s = ask(network, "#rp=rt&rc=5&rt=6000")

    assert len(network.urls) == 3
    assert took_s == pytest.approx(15.0)


def test_all_retries_together_have_the_total_time_that_the_url_says() -> None:
    network = Network(*[(0.9, REFUSED)] * 6)

    _, took_s = ask(network, "#rc=5&tt=2000")

    assert len(network.urls) == 3
    assert took_s == pytest.approx(2.0)


def test_the_times_that_the_url_says_bound_each_request() -> None:
    network = Network((0.0, 200))

    ask(network, "#ct=2000&rt=3000&tt=4000")

    timeout = network.timeouts[0]
    assert (timeout.sock_connect, timeout.sock_read) == (2.0, 3.0)
    assert timeout.total == pytest.approx(4.0)
