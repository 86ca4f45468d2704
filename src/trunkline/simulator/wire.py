"""The wire's three addresses, served by the connection itself: no task and no application a request.

Everything else that comes over a connection goes to the application, as uvicorn would have it. The
wire takes one request at a time: who sends another before the answer is hung up on.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar, Final, cast
from urllib.parse import parse_qsl

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from trunkline.protocols.simulated import (
    ACKNOWLEDGEMENTS_PATH,
    DELIVERIES_PATH,
    ITEMS_MAX,
    SUBMISSIONS_PATH,
    TRIES_MAX,
    WIRE_BODY_BYTES_MAX,
    Item,
    WireError,
    decode_item_ids,
    decode_submissions,
    encode_items,
)
from trunkline.simulator.bodies import BadRequest, bind_name, encode, told, wait_s, whole_number
from trunkline.simulator.exchange import Exchange, Poll

_PREFIX: Final = b"/wire/"
_JSON: Final = b"application/json"
_LINES: Final = b"application/x-ndjson"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Request:
    """One request of the wire, from its head to the last byte of its answer."""

    __slots__ = ("_chunks", "_on_answered", "_transport", "is_streaming", "poll", "size")

    def __init__(self, transport: asyncio.Transport, on_answered: Callable[[], None]) -> None:
        self.poll: Poll | None = None
        self.size = 0
        self.is_streaming = False
        self._transport = transport
        self._on_answered = on_answered
        self._chunks: list[bytes] = []

    def add(self, chunk: bytes) -> None:
        """What comes over the bound is read, because the answer would be lost otherwise, and
        dropped."""
        self.size += len(chunk)
        if self.size <= WIRE_BODY_BYTES_MAX:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def body(self) -> bytes:
        """Raises `BadRequest` if it was over the bound."""
        if self.size > WIRE_BODY_BYTES_MAX:
            raise BadRequest(f"the body is over {WIRE_BODY_BYTES_MAX} bytes", status=413)
        return b"".join(self._chunks)

    def answer(self, status: int, kind: bytes, content: bytes) -> None:
        """The whole answer."""
        head = _head(status, kind, b"content-length: %d" % len(content))
        self._write(head + content)
        self._on_answered()

    def stream(self, lines: bytes, is_last: bool) -> None:
        """A part of the answer; the only one is sent as a whole."""
        if is_last and not self.is_streaming:
            self.answer(200, _LINES, lines)
            return
        head = b"" if self.is_streaming else _head(200, _LINES, b"transfer-encoding: chunked")
        self.is_streaming = True
        chunk = b"%x\r\n%b\r\n" % (len(lines), lines) if lines else b""
        self._write(head + chunk + (b"0\r\n\r\n" if is_last else b""))
        if is_last:
            self._on_answered()

    def _write(self, content: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(content)


class WireConnection(HttpToolsProtocol):
    """A connection of uvicorn's that answers the wire's requests by itself."""

    exchange: ClassVar[Exchange]
    _request: _Request | None = None
    _is_ending = False

    def on_headers_complete(self) -> None:
        if self._request is not None:
            raise BadRequest("one request at a time")  # the parser's caller hangs up
        if not self.url.startswith(_PREFIX):
            super().on_headers_complete()
            return
        other = cast("RequestResponseCycle | None", self.cycle)
        if other is not None and not other.response_complete:
            raise BadRequest("one request at a time")
        self._request = _Request(self.transport, self._on_answered)
        if self.expect_100_continue:
            self.transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        if self._request is None:
            super().on_body(body)
        else:
            self._request.add(body)

    def on_message_complete(self) -> None:
        request = self._request
        if request is None:
            super().on_message_complete()
            return
        if not self.parser.should_keep_alive():
            self._is_ending = True
        path, _, query = self.url.decode("latin-1").partition("?")
        try:
            self._serve(request, path, dict(parse_qsl(query)))
        except BadRequest as error:
            request.answer(error.status, _JSON, encode(told(error)))

    def shutdown(self) -> None:
        if self._request is None:
            super().shutdown()
        else:
            self._is_ending = True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._request is not None and self._request.poll is not None:
            self.exchange.hang_up(self._request.poll)
        super().connection_lost(exc)

    def _on_answered(self) -> None:
        self._request = None
        if self._is_ending:
            self.transport.close()
        else:
            self.on_response_complete()

    def _serve(self, request: _Request, path: str, parameters: Mapping[str, str]) -> None:
        """Raises `BadRequest` before anything is taken."""
        if self.parser.get_method() != b"POST":
            raise BadRequest(f"Method Not Allowed: {path}", status=405)
        try:
            if path == SUBMISSIONS_PATH:
                self._submissions(request, parameters)
            elif path == DELIVERIES_PATH:
                self._deliveries(request, parameters)
            elif path == ACKNOWLEDGEMENTS_PATH:
                self._acknowledgements(request)
            else:
                raise BadRequest(f"Not Found: {path}", status=404)
        except WireError as error:
            raise BadRequest(str(error)) from error

    def _submissions(self, request: _Request, parameters: Mapping[str, str]) -> None:
        body, bind = request.body(), bind_name(parameters)
        submissions = decode_submissions(body)
        if self.exchange.is_full:
            raise BadRequest("the simulator's disk is behind: nothing was taken", status=503)
        self.exchange.submit(bind, submissions, request.stream)

    def _deliveries(self, request: _Request, parameters: Mapping[str, str]) -> None:
        items_max = whole_number(parameters, "max", ITEMS_MAX, ITEMS_MAX)
        attempt = whole_number(parameters, "try", 1, TRIES_MAX)
        if self.exchange.turns_away(bind_name(parameters), attempt):
            raise BadRequest("nobody is given anything at the moment", status=503)

        def give(items: Sequence[Item]) -> None:
            request.answer(200, _JSON, encode_items(items))

        poll = self.exchange.poll(bind_name(parameters), items_max, wait_s(parameters), give)
        request.poll = poll

    def _acknowledgements(self, request: _Request) -> None:
        item_ids = decode_item_ids(request.body())
        self.exchange.acknowledge(item_ids, lambda: request.answer(200, _JSON, b"{}"))


def connection_class(exchange: Exchange) -> type[WireConnection]:
    """What uvicorn makes for each connection."""
    return type("WireConnection", (WireConnection,), {"exchange": exchange})


def _head(status: int, kind: bytes, framing: bytes) -> bytes:
    phrase = HTTPStatus(status).phrase.encode()
    return b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\n%b\r\n\r\n" % (status, phrase, kind, framing)
