"""What the hosts of a cluster ask each other, on the API's listener, under `/internal/`.

Who asks shows the token that the cluster's hosts know each other by, and names the cluster. A host alone has no
such paths: what is asked for there is answered by the API, as any unknown path.

    GET /internal/snapshot                 200 an offer; 202 being made; 503 none
    GET /internal/snapshot/{name}          206, with `Range: bytes=first-last`
    GET /internal/digest?prefix&since&until    200 a hash over finished messages
    GET /internal/records?prefix&since&until   200 the messages themselves, as MessagePack
    GET /internal/blob/{sha256}            200 the bytes; 404 they are not here
    PUT /internal/blob/{sha256}            200 they are here now, flushed
"""

import asyncio
import hmac
import os
import re
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import parse_qs

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from trunkline.host.internal_blobs import BLOBS, HostBlobs
from trunkline.host.peers import CLUSTER_HEADER, PREFIX
from trunkline.kernel import DEADLINE_HEADER, Clock, Deadline
from trunkline.replica.digest import digest_of, records_of
from trunkline.replica.offers import Offers
from trunkline.replica.peers import (
    PART_BYTES_MAX,
    RECORDS_AT_ONCE_MAX,
    NotGiven,
    Part,
    Preparing,
)

ANSWERS_MAX: Final = 8
"""Under way at once: what hosts ask each other must never crowd out what customers ask."""

DEADLINE_S: Final = 10.0
PIECE_BYTES: Final = 256 * 1024
"""Read and sent at once: a tenth of a millisecond of the loop."""

_RANGE: Final = re.compile(rb"bytes=([0-9]{1,15})-([0-9]{1,15})\Z")
_PREFIX_OF_DIGITS: Final = re.compile(r"[0-9a-f]{1,32}\Z")
_ENCODE_RECORDS: Final = msgspec.msgpack.Encoder().encode

Headers = Mapping[bytes, bytes]

Result = TypeVar("Result")


class _Refused(Exception):
    """The request is answered with this status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is sent of a file: from `first` to before `end`."""

    path: Path
    first: int
    end: int
    size: int


@dataclass(frozen=True, slots=True)
class _Whole:
    status: int
    body: bytes
    content_type: bytes = b"application/json"


