"""The listener on loopback: a plain server for the hooks, and an HTTP proxy for everything else.

    /.to/api.twilio.com/2010-04-01/...     from a hook, which cannot say otherwise whom it meant
    CONNECT api.twilio.com:443             TLS ends here, with a certificate of our own
    POST https://api.twilio.com/... , http://api.twilio.com/...     from clients that proxy without CONNECT
    CONNECT example.org:443 , GET http://example.org/               passed on untouched

What is meant for the API is asked of the cluster; what is meant for another product of Twilio's is
refused by name. Nothing is ever sent to Twilio.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from trunkline.kernel import Clock, Deadline
from trunkline.redirect import theirs, tunnel
from trunkline.redirect.asked import Asked, Headers, Replied
from trunkline.redirect.cluster import REQUEST_DEADLINE_S, Cluster, NotAnswered
from trunkline.redirect.head import HEAD_BYTES_MAX, BadRequest, Head, read_body, read_head
from trunkline.redirect.tunnel import NoWay, Proxy, Stream

MARK: Final = "/.to/"
"""Begins the paths that hooks ask for; the name that the program meant follows."""

LOOPBACK: Final = "127.0.0.1"
CONNECTIONS_MAX: Final = 1_024
BODY_DEADLINE_S: Final = 30.0
MORE_INFO: Final = "https://www.twilio.com/docs/errors/"

_HOP_BY_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection",
    b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect", b"content-length", b"host",
})  # fmt: skip
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Upstream:
    """The proxies that were there before us, for what is not Twilio's."""

    plain: Proxy | None = None
    secure: Proxy | None = None


@dataclass(slots=True)
class Seen:
    """What came: requests for the API, and those for other products of Twilio's."""

    requests: int = 0
    refused: int = 0


