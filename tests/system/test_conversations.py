"""Conversations with an application about an inbound message, over real sockets, and where they end."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.system.webhook_bench import (
    CLOCK,
    OURS,
    THEIRS,
    WAIT_S,
    Application,
    Heard,
    Host,
    calling,
    host_in,
    running,
    says,
    serving,
)
from twilio.twiml.messaging_response import MessagingResponse

from trunkline.kernel import Deadline
from trunkline.kernel.crash import CrashPoint
from trunkline.log.event import Event
from trunkline.messaging.conversation import REPLIES_MAX
from trunkline.messaging.converse import NOTICES_MAX
from trunkline.messaging.replies import LOOP_REPLIES_MAX, LOOPING
from trunkline.messaging.timeline import Happening, read_timeline
from trunkline.webhooks.client import WebhookClient

pytestmark = [pytest.mark.system, pytest.mark.anyio]

WALKED = [
    *((CrashPoint.DOCUMENT_BEFORE_REPLY, passing) for passing in (1, 2, 3)),
    *((CrashPoint.ACCEPT_BEFORE_APPEND, passing) for passing in (1, 2, 3)),
    *((CrashPoint.ACCEPT_AFTER_APPEND, passing) for passing in (1, 2, 3)),
    *((CrashPoint.REPLY_BEFORE_ACK, passing) for passing in (1, 2, 3)),
    (CrashPoint.ANSWERED_BEFORE_ACK, 1),
]
"""Every place that a conversation of three documents and three replies passes, each time it does."""


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


class DiedError(BaseException):
    """What ends a service as SIGKILL would: nothing behind it is done."""


@asynccontextmanager
async def dying(host: Host, chosen: CrashPoint, passing: int) -> AsyncIterator[asyncio.Event]:
    """The service until it dies at a passing of a place, which the event tells."""
    died, passed = asyncio.Event(), 0

    def crash_here(point: CrashPoint, /) -> None:
        nonlocal passed
        passed += point is chosen
        if point is chosen and passed == passing:
            died.set()
            raise DiedError

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(host.inbound(crash_here).run())
            yield died
    except* DiedError:
        pass
    assert died.is_set(), f"{chosen} was passed {passed} times"


async def notices(host: Host, sid: str) -> list[Happening]:
    """What the log holds of what went wrong."""
    deadline = Deadline.after(WAIT_S, CLOCK)
    found = await read_timeline(
        host.log, sid, since=CLOCK.wall() - WAIT_S, clock=CLOCK, deadline=deadline
    )
    assert found.unread == ()
    return [each for each in found.happenings if each.what == "notice"]


async def texts(host: Host) -> list[str]:
    return [message.original.text for message in await host.replies() if message.original]


async def hear(application: Application, count: int) -> list[Heard]:
    return [await application.hear() for _ in range(count)]


def three_documents(application: Application) -> None:
    """Two replies, an action behind the second, a redirect behind that, and another reply."""
    first = MessagingResponse()
    first.message("one")
    first.message("two", action="/then?x=1", method="GET")
    first.message("never")
    second = MessagingResponse()
    second.message("to nobody", to="front desk")
    second.redirect("last", method="POST")
    third = MessagingResponse()
    third.message("three")
    application.answers |= {
        "/sms": says(200, str(first)),
        "/then": says(200, str(second)),
        "/last": says(200, str(third)),
    }


async def test_an_action_is_asked_behind_its_message_and_what_it_says_is_done(
    host: Host, application: Application
) -> None:
    three_documents(application)
    await host.own_number(sms_url=application.url + "/sms")
    async with running(host.inbound()):
        sid = await host.receive("1", "Hi")
        first, then, last = await hear(application, 3)

    assert [each.path for each in (first, then, last)] == ["/sms", "/then", "/last"]
    assert [each.method for each in (first, then, last)] == ["POST", "GET", "POST"]
    assert all(each.is_believed for each in application.heard)
    assert await texts(host) == ["one", "two", "three"]
    _, two, _ = await host.replies()
    assert (then.params["MessageSid"], then.params["MessageStatus"]) == (two.sid, "sending")
    assert (then.params["From"], then.params["To"], then.params["x"]) == (THEIRS, OURS, "1")
    assert (last.params["MessageSid"], last.params["SmsStatus"]) == (sid, "received")
    (notice,) = await notices(host, sid)
    assert notice.facts["code"] == 14101
    assert notice.facts["is_warning"]
    assert notice.facts["url"] == application.url + "/then?x=1"


@pytest.mark.parametrize(("point", "passing"), WALKED)
async def test_a_conversation_that_ends_anywhere_is_had_again_and_loses_and_doubles_nothing(
    host: Host, application: Application, point: CrashPoint, passing: int
) -> None:
    three_documents(application)
    await host.own_number(sms_url=application.url + "/sms")
    sid = await host.receive("1", "Hi")
    async with asyncio.timeout(WAIT_S), dying(host, point, passing) as died:
        await died.wait()
    while not application.arrivals.empty():
        application.arrivals.get_nowait()
    async with running(host.inbound()):
        while (await application.hear()).path != "/last":
            pass

    assert await texts(host) == ["one", "two", "three"]
    tokens = {(each.path, each.token) for each in application.heard}
    assert len(tokens) == 3, "a repeat has a token of its own"
    assert {each.params["MessageSid"] for each in application.heard if each.path == "/then"} == {
        (await host.replies())[1].sid
    }
    assert [each.facts["code"] for each in await notices(host, sid)] == [14101]


async def test_a_message_that_cannot_be_sent_is_named_to_its_action(
    host: Host, application: Application
) -> None:
    document = MessagingResponse()
    document.message("hello", to="front desk", action="/then")
    application.answers["/sms"] = says(200, str(document))
    await host.own_number(sms_url=application.url + "/sms")
    async with running(host.inbound()):
        await host.receive("1", "Hi")
        _, then = await hear(application, 2)

    assert (then.params["MessageStatus"], then.params["ErrorCode"]) == ("invalid", "14101")
    assert await texts(host) == []


async def test_an_action_that_fails_leads_to_the_fallback(
    host: Host, application: Application
) -> None:
    document = MessagingResponse()
    document.message("one", action="/broken")
    application.answers["/sms"] = says(200, str(document))
    application.answers["/broken"] = says(500)
    application.answers["/spare"] = says(200, "from the spare", "text/plain")
    await host.own_number(
        sms_url=application.url + "/sms", sms_fallback_url=application.url + "/spare"
    )
    async with running(host.inbound()):
        sid = await host.receive("1", "Hi")
        _, broken, spare = await hear(application, 3)

    assert (broken.path, spare.path) == ("/broken", "/spare")
    assert spare.params["ErrorCode"] == "11200"
    assert spare.params["ErrorUrl"] == application.url + "/broken"
    assert spare.params["MessageSid"] == broken.params["MessageSid"]
    assert await texts(host) == ["one", "from the spare"]
    (notice,) = await notices(host, sid)
    assert (notice.facts["code"], "is_warning" in notice.facts) == (11200, False)


async def test_urls_are_resolved_against_where_the_document_was_in_the_end(
    host: Host, application: Application
) -> None:
    document = MessagingResponse()
    document.message("one", status_callback="status")
    document.redirect("next")
    application.answers["/sms"] = says(307, Location="/moved/here")
    application.answers["/moved/here"] = says(200, str(document))
    await host.own_number(sms_url=application.url + "/sms")
    async with running(host.inbound()):
        await host.receive("1", "Hi")
        heard = await hear(application, 3)

    assert [each.path for each in heard] == ["/sms", "/moved/here", "/moved/next"]
    (reply,) = await host.replies()
    assert reply.original is not None
    assert reply.original.status_callback == application.url + "/moved/status"


async def test_cookies_are_kept_for_the_conversation_and_no_longer(
    host: Host, application: Application
) -> None:
    redirect = MessagingResponse()
    redirect.redirect("/next")

    async def with_cookie(_: Heard) -> web.StreamResponse:
        answer = web.Response(text=str(redirect), content_type="text/xml")
        answer.set_cookie("step", "one")
        answer.set_cookie("elsewhere", "two", path="/other")
        return answer

    application.answers["/sms"] = with_cookie
    await host.own_number(sms_url=application.url + "/sms")
    async with running(host.inbound()):
        for name in ("1", "2"):
            await host.receive(name, "Hi")
            first, second = await hear(application, 2)
            assert "Cookie" not in first.headers
            assert second.headers["Cookie"] == "step=one"


async def test_no_more_than_ten_replies_are_sent_and_the_others_named(
    host: Host, application: Application
) -> None:
    document = MessagingResponse()
    for number in range(REPLIES_MAX + 2):
        document.message(str(number))
    document.redirect("/next")
    application.answers["/sms"] = says(200, str(document))
    await host.own_number(sms_url=application.url + "/sms")
    async with running(host.inbound()):
        sid = await host.receive("1", "Hi")
        _, following = await hear(application, 2)

    assert following.path == "/next"
    assert await texts(host) == [str(number) for number in range(REPLIES_MAX)]
    assert [each.facts["code"] for each in await notices(host, sid)] == [14109, 14109]


async def test_replies_that_are_too_many_between_two_numbers_end_a_loop(
    host: Host, application: Application
) -> None:
    ten = MessagingResponse()
    for number in range(REPLIES_MAX):
        ten.message(str(number))
    one_more = MessagingResponse()
    one_more.message("one more", action="/told")
    application.answers["/sms"] = says(200, str(ten))
    await host.own_number(sms_url=application.url + "/sms")
    for turn in range(LOOP_REPLIES_MAX // REPLIES_MAX):
        async with running(host.inbound()):
            await host.receive(str(turn), "Hi")
            await application.hear()
    assert len(await texts(host)) == LOOP_REPLIES_MAX

    application.answers["/sms"] = says(200, str(one_more))
    async with running(host.inbound()):
        sid = await host.receive("one too many", "Hi")
        _, told = await hear(application, 2)

    assert (told.path, told.params["MessageStatus"]) == ("/told", "failed")
    assert told.params["ErrorCode"] == str(LOOPING)
    assert "one more" not in await texts(host)
    assert [each.facts["code"] for each in await notices(host, sid)] == [LOOPING]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (says(404), 11200),
        (says(304), 11216),
        (says(302, Location="http://[nowhere"), 11216),
        (says(302, Location="mailto:me@app.example"), 11216),
        (says(200, "<Response>"), 12100),
        (says(200, "<Answer/>"), 12102),
        (says(200, "{}", "application/json"), 12300),
        (says(200, " " * 65_537), 11750),
    ],
)
async def test_an_error_is_handed_to_the_fallback_and_kept_with_its_code(
    host: Host, application: Application, answer: Any, code: int
) -> None:
    application.answers["/sms"] = answer
    await host.own_number(
        sms_url=application.url + "/sms", sms_fallback_url=application.url + "/spare"
    )
    async with running(host.inbound()):
        sid = await host.receive("1", "Hi")
        _, spare = await hear(application, 2)

    assert (spare.path, spare.params["ErrorCode"]) == ("/spare", str(code))
    assert [each.facts["code"] for each in await notices(host, sid)] == [code]


async def test_a_conversation_whose_faults_cannot_be_kept_is_had_again(
    host: Host, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = MessagingResponse()
    document.message("one")
    document.message("to nobody", to="front desk")
    application.answers["/sms"] = says(200, str(document))
    await host.own_number(sms_url=application.url + "/sms")
    record_all, tries = host.recorder.record_all, 0

    async def fails_once(events: Sequence[Event]) -> bool:
        nonlocal tries
        tries += 1
        return tries > 1 and await record_all(events)

    monkeypatch.setattr(host.recorder, "record_all", fails_once)
    async with running(host.inbound()):
        sid = await host.receive("1", "Hi")
        await hear(application, 2)

    assert tries == 2
    assert await texts(host) == ["one"]
    assert [each.facts["code"] for each in await notices(host, sid)] == [14101]


async def test_the_password_of_a_url_is_not_kept_with_what_went_wrong(
    host: Host, application: Application
) -> None:
    application.answers["/sms"] = says(404)
    await host.own_number(sms_url=application.url.replace("//", "//user:secret@") + "/sms")
    async with running(host.inbound()):
        sid = await host.receive("1", "Hi")
        await application.hear()

    (notice,) = await notices(host, sid)
    assert notice.facts["url"] == application.url + "/sms"
    assert "secret" not in str(notice.facts)


async def test_an_application_that_only_errs_is_not_told_of_without_end(
    host: Host, application: Application
) -> None:
    application.answers["/sms"] = says(
        200, "<Response>" + "<Say/>" * 30 + "<Redirect>/sms</Redirect></Response>"
    )
    await host.own_number(sms_url=application.url + "/sms")
    async with running(host.inbound()):
        sid = await host.receive("1", "Hi")
        await hear(application, 50)

    assert len(await notices(host, sid)) == NOTICES_MAX