class InternalApi:
    """An ASGI application for the paths that begin with `PREFIX`, in front of the one for all others.
    `close` ends its threads."""

    def __init__(
        self,
        behind: ASGIApp,
        copy: Path,
        offers: Offers,
        lag_ms: Callable[[], float],
        blobs: HostBlobs,
        *,
        token: str,
        cluster: str,
        clock: Clock,
    ) -> None:
        self._behind = behind
        self._copy = copy
        self._offers = offers
        self._lag_ms = lag_ms
        self._blobs = blobs
        self._authorization = f"Bearer {token}".encode()
        self._cluster = cluster.encode()
        self._clock = clock
        self._under_way = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="internal")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._behind(scope, receive, send)
            return
        if self._under_way >= ANSWERS_MAX:
            await _send_whole(send, _refusal(503, "too many questions from hosts at once"))
            return
        self._under_way += 1
        try:
            await self._answer(scope, receive, send)
        finally:
            self._under_way -= 1

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        told = headers.get(DEADLINE_HEADER.lower().encode(), b"").decode("latin-1")
        deadline = Deadline.from_header(told, self._clock, cap_s=DEADLINE_S)
        answer: _Whole | _Piece
        try:
            self._check_asker(headers)
            if scope["path"].startswith(BLOBS):
                status, body = await self._blobs.answer(scope, receive, deadline)
                answer = _Whole(status, body, b"application/octet-stream")
            else:
                answer = await self._answered(scope, headers)
        except _Refused as refused:
            answer = _refusal(refused.status, str(refused))
        except (sqlite3.Error, OSError) as failure:
            answer = _refusal(503, f"the copy cannot be read just now: {failure}")
        if isinstance(answer, _Piece):
            await self._send_piece(send, answer, deadline)
        else:
            await _send_whole(send, answer)

    def _check_asker(self, headers: Headers) -> None:
        given = headers.get(b"authorization", b"")
        if not hmac.compare_digest(given, self._authorization):
            raise _Refused(401, "the token is not that of this cluster: compare the secrets")
        if headers.get(CLUSTER_HEADER.lower().encode(), b"") != self._cluster:
            raise _Refused(409, "this host belongs to another cluster")

    async def _answered(self, scope: Scope, headers: Headers) -> _Whole | _Piece:
        if scope["method"] != "GET":
            raise _Refused(405, "only GET is known here")
        what, _, name = str(scope["path"]).removeprefix(PREFIX).partition("/")
        match (what, name):
            case ("snapshot", ""):
                return self._offer()
            case ("snapshot", _):
                return await self._in_thread(lambda: self._piece(name, headers.get(b"range", b"")))
            case ("digest", ""):
                return await self._digest(_part(scope["query_string"]))
            case ("records", ""):
                part = _part(scope["query_string"])
                found = await self._in_thread(
                    lambda: records_of(self._copy, part, items_max=RECORDS_AT_ONCE_MAX)
                )
                return _Whole(200, _ENCODE_RECORDS(found), b"application/msgpack")
            case _:
                raise _Refused(404, "hosts have no such question")

    def _offer(self) -> _Whole:
        offer = self._offers.current()
        if isinstance(offer, NotGiven):
            raise _Refused(503, offer.reason)
        if isinstance(offer, Preparing):
            return _Whole(202, b'{"status": "preparing"}')
        return _Whole(200, msgspec.json.encode(offer))

    def _piece(self, name: str, asked: bytes) -> _Piece:
        path = self._offers.path_of(name)
        size = _size(path)
        if path is None or size is None:
            raise _Refused(404, "that snapshot is not offered any more")
        found = _RANGE.match(asked)
        if found is None:
            raise _Refused(400, "a snapshot is given in ranges, like 'Range: bytes=0-1023'")
        first, last = int(found[1]), int(found[2])
        if not first <= last < size or last - first >= PART_BYTES_MAX:
            raise _Refused(416, f"it has {size} bytes, of which {PART_BYTES_MAX} are given at once")
        return _Piece(path, first, last + 1, size)

    async def _digest(self, part: Part) -> _Whole:
        found = await self._in_thread(lambda: digest_of(self._copy, part))
        lag_ms = self._lag_ms()
        told = msgspec.structs.replace(found, lag_ms=lag_ms if isfinite(lag_ms) else None)
        return _Whole(200, msgspec.json.encode(told))

    async def _send_piece(self, send: Send, piece: _Piece, deadline: Deadline) -> None:
        """In small steps; when nobody waits for it any more, it breaks off."""
        whose = f"bytes {piece.first}-{piece.end - 1}/{piece.size}".encode()
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", str(piece.end - piece.first).encode()),
            (b"content-range", whose),
        ]
        descriptor = await asyncio.to_thread(os.open, piece.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await send({"type": "http.response.start", "status": 206, "headers": headers})
            at = piece.first
            while at < piece.end and not deadline.has_passed():
                wanted = min(PIECE_BYTES, piece.end - at)
                body = await asyncio.to_thread(os.pread, descriptor, wanted, at)
                if not body:
                    break
                at += len(body)
                await send(
                    {"type": "http.response.body", "body": body, "more_body": at < piece.end}
                )
        finally:
            os.close(descriptor)

    async def _in_thread(self, function: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


def _part(query: bytes) -> Part:
    fields = parse_qs(query.decode("latin-1"))
    try:
        part = Part(fields["prefix"][0], float(fields["since"][0]), float(fields["until"][0]))
    except (KeyError, ValueError) as error:
        raise _Refused(400, "a part has 'prefix', 'since' and 'until'") from error
    if not _PREFIX_OF_DIGITS.match(part.prefix):
        raise _Refused(400, "a prefix is one or more hexadecimal digits")
    return part


def _size(path: Path | None) -> int | None:
    try:
        return None if path is None else path.stat().st_size
    except FileNotFoundError:
        return None


def _refusal(status: int, reason: str) -> _Whole:
    return _Whole(status, msgspec.json.encode({"status": status, "message": reason}))


async def _send_whole(send: Send, answer: _Whole) -> None:
    headers = [
        (b"content-type", answer.content_type),
        (b"content-length", str(len(answer.body)).encode()),
    ]
    if answer.status in (202, 503):
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