class Forwarder:
    """`serve` one connection after another; `say` is given what the person at the terminal must know,
    and says each sentence once. Without `tls`, no client that insists on https can be served."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        tls: ssl.SSLContext | None,
        upstream: Upstream,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self.seen: Final = Seen()
        self._cluster = cluster
        self._tls = tls
        self._upstream = upstream
        self._clock = clock
        self._say = say
        self._open = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """On a free port of loopback; gives the URL. Behind the block all connections are closed."""
        under_way: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as connections:

            def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = connections.create_task(self.serve(reader, writer))
                under_way.add(task)
                task.add_done_callback(under_way.discard)

            server = await asyncio.start_server(serve, LOOPBACK, 0, limit=HEAD_BYTES_MAX)
            try:
                yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
            finally:
                server.close()
                for task in tuple(under_way):
                    task.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end. Raises nothing."""
        self._open += 1
        try:
            if self._open > CONNECTIONS_MAX:
                _write(
                    writer, _refusal(503, 20503, "Too many connections to the forwarder are open.")
                )
            else:
                await self._requests(reader, writer, origin=None)
        except (OSError, BadRequest):
            pass  # the program hung up, or has been told
        except Exception as failure:  # noqa: BLE001 - a fault of ours must not end the program
            self._say(f"a request was dropped by a fault of the forwarder: {failure!r}")
        finally:
            self._open -= 1
            writer.close()

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, origin: str | None
    ) -> None:
        """One after another. `origin` is whom a tunnel was opened to that ends here."""
        keeps = True
        while keeps:
            try:
                head = await read_head(reader)
                if head is None:
                    return
                if origin is None and head.method == "CONNECT":
                    await self._connect(head, reader, writer)
                    return
                meant = _meant(head, origin)
                if meant is None:
                    await self._elsewhere(head, (reader, writer))
                    return
                keeps = await self._answer(head, *meant, reader, writer)
            except BadRequest as error:
                _write(
                    writer,
                    _refusal(
                        error.status, _code_of(error.status), f"The request is refused: {error}."
                    ),
                )
                raise
            await writer.drain()

    async def _connect(
        self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        host, _, port = head.target.rpartition(":")
        host = host.strip("[]")
        if not host or not port.isdigit():
            raise BadRequest("CONNECT needs HOST:PORT")
        if not theirs.is_theirs(host):
            try:
                other = await tunnel.connect(host, int(port), self._upstream.secure)
            except NoWay as error:
                _write(writer, _no_way(error))
                return
            writer.write(_ESTABLISHED)
            await tunnel.pump((reader, writer), other)
            return
        if self._tls is None:
            raise BadRequest(f"{host} over TLS needs a certificate, and none could be made", 502)
        writer.write(_ESTABLISHED)
        try:
            await writer.start_tls(self._tls)
        except (OSError, ssl.SSLError) as error:
            self._say(
                f"a connection to {host} was given up during its TLS handshake ({error}): if the program "
                "says that it does not trust the certificate, its client reads none of "
                "REQUESTS_CA_BUNDLE, SSL_CERT_FILE, CURL_CA_BUNDLE and NODE_EXTRA_CA_CERTS; give it the "
                "base URL of a host instead"
            )
            return
        await self._requests(reader, writer, origin=theirs.plain(host))

    async def _elsewhere(self, head: Head, program: Stream) -> None:
        if "://" not in head.target:
            raise BadRequest("this is a proxy, and the request names no host", 404)
        try:
            await tunnel.forward_plainly(head, program, self._upstream.plain)
        except NoWay as error:
            _write(program[1], _no_way(error))

    async def _answer(
        self,
        head: Head,
        host: str,
        target: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer one request that is for one of Twilio's names. Whether the connection may go on."""
        if (head.header(b"expect") or b"").lower() == b"100-continue":
            writer.write(_CONTINUE)
        try:
            async with asyncio.timeout(BODY_DEADLINE_S):
                body = await read_body(head, reader)
        except TimeoutError as error:
            raise BadRequest("its body did not arrive in time", 408) from error
        product = theirs.product_of(host)
        if product != theirs.API:
            self.seen.refused += 1
            self._say(
                f"the program asked for {host}, which this cluster does not have: it was answered 501, "
                "and nothing was sent to Twilio"
            )
            answer = _refusal(
                501,
                20501,
                f"The product {product!r} ({host}) is not implemented here; nothing was done.",
            )
            return await _send(writer, head, answer)
        self.seen.requests += 1
        asked = Asked(head.method, target, _passed_on(head.headers, host), body, reader.at_eof)
        answered = await self._cluster.ask(
            asked, deadline=Deadline.after(REQUEST_DEADLINE_S, self._clock)
        )
        if isinstance(answered, NotAnswered):
            self._say(f"no host of the cluster answers: {answered.reason}")
            answered = _unanswered(answered)
        return await _send(writer, head, answered)


def _meant(head: Head, origin: str | None) -> tuple[str, str] | None:
    """Whom the request is for, if that is one of Twilio's names, and the target there."""
    if origin is not None:
        return origin, head.target
    if head.target.startswith(MARK):
        host, slash, rest = head.target.removeprefix(MARK).partition("/")
        if not theirs.is_theirs(host):
            raise BadRequest(f"{MARK} leads to names of {theirs.DOMAIN} only", 404)
        return theirs.plain(host), slash + rest or "/"
    if head.target.startswith(("http://", "https://")):
        try:
            parts = urlsplit(head.target)
        except ValueError as error:
            raise BadRequest("its target is no URL") from error
        if parts.hostname is not None and theirs.is_theirs(parts.hostname):
            query = f"?{parts.query}" if parts.query else ""
            return theirs.plain(parts.hostname), (parts.path or "/") + query
    return None


def _passed_on(headers: Headers, host: str) -> Headers:
    kept = tuple(each for each in headers if each[0].lower() not in _HOP_BY_HOP)
    return (*kept, (b"Host", host.encode("latin-1")))


async def _send(writer: asyncio.StreamWriter, head: Head, answer: Replied) -> bool:
    """Whether another request may follow on the connection."""
    rest = answer.rest
    if rest is None:
        _write(writer, answer, is_head=head.method == "HEAD", keeps=head.keeps_connection)
        return head.keeps_connection
    try:
        length = answer.header(b"content-length")
        keeps = head.keeps_connection and length is not None
        _write(writer, answer, keeps=keeps, length=length)
        async for chunk in rest.chunks():
            writer.write(chunk)
            await writer.drain()
        return keeps
    finally:
        rest.close()


def _write(
    writer: asyncio.StreamWriter,
    answer: Replied,
    *,
    is_head: bool = False,
    keeps: bool = False,
    length: bytes | None = None,
) -> None:
    """The head and as much of the body as there is; without a `length`, that is all of it, or the
    connection's end is the body's."""
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}\r\n".encode("latin-1", "replace")]
    lines += [
        name + b": " + value + b"\r\n"
        for name, value in answer.headers
        if name.lower() not in _HOP_BY_HOP
    ]
    if is_head:
        length = answer.header(b"content-length")
    elif length is None and answer.rest is None and answer.status not in (204, 304):
        length = str(len(answer.body)).encode()
    if length is not None:
        lines.append(b"Content-Length: " + length + b"\r\n")
    lines.append(b"Connection: keep-alive\r\n\r\n" if keeps else b"Connection: close\r\n\r\n")
    writer.write(b"".join(lines) + (b"" if is_head else answer.body))


def _refusal(status: int, code: int, message: str, more: Headers = ()) -> Replied:
    """In the shape in which clients of the API read what went wrong."""
    content = {
        "code": code, "message": message, "more_info": f"{MORE_INFO}{code}", "status": status,
    }  # fmt: skip
    headers = ((b"Content-Type", b"application/json"), *more)
    return Replied(status, "Refused by trunkline run", headers, json.dumps(content).encode())


def _unanswered(why: NotAnswered) -> Replied:
    then = (
        "Nothing was done; try again."
        if why.is_unsent
        else "It may have been done or not: look before you repeat it."
    )
    reason = f"No host of the cluster answered in time ({why.reason}). {then}"
    return _refusal(503, 20503, reason, ((b"Retry-After", b"1"),))


def _no_way(error: NoWay) -> Replied:
    text = f"trunkline run: {error}\n".encode()
    return Replied(502, "Bad Gateway", ((b"Content-Type", b"text/plain; charset=utf-8"),), text)


def _code_of(status: int) -> int:
    return {404: 20404, 408: 20408, 413: 20413}.get(status, 20001)
