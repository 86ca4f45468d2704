"""The forwarder on real sockets: whom it answers itself, whom it asks, and what it passes on untouched."""

import asyncio
import random
import shutil
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from trunkline.kernel import SystemClock
from trunkline.redirect import authority
from trunkline.redirect.asked import Asked, Replied, Rest
from trunkline.redirect.cluster import Cluster
from trunkline.redirect.forwarder import Forwarder, Upstream
from trunkline.redirect.head import BODY_BYTES_MAX
from trunkline.redirect.tunnel import Proxy

pytestmark = [pytest.mark.system, pytest.mark.anyio]

READ_MAX_S = 10.0
MESSAGES = "/2010-04-01/Accounts/AC1/Messages.json"
FORM = b"Content-Length: 6\r\n\r\nBody=x"


CREATED = Replied(201, "Created", ((b"X-From", b"host"),), b'{"sid": "SM1"}')


@dataclass
class FakeWire:
    """One host, which answers everything with what it is told."""

    reply: Replied = CREATED
    asked: list[Asked] = field(default_factory=list)

    async def send(self, host: str, asked: Asked, *, bound_s: float) -> Replied:
        del host, bound_s
        self.asked.append(asked)
        return self.reply


@dataclass
class Standing:
    """A forwarder that listens, the host behind it, and what it said."""

    port: int
    wire: FakeWire
    said: list[str]

    async def exchange(self, request: bytes) -> bytes:
        """All that comes back until the connection's end."""
        async with asyncio.timeout(READ_MAX_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(request)
            answer = await reader.read(-1)
            writer.close()
        return answer


@asynccontextmanager
async def standing(
    wire: FakeWire | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    upstream: Upstream | None = None,
) -> AsyncIterator[Standing]:
    host = wire or FakeWire()
    clock, said = SystemClock(), list[str]()
    forwarder = Forwarder(
        Cluster(["http://host"], host, clock=clock, rng=random.Random(7)),
        tls=tls,
        upstream=upstream or Upstream(),
        clock=clock,
        say=said.append,
    )
    async with forwarder.listening() as url:
        yield Standing(int(url.rpartition(":")[2]), host, said)


@asynccontextmanager
async def other(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Somebody else's server: its port, and the first bytes of each connection."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(65_536))
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


async def test_a_hook_is_answered_by_the_cluster() -> None:
    async with standing() as here:
        answer = await here.exchange(
            f"POST /.to/api.twilio.com{MESSAGES}?a=b HTTP/1.1\r\nConnection: close\r\n"
            "Authorization: Basic eA==\r\nProxy-Connection: x\r\n".encode()
            + FORM
        )

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 201 Created\r\nX-From: host\r\n")
    assert body == b'{"sid": "SM1"}'
    (asked,) = here.wire.asked
    assert (asked.method, asked.target, asked.body) == ("POST", f"{MESSAGES}?a=b", b"Body=x")
    headers = dict(asked.headers)
    assert headers[b"Authorization"] == b"Basic eA=="
    assert headers[b"Host"] == b"api.twilio.com"
    assert headers.keys() >= {b"Idempotency-Key", b"X-Deadline-Ms"}
    assert b"Proxy-Connection" not in headers


async def test_many_requests_go_over_one_connection() -> None:
    one = f"POST /.to/api.twilio.com{MESSAGES} HTTP/1.1\r\n".encode() + FORM
    last = f"GET /.to/api.twilio.com{MESSAGES} HTTP/1.1\r\nConnection: close\r\n\r\n".encode()
    async with standing() as here:
        answer = await here.exchange(one * 3 + last)

    assert answer.count(b"HTTP/1.1 201") == 4
    assert len({dict(each.headers).get(b"Idempotency-Key") for each in here.wire.asked}) == 4


async def test_a_client_that_proxies_without_connect_is_answered_too() -> None:
    async with standing() as here:
        for scheme in ("http", "https"):
            answer = await here.exchange(
                f"GET {scheme}://api.twilio.com{MESSAGES} HTTP/1.1\r\nConnection: close\r\n\r\n".encode()
            )
            assert answer.startswith(b"HTTP/1.1 201")

    assert [each.target for each in here.wire.asked] == [MESSAGES] * 2


async def test_another_product_is_refused_by_name_and_asked_of_nobody() -> None:
    async with standing() as here:
        answer = await here.exchange(
            b"POST /.to/verify.twilio.com/v2/Services HTTP/1.1\r\nConnection: close\r\n" + FORM
        )

    assert answer.startswith(b"HTTP/1.1 501 ")
    assert b'"code": 20501' in answer
    assert b"verify.twilio.com" in answer
    assert here.wire.asked == []
    assert len(here.said) == 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /.to/example.org/ HTTP/1.1\r\n\r\n", b"404"),
        (b"NONSENSE\r\n\r\n", b"400"),
        (b"GET http://[::1/ HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT api.twilio.com HTTP/1.1\r\n\r\n", b"400"),
        (
            b"POST /.to/api.twilio.com/ HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
            % (BODY_BYTES_MAX + 1),
            b"413",
        ),
    ],
)
async def test_what_is_no_request_for_us_is_refused(request_: bytes, status: bytes) -> None:
    async with standing() as here:
        answer = await here.exchange(request_)

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert here.wire.asked == []


async def test_a_client_that_waits_for_leave_gets_it() -> None:
    async with standing() as here:
        answer = await here.exchange(
            f"POST /.to/api.twilio.com{MESSAGES} HTTP/1.1\r\nConnection: close\r\n"
            "Expect: 100-continue\r\n".encode()
            + FORM
        )

    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 ")


