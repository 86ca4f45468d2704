"""What goes wrong on the way to an application, by Twilio's codes."""

import ssl
from http.cookies import SimpleCookie

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from trunkline.webhooks.client import unreachable
from trunkline.webhooks.cookies import COOKIE_BYTES_MAX, COOKIES_MAX, Cookies

pytestmark = pytest.mark.anyio

KEY = ConnectionKey("app.example", 443, True, True, None, None, None)
HOME = URL("https://app.example/in/sms")


def refused_certificate(code: int) -> aiohttp.ClientConnectorCertificateError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return aiohttp.ClientConnectorCertificateError(KEY, error)


@pytest.mark.parametrize(
    ("error", "code", "is_unsent"),
    [
        (refused_certificate(62), 11235, True),
        (refused_certificate(64), 11235, True),
        (refused_certificate(10), 11236, True),
        (refused_certificate(9), 11236, True),
        (refused_certificate(18), 11237, True),
        (aiohttp.ClientConnectorSSLError(KEY, OSError("handshake")), 11220, True),
        (aiohttp.ClientConnectorDNSError(KEY, OSError("no such name")), 11210, True),
        (aiohttp.ClientConnectorError(KEY, OSError("refused")), 11205, True),
        (aiohttp.ServerDisconnectedError(), 11206, False),
        (aiohttp.ClientPayloadError("not all of it came"), 11206, False),
        (aiohttp.ClientOSError("reset"), 11206, False),
        (aiohttp.InvalidURL("front desk"), 11100, True),
        (TimeoutError(), 11200, False),
    ],
)
def test_every_failure_has_its_code(error: Exception, code: int, is_unsent: bool) -> None:
    answer = unreachable(error)

    assert (answer.error_code, answer.is_unsent) == (code, is_unsent)


def set_by(*lines: str) -> SimpleCookie:
    cookies: SimpleCookie = SimpleCookie()
    for line in lines:
        cookies.load(line)
    return cookies


async def test_a_cookie_goes_back_to_its_host_and_path_and_to_nobody_else() -> None:
    kept = Cookies()

    kept.take(set_by("session=1; Path=/in", "all=2; Path=/"), HOME)

    assert kept.header("https://app.example/in/next") == {"Cookie": "all=2; session=1"}
    assert kept.header("https://app.example/elsewhere") == {"Cookie": "all=2"}
    assert kept.header("https://other.example/in/next") == {}


async def test_a_cookie_that_is_taken_back_is_gone() -> None:
    kept = Cookies()
    kept.take(set_by("session=1; Path=/"), HOME)

    kept.take(set_by("session=; Path=/; Max-Age=0"), HOME)

    assert kept.header(str(HOME)) == {}


async def test_cookies_are_few_and_short() -> None:
    kept = Cookies()

    kept.take(set_by(*(f"c{n}=1; Path=/" for n in range(2 * COOKIES_MAX))), HOME)
    kept.take(set_by("c1=2; Path=/"), HOME)
    kept.take(set_by("c2=" + "x" * COOKIE_BYTES_MAX), HOME)

    sent = kept.header(str(HOME))["Cookie"].split("; ")
    assert len(sent) == COOKIES_MAX
    assert {"c1=2", "c2=1"} <= set(sent)
