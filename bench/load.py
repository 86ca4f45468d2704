"""A lean HTTP/1.1 load generator: keep-alive connections, closed loop or at a fixed rate.

It shares the machine with what it measures, so it is made of callbacks alone: no task, no future and
no timer for a request. Each connection has one request under way at a time, each request is another
message, and each answer is read to its end.
"""

import asyncio
import base64
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

ANSWER_MAX_S: Final = 30.0
WATCH_EVERY_S: Final = 1.0
"""How often it is looked whether a request waits for too long."""

Witness = Callable[[int, float, float, bytes], None]
"""Is told of each answer: its status, when its request was due and when it came (seconds of
`time.perf_counter`), and all its bytes."""

_LENGTH: Final = b"content-length: "


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

    __slots__ = ("_on_answer", "_on_lost", "_received", "_since", "_transport", "_write", "answer")

    def __init__(
        self,
        on_answer: Callable[["_Connection", int, float], None],
        on_lost: Callable[[Exception], None],
    ) -> None:
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._received = b""
        self._since = float("inf")
        self.answer = b""
        """The last one, whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A transport of uvloop is one by its methods only, so it cannot be asked what it is.
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # see above
        self._write = self._transport.write

    def send(self, payload: bytes, *, since: float) -> None:
        """Send a request whose latency counts from `since`."""
        self._since = since
        self._write(payload)

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        at = data.find(_LENGTH)
        body_at = data.find(b"\r\n\r\n", at) + 4
        if at < 0 or body_at < 4:
            self._received = data
            return
        at += len(_LENGTH)
        if len(data) < body_at + int(data[at : data.find(b"\r", at)]):
            self._received = data
            return
        self._received = b""
        self.answer = data
        since, self._since = self._since, float("inf")
        self._on_answer(self, int(data[9:12]), since)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._since != float("inf"):
            self._on_lost(exc or ConnectionError("the server hung up"))

    def has_waited_s(self, now: float) -> float:
        return now - self._since

    def close(self) -> None:
        self._transport.close()


class _Run:
    """One phase: connections that are idle, requests that are due, and how it ended."""

    def __init__(self, requests: Iterator[bytes], witness: Witness | None) -> None:
        self.sample = Sample(started_at=time.perf_counter())
        self._requests = requests
        self._witness = witness
        self._connections: list[_Connection] = []
        self._idle: deque[_Connection] = deque()
        self._due: deque[float] = deque()
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._until = float("inf")
        self._is_closed_loop = False

    async def connect(self, host: str, port: int, connections: int) -> None:
        for _ in range(connections):
            _, connection = await self._loop.create_connection(
                lambda: _Connection(self._on_answer, self._fail), host, port
            )
            self._connections.append(connection)
        self._idle.extend(self._connections)
        self.sample.started_at = time.perf_counter()

    async def closed_loop(self, seconds: float) -> None:
        self._is_closed_loop = True
        self._until = self.sample.started_at + seconds
        while self._idle:
            self._idle.popleft().send(next(self._requests), since=time.perf_counter())
        await self._wait()

    async def fixed_rate(self, rate: float, seconds: float) -> None:
        self._tick(0, int(rate * seconds), 1.0 / rate)
        await self._wait()

    def _tick(self, sent: int, count: int, every_s: float) -> None:
        """Send, or note as due, whatever is due by now; then come back for the next."""
        started_at, now = self.sample.started_at, time.perf_counter()
        while sent < count and (at := started_at + sent * every_s) <= now:
            sent += 1
            if self._idle:
                self._idle.popleft().send(next(self._requests), since=at)
            else:
                self._due.append(at)
        if sent < count:
            wait_s = started_at + sent * every_s - now
            self._loop.call_later(wait_s, self._tick, sent, count, every_s)
        else:
            self._until = now
            self._end_if_all_idle()

    def _on_answer(self, connection: _Connection, status: int, since: float) -> None:
        now = time.perf_counter()
        if status == 201:
            self.sample.latencies_s.append(now - since)
        else:
            self.sample.refused[status] = self.sample.refused.get(status, 0) + 1
        if self._witness is not None:
            self._witness(status, since, now, connection.answer)
        if self._is_closed_loop and now < self._until:
            connection.send(next(self._requests), since=now)
        elif self._due:
            connection.send(next(self._requests), since=self._due.popleft())
        else:
            self._idle.append(connection)
            if now >= self._until:
                self._end_if_all_idle()

    def _end_if_all_idle(self) -> None:
        if len(self._idle) == len(self._connections) and not self._ended.done():
            self.sample.ended_at = time.perf_counter()
            self._ended.set_result(None)

    def _fail(self, failure: Exception) -> None:
        if not self._ended.done():
            self._ended.set_exception(failure)

    async def _wait(self) -> None:
        """Until every request is answered. Raises if one waits for too long."""
        while not self._ended.done():
            await asyncio.wait([self._ended], timeout=WATCH_EVERY_S)
            now = time.perf_counter()
            if any(each.has_waited_s(now) > ANSWER_MAX_S for each in self._connections):
                raise TimeoutError(f"a request was not answered in {ANSWER_MAX_S:.0f} s")
        for connection in self._connections:
            connection.close()
        self._ended.result()


class Load:
    """Creates messages through one host's API; a share of them, `keyed`, with a key of its own. The
    text of each is the name of its run, a dash and its number."""

    def __init__(
        self,
        facts: dict[str, str],
        *,
        callback: str = "",
        keyed: float = 0.0,
        witness: Witness | None = None,
    ) -> None:
        self._address = urlsplit(facts["base_url"])
        self._account = facts["account_sid"]
        self._sender = quote(facts["phone_number"])
        secret = f"{facts['account_sid']}:{facts['auth_token']}".encode()
        self._authorization = base64.b64encode(secret).decode()
        self._callback = f"&StatusCallback={quote(callback, safe='')}" if callback else ""
        self._keyed = keyed
        self._witness = witness

    async def closed_loop(self, *, connections: int, seconds: float, run: str) -> Sample:
        """As fast as it goes, each connection sending its next request upon the last answer."""
        running = await self._connected(connections, run)
        await running.closed_loop(seconds)
        return running.sample

    async def fixed_rate(
        self, *, rate: float, seconds: float, connections: int, run: str
    ) -> Sample:
        """Open loop: each request is due at its own time, and its latency counts from then."""
        running = await self._connected(connections, run)
        await running.fixed_rate(rate, seconds)
        return running.sample

    async def _connected(self, connections: int, run: str) -> _Run:
        running = _Run(self._requests(run), self._witness)
        await running.connect(self._address.hostname or "", self._address.port or 80, connections)
        return running

    def _requests(self, run: str) -> Iterator[bytes]:
        """Requests of one length, so that only the numbers in them are made anew."""
        recipient, text = "To=%2B1202556", f"&From={self._sender}&Body={run}-"
        length = len(f"{recipient}0000{text}00000000{self._callback}")
        before = (
            f"POST /2010-04-01/Accounts/{self._account}/Messages.json HTTP/1.1\r\n"
            f"Host: {self._address.netloc}\r\nAuthorization: Basic {self._authorization}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {length}\r\n"
        )
        number, keyed = 0, 0.0
        while True:
            number += 1
            keyed += self._keyed
            key = ""
            if keyed >= 1.0:
                keyed -= 1.0
                key = f"Idempotency-Key: {run}-{number}\r\n"
            yield (
                f"{before}{key}\r\n{recipient}{number % 10_000:04d}{text}{number:08d}"
                f"{self._callback}"
            ).encode("ascii")


class Loads:
    """The same over several hosts, each with an equal share; `facts` are those of the ready file."""

    def __init__(self, facts: dict[str, Any], *, keyed: float = 0.0) -> None:
        self._loads = [
            Load({**facts, "base_url": host["base_url"]}, keyed=keyed) for host in facts["hosts"]
        ]

    async def closed_loop(self, *, connections: int, seconds: float, run: str) -> Sample:
        share = connections // len(self._loads)
        return await _together(
            each.closed_loop(connections=share, seconds=seconds, run=f"{run}{number}")
            for number, each in enumerate(self._loads)
        )

    async def fixed_rate(
        self, *, rate: float, seconds: float, connections: int, run: str
    ) -> Sample:
        hosts = len(self._loads)
        return await _together(
            each.fixed_rate(
                rate=rate / hosts,
                seconds=seconds,
                connections=connections // hosts,
                run=f"{run}{number}",
            )
            for number, each in enumerate(self._loads)
        )


async def _together(runs: Iterable[Coroutine[Any, Any, Sample]]) -> Sample:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(run) for run in runs]
    samples = [each.result() for each in running]
    refused: Counter[int] = Counter()
    for sample in samples:
        refused.update(sample.refused)
    return Sample(
        [latency for sample in samples for latency in sample.latencies_s],
        dict(refused),
        min(sample.started_at for sample in samples),
        max(sample.ended_at for sample in samples),
    )
