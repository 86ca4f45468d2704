"""A lean HTTP/1.1 load generator: keep-alive connections, closed loop or at a fixed rate.

It costs a few microseconds a request, because it shares the machine with what it measures.
"""

import asyncio
import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlsplit

ANSWER_MAX_S: Final = 30.0


@dataclass(slots=True)
class Sample:
    """What the load saw: one latency in seconds for each 201, and a count of everything else."""

    latencies_s: list[float] = field(default_factory=list)
    refused: dict[int, int] = field(default_factory=dict)
    started_at: float = 0.0
    ended_at: float = 0.0

    @property
    def accepted(self) -> int:
        return len(self.latencies_s)

    @property
    def seconds(self) -> float:
        return self.ended_at - self.started_at

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return (
            ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000.0 if ordered else 0.0
        )


class _Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def request(self, payload: bytes) -> "asyncio.Future[int]":
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(payload)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._received[:head_end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._received) < head_end + 4 + length:
            return
        self._received = b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server hung up"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Load:
    """Creates messages through one host's API."""

    def __init__(self, facts: dict[str, str], *, callback: str = "") -> None:
        self._address = urlsplit(facts["base_url"])
        self._account = facts["account_sid"]
        self._sender = quote(facts["phone_number"])
        secret = f"{facts['account_sid']}:{facts['auth_token']}".encode()
        self._authorization = base64.b64encode(secret).decode()
        self._callback = f"&StatusCallback={quote(callback, safe='')}" if callback else ""

    async def closed_loop(self, *, connections: int, seconds: float, run: str) -> Sample:
        """As fast as it goes, each connection sending its next request upon the last answer."""
        sample = Sample(started_at=time.perf_counter())
        until = sample.started_at + seconds
        bodies = self._requests(run)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(
                    self._send_until(bodies, sample, lambda: time.perf_counter() < until)
                )
        sample.ended_at = time.perf_counter()
        return sample

    async def fixed_rate(
        self, *, rate: float, seconds: float, connections: int, run: str
    ) -> Sample:
        """Open loop: each request is due at its own time, and its latency counts from then."""
        sample = Sample(started_at=time.perf_counter())
        due: asyncio.Queue[float | None] = asyncio.Queue()
        bodies = self._requests(run)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(self._send_due(due, bodies, sample))
            for number in range(int(rate * seconds)):
                at = sample.started_at + number / rate
                await asyncio.sleep(max(0.0, at - time.perf_counter()))
                due.put_nowait(at)
            for _ in range(connections):
                due.put_nowait(None)
        sample.ended_at = time.perf_counter()
        return sample

    async def _send_until(
        self, bodies: Iterator[bytes], sample: Sample, is_going_on: Callable[[], bool]
    ) -> None:
        connection = await self._connect()
        while is_going_on():
            await _send(connection, next(bodies), sample, since=time.perf_counter())
        connection.close()

    async def _send_due(
        self, due: "asyncio.Queue[float | None]", bodies: Iterator[bytes], sample: Sample
    ) -> None:
        connection = await self._connect()
        while (at := await due.get()) is not None:
            await _send(connection, next(bodies), sample, since=at)
        connection.close()

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            _Connection, self._address.hostname or "", self._address.port or 80
        )
        return connection

    def _requests(self, run: str) -> Iterator[bytes]:
        number = 0
        while True:
            number += 1
            recipient = quote(f"+1202556{number % 10_000:04d}")
            form = f"To={recipient}&From={self._sender}&Body={run}-{number}{self._callback}"
            yield (
                f"POST /2010-04-01/Accounts/{self._account}/Messages.json HTTP/1.1\r\n"
                f"Host: {self._address.netloc}\r\nAuthorization: Basic {self._authorization}\r\n"
                "Content-Type: application/x-www-form-urlencoded\r\n"
                f"Content-Length: {len(form)}\r\n\r\n{form}"
            ).encode()


async def _send(connection: _Connection, payload: bytes, sample: Sample, *, since: float) -> None:
    async with asyncio.timeout(ANSWER_MAX_S):
        status = await connection.request(payload)
    if status == 201:
        sample.latencies_s.append(time.perf_counter() - since)
    else:
        sample.refused[status] = sample.refused.get(status, 0) + 1
