"""The customer's application: a small HTTP server that writes down all it is told before it answers.

It checks signatures by the published algorithm, in a few lines of its own: a judge that borrowed the
code under test would find it right.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from trunkline.drills.observer.journal import Journal
from trunkline.drills.observer.records import Callback
from trunkline.kernel import Clock

REQUEST_BYTES_MAX: Final = 256 * 1024
BACKLOG_CONNECTIONS_MAX: Final = 4_096
STATUS_PATH: Final = "/status"
TEXT_PATH: Final = "/text"
_REASONS: Final[Mapping[int, str]] = {200: "OK", 503: "Service Unavailable"}


class Receiver:
    """`choose_answer` says how each request is answered, by its HTTP status; 200 unless a fault says
    otherwise."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._auth_token = ""
        self.base_url = ""
        self.choose_answer: Callable[[], int] = lambda: 200
        self.told: Final[dict[str, set[str]]] = defaultdict(set)
        """By SID: the statuses that were told and answered well."""
        self.texts: Final[set[str]] = set()
        self.requests = 0

    @contextlib.asynccontextmanager
    async def serve(self, address: str) -> AsyncIterator[None]:
        """Listen at a free port of `address` until the block is left."""
        server = await asyncio.start_server(
            self._serve_one, address, 0, limit=REQUEST_BYTES_MAX, backlog=BACKLOG_CONNECTIONS_MAX
        )
        self.base_url = f"http://{address}:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            server.close()

    def expect_signatures_of(self, auth_token: str) -> None:
        """Whose requests they are: known once the cluster is born."""
        self._auth_token = auth_token

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer_next(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # its sender died, or was cut off
        finally:
            writer.close()

    async def _answer_next(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        answer = self._take(path, headers, body.decode())
        reply = b"<Response/>" if path == TEXT_PATH else b""
        writer.write(
            f"HTTP/1.1 {answer} {_REASONS.get(answer, 'Other')}\r\nContent-Type: text/xml\r\n"
            f"Content-Length: {len(reply)}\r\n\r\n".encode("ascii")
            + reply
        )
        await writer.drain()
        return True

    def _take(self, path: str, headers: Mapping[str, str], body: str) -> int:
        form = dict(parse_qsl(body, keep_blank_values=True))
        answer = self.choose_answer()
        is_text = urlsplit(path).path == TEXT_PATH
        callback = Callback(
            at=self._clock.monotonic(),
            sid=form.get("MessageSid", ""),
            status=form.get("SmsStatus", ""),
            token=headers.get("i-twilio-idempotency-token", ""),
            is_signed=hmac.compare_digest(
                headers.get("x-twilio-signature", ""),
                signature(self._auth_token, self.base_url + path, form),
            ),
            answer=answer,
            sequence=int(headers.get("x-trunkline-sequence", "0")),
            text=form.get("Body", "") if is_text else "",
        )
        self._journal.write(callback)
        self.requests += 1
        if answer == 200:
            self.told[callback.sid].add(callback.status)
            if is_text:
                self.texts.add(callback.text)
        return answer


def signature(auth_token: str, url: str, form: Mapping[str, str]) -> str:
    """The published algorithm for a form: HMAC-SHA1 over the URL and the sorted pairs."""
    signed = url + "".join(name + form[name] for name in sorted(form))
    digest = hmac.new(auth_token.encode(), signed.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()
