"""Webhooks over real sockets: an application on loopback, believed by the official library."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs
from tests.system.webhook_bench import (
    ACCOUNT,
    CLOCK,
    OURS,
    THEIRS,
    TOKEN,
    WAIT_S,
    Application,
    Heard,
    Host,
    calling,
    dice,
    host_in,
    killed,
    running,
    says,
    serving,
)

from trunkline.domain.optout import REPLIES, Keyword
from trunkline.domain.status import Status
from trunkline.kernel import Deadline
from trunkline.messaging.conversation import DOCUMENTS_MAX, REPLIES_MAX
from trunkline.webhooks.client import (
    ANSWER_BYTES_MAX,
    Answered,
    Method,
    Unreachable,
    WebhookAnswer,
    WebhookClient,
    WebhookRequest,
)
from trunkline.webhooks.session import open_session

pytestmark = [pytest.mark.system, pytest.mark.anyio]


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    async with serving() as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[WebhookClient]:
    async with calling() as made:
        yield made


@pytest.fixture
async def host(tmp_path: Path, client: WebhookClient) -> AsyncIterator[Host]:
    async with host_in(tmp_path, client) as made:
        yield made


async def send(
    client: WebhookClient, url: str, *, method: Method = "POST", within_s: float = WAIT_S
) -> WebhookAnswer:
    params = (("Body", "Grüße 😀 & + %"), ("FromCity", ""))
    request = WebhookRequest(
        url, method, params, TOKEN, "token-1", (("X-Trunkline-Sequence", "4"),)
    )
    return await client.send(request, deadline=Deadline.after(within_s, CLOCK))


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/hook", "", "/größe%2f?q=1&q=ü#rc=2", "?only=query"])
async def test_an_application_believes_what_it_is_sent(
    application: Application, client: WebhookClient, method: Method, path: str
) -> None:
    answer = await send(client, application.url + path, method=method)

    assert answer == Answered(204, "", b"")
    heard = application.heard[0]
    assert heard.is_believed
    assert heard.method == method
    assert heard.params["Body"] == "Grüße 😀 & + %"
    assert heard.params["FromCity"] == ""
    assert heard.token == "token-1"
    assert heard.headers["X-Trunkline-Sequence"] == "4"
    assert heard.headers["User-Agent"].startswith("Trunkline/")


async def test_user_information_becomes_basic_authentication_and_cookies_are_not_kept(
    application: Application, client: WebhookClient
) -> None:
    application.answers["/hook"] = says(200, **{"Set-Cookie": "session=1"})

    for _ in range(2):
        await send(client, application.url.replace("//", "//user:p%40ss@") + "/hook")

    first, second = application.heard
    assert first.is_believed
    assert first.headers["Authorization"] == "Basic dXNlcjpwQHNz"
    assert "Cookie" not in second.headers


async def test_a_redirect_is_followed_and_signed_for_where_it_leads(
    application: Application, client: WebhookClient
) -> None:
    application.answers["/old"] = says(302, Location="/new?x=1")
    application.answers["/moved"] = says(307, Location=f"{application.url}/new")

    await send(client, application.url + "/old")
    await send(client, application.url + "/moved")

    _, shown, _, moved = application.heard
    assert (shown.method, shown.path, dict(shown.params)) == ("GET", "/new", {"x": "1"})
    assert (moved.method, moved.params["FromCity"]) == ("POST", "")
    assert all(heard.is_believed for heard in application.heard)


async def test_redirects_end(application: Application, client: WebhookClient) -> None:
    application.answers["/loop"] = says(302, Location="/loop")

    answer = await send(client, application.url + "/loop")

    assert isinstance(answer, Unreachable)
    assert answer.error_code == 11215
    assert len(application.heard) == 11


async def test_a_long_answer_is_cut(application: Application, client: WebhookClient) -> None:
    application.answers["/long"] = says(200, "x" * 500_000)

    answer = await send(client, application.url + "/long")

    assert isinstance(answer, Answered)
    assert len(answer.body) == ANSWER_BYTES_MAX + 1


async def test_an_application_that_is_silent_costs_no_more_than_the_deadline(
    application: Application, client: WebhookClient
) -> None:
    released = asyncio.Event()

    async def answer(_: Heard) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    application.answers["/silent"] = answer
    started = CLOCK.monotonic()

    silent = await send(client, application.url + "/silent", within_s=0.2)

    released.set()
    assert isinstance(silent, Unreachable)
    assert (silent.error_code, silent.is_unsent) == (11200, False)
    assert CLOCK.monotonic() - started < 2.0


async def test_what_cannot_be_connected_to_is_unsent_and_says_why(
    application: Application, client: WebhookClient
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed_port = unused.getsockname()[1]
        refused = await send(client, f"http://127.0.0.1:{closed_port}/")
    not_tls = await send(client, application.url.replace("http:", "https:"))
    not_a_url = await send(client, "front desk")

    for answer, code in ((refused, 11205), (not_tls, 11220), (not_a_url, 11100)):
        assert isinstance(answer, Unreachable)
        assert (answer.error_code, answer.is_unsent) == (code, True)


@pytest.mark.parametrize(
    "said",
    [
        b"220 mail.example ESMTP\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 99\r\n\r\n<Response>",
    ],
)
async def test_what_is_no_http_or_breaks_off_is_a_violation_of_the_protocol(
    client: WebhookClient, said: bytes
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        broken = await send(client, f"http://127.0.0.1:{port}/", method="GET")

    assert isinstance(broken, Unreachable)
    assert (broken.error_code, broken.is_unsent) == (11206, False)


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """Of a host that vouches for itself: the certificate, and its key."""
    paths = folder / "certificate.pem", folder / "key.pem"
    words = [
        "openssl",
        "req",
        "-x509",
        "-nodes",
        "-days",
        "1",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]
    named = ("-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}")
    written = ("-out", str(paths[0]), "-keyout", str(paths[1]))
    subprocess.run((*words, *named, *written), check=True, capture_output=True, timeout=WAIT_S)
    return paths


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
@pytest.mark.parametrize(
    ("host", "is_trusted", "code"),
    [("app.example", True, 11235), ("localhost", False, 11237), ("localhost", True, None)],
)
async def test_a_certificate_that_is_not_accepted_says_why(
    tmp_path: Path, host: str, is_trusted: bool, code: int | None
) -> None:
    own, key = certificate(tmp_path, host)
    serving_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving_tls.load_cert_chain(own, key)
    trusting = ssl.create_default_context(cafile=str(own) if is_trusted else None)
    async with serving(serving_tls) as application:
        made = WebhookClient(
            session_factory=lambda: open_session(tls=trusting), clock=CLOCK, rng=dice()
        )
        answer = await send(made, application.url.replace("127.0.0.1", "localhost") + "/hook")
        await made.close()

    assert getattr(answer, "error_code", None) == code


async def test_a_status_callback_is_told_every_step_in_order_and_written_down(
    host: Host, application: Application
) -> None:
    async with running(host.callbacks()):
        message = await host.create(application.url + "/status")
        await host.receipt(message, "undelivered", 30003)
        heard = [await application.hear() for _ in range(3)]

    assert [each.params["MessageStatus"] for each in heard] == ["sending", "sent", "undelivered"]
    assert [each.params.get("ErrorCode") for each in heard] == [None, None, "30003"]
    assert all(each.is_believed for each in heard)
    assert len(application.heard) == 3
    await host.catch_up()
    told = host.replica.message(message.sid)
    assert told is not None
    assert told.told == {Status.SENDING, Status.SENT, Status.UNDELIVERED}


async def test_a_message_without_a_callback_tells_nobody(
    host: Host, application: Application
) -> None:
    async with running(host.callbacks()):
        quiet = await host.create(None)
        loud = await host.create(application.url + "/status")
        await host.receipt(quiet, "delivered")
        await host.receipt(loud, "delivered")
        for _ in range(3):
            assert (await application.hear()).params["MessageSid"] == loud.sid

    assert len(application.heard) == 3


async def test_an_application_that_was_down_is_told_again_with_the_same_token(
    host: Host, application: Application
) -> None:
    async def fails_once(heard: Heard) -> web.StreamResponse:
        is_first = application.heard == [heard]
        return web.Response(status=503 if is_first else 200)

    application.answers["/status"] = fails_once
    async with running(host.callbacks()):
        message = await host.create(application.url + "/status")
        await host.receipt(message, "delivered")
        heard = [await application.hear() for _ in range(4)]

    assert [each.params["MessageStatus"] for each in heard] == [
        "sending",
        "sending",
        "sent",
        "delivered",
    ]
    assert heard[0].token == heard[1].token


async def test_a_callback_whose_teller_died_is_told_by_the_next_one(
    host: Host, application: Application
) -> None:
    released = asyncio.Event()

    async def hangs_once(heard: Heard) -> web.StreamResponse:
        if application.heard == [heard]:
            await released.wait()
        return web.Response()

    application.answers["/status"] = hangs_once
    message = await host.create(application.url + "/status")
    async with killed(host.callbacks()):
        await host.receipt(message, "delivered")
        interrupted = await application.hear()
    released.set()

    async with running(host.callbacks()):
        heard = [await application.hear() for _ in range(3)]

    assert heard[0].token == interrupted.token
    assert [each.params["MessageStatus"] for each in heard] == ["sending", "sent", "delivered"]


async def test_one_application_that_hangs_does_not_hold_up_another(
    host: Host, application: Application
) -> None:
    released = asyncio.Event()

    async def hangs(_: Heard) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    application.answers["/hangs"] = hangs
    async with running(host.callbacks()):
        # Another host name is another receiver; both are this machine.
        slow_url = application.url.replace("127.0.0.1", "localhost") + "/hangs"
        for _ in range(40):
            await host.receipt(await host.create(slow_url), "delivered")
        await host.receipt(await host.create(application.url + "/quick"), "delivered")
        heard = await application.hear()
        while heard.path != "/quick":
            heard = await application.hear()
        released.set()


async def test_an_inbound_message_is_answered_by_its_application(
    host: Host, application: Application
) -> None:
    application.answers["/in/sms"] = says(
        200,
        "<Response><Message statusCallback='/status'>Hello 😀</Message>"
        "<Message><Body>Look</Body><Media>pic.png</Media></Message></Response>",
    )
    await host.own_number(sms_url=application.url + "/in/sms")
    async with running(host.inbound()):
        sid = await host.receive("1", "Hi")
        heard = await application.hear()

    assert heard.is_believed
    assert (heard.params["MessageSid"], heard.params["Body"]) == (sid, "Hi")
    hello, look = (message.original for message in await host.replies())
    assert hello is not None
    assert look is not None
    assert (hello.text, hello.sender, hello.recipient) == ("Hello 😀", OURS, THEIRS)
    assert hello.direction == "outbound-reply"
    assert hello.status_callback == application.url + "/status"
    assert look.media_urls == (application.url + "/in/pic.png",)


async def test_nobody_is_asked_about_what_a_suspended_account_receives(
    host: Host, application: Application
) -> None:
    await host.own_number(sms_url=application.url + "/in/sms")
    host.inactive.add(ACCOUNT)
    with capture_logs() as logs:
        async with running(host.inbound()):
            suspended = await host.receive("1", "Hi")
            while not any(each["event"] == "inbound.account_inactive" for each in logs):
                await asyncio.sleep(0.01)
            host.inactive.clear()
            sid = await host.receive("2", "Hi again")
            heard = await application.hear()

    assert heard.params["MessageSid"] == sid
    await host.catch_up()
    kept = host.replica.message(suspended)
    assert kept is not None
    assert kept.received is not None


async def test_the_fallback_is_asked_when_the_first_url_fails(
    host: Host, application: Application
) -> None:
    application.answers["/broken"] = says(500)
    application.answers["/spare"] = says(200, "From the spare", "text/plain")
    await host.own_number(
        sms_url=application.url + "/broken",
        sms_fallback_url=application.url + "/spare",
        sms_fallback_method="GET",
    )
    async with running(host.inbound()):
        await host.receive("1", "Hi")
        await application.hear()
        spare = await application.hear()

    assert (spare.method, spare.params["ErrorCode"]) == ("GET", "11200")
    assert spare.params["ErrorUrl"] == application.url + "/broken"
    assert spare.is_believed
    assert [message.original and message.original.text for message in await host.replies()] == [
        "From the spare"
    ]


async def test_a_url_that_keeps_failing_is_left_out_where_there_is_another_one(
    host: Host, application: Application
) -> None:
    application.answers["/broken"] = says(500)
    application.answers["/spare"] = says(200, "From the spare", "text/plain")
    await host.own_number(
        sms_url=application.url + "/broken", sms_fallback_url=application.url + "/spare"
    )
    async with running(host.inbound()):
        for number in range(24):
            await host.receive(f"{number:02x}", "Hi")
            while (await application.hear()).path != "/spare":
                pass

    paths = Counter(heard.path for heard in application.heard)
    assert paths == {"/broken": 20, "/spare": 24}


async def test_a_redirect_in_a_document_leads_to_the_next_and_a_circle_ends(
    host: Host, application: Application
) -> None:
    application.answers["/round"] = says(
        200, "<Response><Message>again</Message><Redirect>/round</Redirect></Response>"
    )
    await host.own_number(sms_url=application.url + "/round")
    async with running(host.inbound()):
        await host.receive("1", "Hi")
        for _ in range(DOCUMENTS_MAX):
            await application.hear()

    assert len(application.heard) == DOCUMENTS_MAX
    assert len(await host.replies()) == REPLIES_MAX


async def test_a_conversation_whose_host_died_half_way_is_had_again_and_doubles_nothing(
    host: Host, application: Application
) -> None:
    released = asyncio.Event()

    async def second_document(heard: Heard) -> web.StreamResponse:
        if len([each for each in application.heard if each.path == heard.path]) == 1:
            await released.wait()
        return web.Response(text="two", content_type="text/plain")

    application.answers["/one"] = says(
        200, "<Response><Message>one</Message><Redirect>/two</Redirect></Response>"
    )
    application.answers["/two"] = second_document
    await host.own_number(sms_url=application.url + "/one")
    async with killed(host.inbound()):
        await host.receive("1", "Hi")
        while (await application.hear()).path != "/two":
            pass
    released.set()

    async with running(host.inbound()):
        while (await application.hear()).path != "/two":
            pass

    assert [each.path for each in application.heard] == ["/one", "/two"] * 2
    assert application.heard[0].token == application.heard[2].token
    texts = [message.original and message.original.text for message in await host.replies()]
    assert texts == ["one", "two"]


async def test_a_stop_is_answered_once_however_often_it_is_gone_through_and_replies_to_it_are_dropped(
    host: Host, application: Application
) -> None:
    released = asyncio.Event()

    async def hangs_once(heard: Heard) -> web.StreamResponse:
        if application.heard == [heard]:
            await released.wait()
        return web.Response(
            text="<Response><Message>Do stay</Message></Response>", content_type="text/xml"
        )

    application.answers["/in/sms"] = hangs_once
    await host.own_number(sms_url=application.url + "/in/sms")
    await host.receive("1", "stop")
    await host.catch_up()
    async with killed(host.inbound()):
        assert (await application.hear()).params["Body"] == "stop"
    released.set()
    async with running(host.inbound()):
        await application.hear()

    (answer,) = await host.replies()
    assert answer.original is not None
    assert (answer.original.text, answer.original.is_automatic) == (REPLIES[Keyword.STOP], True)
    assert answer.original.direction == "outbound-reply"