async def test_a_long_answer_streams_and_lets_go_of_its_host() -> None:
    let_go: list[bool] = []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    rest = Rest(chunks, lambda: let_go.append(True))
    long = Replied(200, "OK", ((b"Content-Length", b"1000003"),), b"abc", rest)
    async with standing(FakeWire(long)) as here:
        answer = await here.exchange(
            b"GET /.to/api.twilio.com/ HTTP/1.1\r\nConnection: close\r\n\r\n"
        )

    assert answer.partition(b"\r\n\r\n")[2] == b"abc" + b"x" * 1_000_000
    assert let_go == [True]


async def test_what_is_not_twilios_is_tunnelled_untouched() -> None:
    async with other(b"\x00other bytes") as (port, seen), standing() as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
        established = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x16\x03any bytes")
        answer = await reader.read(-1)
        writer.close()

    assert established == b"HTTP/1.1 200 Connection established\r\n\r\n"
    assert (seen, answer) == ([b"\x16\x03any bytes"], b"\x00other bytes")
    assert here.wire.asked == []


async def test_a_plain_request_to_somebody_else_is_passed_on() -> None:
    async with other(b"HTTP/1.1 200 OK\r\n\r\nhi") as (port, seen), standing() as here:
        answer = await here.exchange(
            f"GET http://127.0.0.1:{port}/a?b HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Proxy-Connection: keep-alive\r\nX: y\r\n\r\n".encode()
        )

    assert answer == b"HTTP/1.1 200 OK\r\n\r\nhi"
    assert seen == [
        f"GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX: y\r\nConnection: close\r\n\r\n".encode()
    ]


async def test_who_cannot_be_reached_is_named() -> None:
    async with standing() as here:
        connect = await here.exchange(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n")
        plain = await here.exchange(b"GET http://127.0.0.1:1/ HTTP/1.1\r\n\r\n")

    assert connect.startswith(b"HTTP/1.1 502")
    assert plain.startswith(b"HTTP/1.1 502")
    assert b"127.0.0.1:1" in connect
    assert b"127.0.0.1:1" in plain


async def test_a_proxy_that_was_there_before_is_gone_through() -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\nfrom the proxy"
    async with other(answer) as (port, seen):
        proxy = Proxy.of(f"http://user:pass@127.0.0.1:{port}")
        async with standing(upstream=Upstream(plain=proxy, secure=proxy)) as here:
            plain = await here.exchange(b"GET http://example.org/ HTTP/1.1\r\n\r\n")
            secure = await here.exchange(b"CONNECT example.org:443 HTTP/1.1\r\n\r\n")

    assert plain == answer
    assert secure == b"HTTP/1.1 200 Connection established\r\n\r\nfrom the proxy"
    told = b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"
    assert seen[0].startswith(b"GET http://example.org/ HTTP/1.1\r\n" + told)
    assert seen[1].startswith(b"CONNECT example.org:443 HTTP/1.1\r\n")
    assert told in seen[1]


@pytest.fixture
async def trusted(tmp_path: Path) -> authority.Authority:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl: install it")
    return await authority.found(tmp_path, regions=["jp1"], edges=["osaka"])


async def over_tls(port: int, name: str, client: ssl.SSLContext) -> bytes:
    """One request through a tunnel that ends at the forwarder."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"CONNECT {name}:443 HTTP/1.1\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        await writer.start_tls(client, server_hostname=name)
        writer.write(f"POST {MESSAGES} HTTP/1.1\r\nConnection: close\r\n".encode() + FORM)
        return await reader.read(-1)
    finally:
        writer.close()


async def test_tls_to_twilios_names_ends_at_the_forwarder(trusted: authority.Authority) -> None:
    client = ssl.create_default_context(cadata=trusted.certificate)
    async with standing(tls=trusted.tls) as here, asyncio.timeout(READ_MAX_S):
        for name in ("api.twilio.com", "api.dublin.ie1.twilio.com", "api.osaka.jp1.twilio.com"):
            assert (await over_tls(here.port, name, client)).startswith(b"HTTP/1.1 201")

    assert [dict(each.headers)[b"Host"] for each in here.wire.asked] == [
        b"api.twilio.com",
        b"api.dublin.ie1.twilio.com",
        b"api.osaka.jp1.twilio.com",
    ]


async def test_a_program_that_trusts_nobody_new_is_told_why_it_fails(
    trusted: authority.Authority,
) -> None:
    async with standing(tls=trusted.tls) as here, asyncio.timeout(READ_MAX_S):
        with pytest.raises(ssl.SSLError):
            await over_tls(here.port, "api.twilio.com", ssl.create_default_context())
        while not here.said:
            await asyncio.sleep(0)

    assert "reads none of REQUESTS_CA_BUNDLE" in here.said[0]
    assert here.wire.asked == []


async def test_the_authority_vouches_for_twilios_names_only_and_leaves_no_key(
    trusted: authority.Authority, tmp_path: Path
) -> None:
    done = await asyncio.create_subprocess_exec(
        *("openssl", "x509", "-in", str(tmp_path / "authority.pem"), "-noout", "-text"),
        stdout=asyncio.subprocess.PIPE,
    )
    shown = (await done.communicate())[0].decode()
    words = " ".join(shown.split())

    assert "Name Constraints: critical Permitted: DNS:twilio.com" in words
    assert "CA:TRUE, pathlen:0" in words
    assert not [path.name for path in tmp_path.iterdir() if path.suffix == ".key"]
    for path in tmp_path.iterdir():
        assert "PRIVATE KEY" not in path.read_text()
        assert stat.S_ISREG(path.stat().st_mode)
