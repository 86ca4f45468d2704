"""The guard over real sockets: however an address is written, nobody is heard where nobody may go."""

import ipaddress
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from tests.system.application import application as customers_application
from tests.system.running import up, wait_until
from tests.system.webhook_bench import CLOCK, TOKEN, WAIT_S, Application, says, serving
from twilio.rest import Client

from trunkline.kernel import Deadline
from trunkline.messaging.media_fetch import MediaFetcher, NotFetched
from trunkline.webhooks.client import (
    Answered,
    Unreachable,
    WebhookAnswer,
    WebhookClient,
    WebhookRequest,
)
from trunkline.webhooks.guard import Guard, Policy
from trunkline.webhooks.session import open_session

pytestmark = [pytest.mark.system, pytest.mark.anyio]

HANDSET = "+12025550133"
LOCAL = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "127.0.0.1.",
    "app.example@127.0.0.1",
    "app.example:80@127.0.0.1",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "0.0.0.0",  # noqa: S104 - asked for, never bound
    "0",
    "１２７.0.0.1",  # noqa: RUF001 - digits that a name's encoding makes plain
]


def sessions(policy: Policy) -> Callable[[], aiohttp.ClientSession]:
    return lambda: open_session(guard=Guard(policy, CLOCK))


@asynccontextmanager
async def calling(policy: Policy) -> AsyncIterator[WebhookClient]:
    made = WebhookClient(session_factory=sessions(policy), clock=CLOCK, rng=random.Random(1))
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    async with serving() as made:
        yield made


@pytest.fixture
async def refusing() -> AsyncIterator[WebhookClient]:
    async with calling(Policy(lambda: False)) as made:
        yield made


async def send(client: WebhookClient, url: str) -> WebhookAnswer:
    request = WebhookRequest(url, "POST", (("Body", "x"),), TOKEN, "token-1")
    return await client.send(request, deadline=Deadline.after(WAIT_S, CLOCK))


def port_of(application: Application) -> str:
    return application.url.rpartition(":")[2]


@pytest.mark.parametrize("host", LOCAL)
async def test_this_machine_is_out_of_reach_however_it_is_written(
    application: Application, refusing: WebhookClient, host: str
) -> None:
    answer = await send(refusing, f"http://{host}:{port_of(application)}/hook")

    assert isinstance(answer, Unreachable)
    assert answer.error_code == 11100, answer.reason
    assert application.heard == []


async def test_a_redirect_leads_nowhere_that_is_out_of_reach(
    application: Application,
) -> None:
    async with serving() as inner:
        # Two addresses of this machine, of which the second one is refused.
        moved = inner.url.replace("127.0.0.1", "127.0.0.2")
        application.answers["/old"] = says(307, Location=moved + "/hook")
        first = (ipaddress.ip_network("127.0.0.1/32"),)
        async with calling(Policy(lambda: False, first)) as client:
            answer = await send(client, application.url + "/old")

    assert isinstance(answer, Unreachable)
    assert (answer.error_code, answer.is_unsent) == (11100, False)
    assert answer.reason.startswith("127.0.0.2 is this machine")
    assert len(application.heard) == 1
    assert inner.heard == []


async def test_what_a_name_means_is_judged_each_time(application: Application) -> None:
    """A name that means another address at its second look-up, as with DNS rebinding."""
    addresses = iter(["127.0.0.1", "169.254.169.254"])

    class Rebinding(aiohttp.abc.AbstractResolver):
        async def resolve(
            self,
            host: str,
            port: int = 0,
            family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - its name there
        ) -> list[aiohttp.abc.ResolveResult]:
            return [
                {
                    "hostname": host,
                    "host": next(addresses),
                    "port": port,
                    "family": socket.AF_INET,
                    "proto": socket.IPPROTO_TCP,
                    "flags": socket.AI_NUMERICHOST,
                }
            ]

        async def close(self) -> None:
            """Nothing is open."""

    def open_rebinding() -> aiohttp.ClientSession:
        session = open_session()
        connector = session.connector
        assert isinstance(connector, aiohttp.TCPConnector)
        connector._resolver = Rebinding()
        connector._use_dns_cache = False
        connector._force_close = True
        return session

    made = WebhookClient(session_factory=open_rebinding, clock=CLOCK, rng=random.Random(1))
    first = await send(made, f"http://app.example:{port_of(application)}/hook")
    second = await send(made, f"http://app.example:{port_of(application)}/hook")
    await made.close()

    assert isinstance(first, Answered)
    assert isinstance(second, Unreachable)
    assert second.error_code == 11100
    assert len(application.heard) == 1


async def test_a_connection_that_is_open_is_judged_again(application: Application) -> None:
    is_open = True
    async with calling(Policy(lambda: is_open)) as client:
        both = [await send(client, application.url + "/hook") for _ in range(2)]
        is_open = False
        refused = await send(client, application.url + "/hook")
        is_open = True
        again = await send(client, application.url + "/hook")

    assert all(isinstance(answer, Answered) for answer in (*both, again))
    assert isinstance(refused, Unreachable)
    assert (refused.error_code, refused.is_unsent) == (11100, True)
    assert len(application.heard) == 3


async def test_media_from_where_nobody_may_go_fail_for_good(application: Application) -> None:
    made = MediaFetcher(
        session_factory=sessions(Policy(lambda: False)), clock=CLOCK, rng=random.Random(1)
    )
    answer = await made.fetch(
        application.url + "/cat.png",
        bytes_max=lambda _: 1000,
        deadline=Deadline.after(WAIT_S, CLOCK),
    )
    await made.close()

    assert isinstance(answer, NotFetched)
    assert (answer.error_code, answer.is_final) == (21620, True)
    assert "webhooks.allowed_networks" in answer.reason
    assert application.heard == []


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"])
async def test_a_proxy_of_the_environment_is_not_used(
    application: Application, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with serving() as proxy, calling(Policy()) as client:
        monkeypatch.setenv(name, proxy.url)
        await send(client, application.url + "/hook")

    assert len(application.heard) == 1
    assert proxy.heard == []


def test_a_subaccount_closes_private_addresses_without_a_restart(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    err = ""

    def is_refused() -> bool:
        nonlocal err
        err += capfd.readouterr().err
        return "webhooks.address_refused" in err

    # Started here and not in a fixture, so that what it says is still read here.
    with up(tmp_path / "data") as host, customers_application() as application:
        main = Client(host.facts["account_sid"], host.facts["auth_token"])
        main.api.base_url = host.facts["base_url"]
        told = {"from_": "+15005550006", "to": HANDSET, "status_callback": application.url}
        first = main.messages.create(body="before", **told)
        wait_until(lambda: application.told[first.sid, "delivered"], "the callbacks")

        main.api.accounts.create(friendly_name="Shop")
        wait_until(lambda: len(main.api.accounts.list()) == 2, "the subaccount to be shown")
        second = main.messages.create(body="after", **told)
        wait_until(is_refused, "a callback to be refused")
        third = main.messages.create(body="after", media_url=[application.url], **told)
        wait_until(
            lambda: main.messages(third.sid).fetch().status == "failed", "the media to be refused"
        )
        failed = main.messages(third.sid).fetch()

    assert (failed.error_code, failed.error_message) == (
        21620,
        "A media URL leads to an address that nothing may be fetched from",
    )
    assert {sid for sid, _ in application.told} == {first.sid}
    assert second.sid not in {sid for sid, _ in application.told}
