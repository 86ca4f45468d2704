"""Every carrier we ship keeps the carrier contract, against a real far side over loopback."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from trunkline.kernel import RETRY_BUDGET, BudgetLimits, Deadline, SystemClock
from trunkline.messaging.carrier import Accepted, Outcome, Refused, Submission, Unknown
from trunkline.messaging.carrier_contract import CONTRACT, RECIPIENT, REFUSAL_CODE, FarSide
from trunkline.messaging.carriers.simulated import SimulatedCarrier
from trunkline.simulator.journal import FILE_NAME
from trunkline.simulator.serve import Settings, serve

pytestmark = pytest.mark.system

REOFFER_S = 0.2
BEHAVIOURS: Mapping[FarSide, Mapping[str, object]] = {
    FarSide.PERFECT: {},
    FarSide.REFUSING: {"outcome": "refuse", "error_code": REFUSAL_CODE},
    FarSide.THROTTLING: {"outcome": "throttle"},
    FarSide.SILENT: {"outcome": "silent"},
}


@dataclass
class SimulatedHarness:
    """The simulator in this process, and a link to it."""

    carrier: SimulatedCarrier
    clock: SystemClock
    url: str
    session: aiohttp.ClientSession
    stop: asyncio.Event
    stopped: asyncio.Event

    async def behave(self, far_side: FarSide) -> None:
        await self.behave_as(BEHAVIOURS[far_side])

    async def behave_as(self, behaviour: Mapping[str, object]) -> None:
        address = f"{self.url}/v1/behaviour/{quote(RECIPIENT)}"
        async with self.session.put(address, json=behaviour) as response:
            assert response.status == 200, await response.text()

    async def behave_as_a_whole(self, behaviour: Mapping[str, object]) -> None:
        async with self.session.put(f"{self.url}/v1/behaviour", json=behaviour) as response:
            assert response.status == 200, await response.text()

    async def texts_at(self, number: str) -> Sequence[str]:
        async with self.session.get(f"{self.url}/v1/handsets/{number}/messages") as response:
            return [message["body"] for message in await response.json()]

    async def send_from_handset(self, sender: str, recipient: str, text: str) -> None:
        address = f"{self.url}/v1/handsets/{sender}/messages"
        async with self.session.post(address, json={"to": recipient, "body": text}) as response:
            assert response.status == 201

    async def cut_link(self) -> None:
        self.stop.set()
        await self.stopped.wait()


@asynccontextmanager
async def simulated(data: Path) -> AsyncIterator[SimulatedHarness]:
    clock = SystemClock()
    stop, stopped = asyncio.Event(), asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    settings = Settings("127.0.0.1", 0, data, reoffer_s=REOFFER_S)

    async def run_simulator() -> None:
        rng = random.Random(1)
        await serve(settings, clock=clock, rng=rng, stop=stop, on_ready=ready.set_result)
        stopped.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_simulator())
        url = await ready
        carrier = link(url)
        tasks.create_task(carrier.run())
        await asyncio.sleep(0)
        async with aiohttp.ClientSession() as session:
            yield SimulatedHarness(carrier, clock, url, session, stop, stopped)
        await carrier.close()
        stop.set()


def link(url: str, retry_budget: BudgetLimits = RETRY_BUDGET) -> SimulatedCarrier:
    return SimulatedCarrier(
        name="simulated",
        url=url,
        bind="test",
        window=10,
        clock=SystemClock(),
        rng=random.Random(1),
        retry_budget=retry_budget,
    )


@pytest.mark.anyio
@pytest.mark.parametrize("clause", CONTRACT)
async def test_the_simulated_carrier_keeps_the_contract(clause: str, tmp_path: Path) -> None:
    async with simulated(tmp_path) as harness:
        await CONTRACT[clause](harness)


@pytest.mark.anyio
async def test_a_connection_that_dies_under_a_hand_over_leaves_it_unknown() -> None:
    async with _peer(b"") as url:
        outcome = await _submit_once(link(url))

    assert isinstance(outcome, Unknown)


@pytest.mark.anyio
async def test_a_stream_cut_off_after_some_answers_leaves_only_the_others_unknown() -> None:
    line = b'{"result":"accepted","reference":"MS0:1","message_id":"sim-1"}\n'
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = head + f"{len(line):x}\r\n".encode() + line + b"\r\n"
    async with _peer(answer) as url:
        outcomes = await _submit_together(link(url), ["MS0:1", "MS1:1"])

    assert outcomes[0] == Accepted("sim-1")
    assert isinstance(outcomes[1], Unknown)


@pytest.mark.anyio
@pytest.mark.parametrize("status", ["400 Bad Request", "413 Too Large", "503 Busy"])
async def test_a_post_turned_away_whole_is_returned(status: str) -> None:
    async with _peer(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()) as url:
        outcome = await _submit_once(link(url))

    assert isinstance(outcome, Refused)
    assert (outcome.is_returned, outcome.is_unsent) == (True, False)


@pytest.mark.anyio
async def test_an_internal_error_of_the_far_side_is_unknown() -> None:
    async with _peer(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n") as url:
        outcome = await _submit_once(link(url))

    assert isinstance(outcome, Unknown)


@pytest.mark.anyio
async def test_a_redirect_is_not_followed() -> None:
    moved = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    async with _peer(moved) as url:
        outcome = await _submit_once(link(url))

    assert isinstance(outcome, Refused)
    assert outcome.is_returned


@pytest.mark.anyio
async def test_a_link_that_is_not_running_hands_nothing_over() -> None:
    carrier = link(f"http://127.0.0.1:{_closed_port()}")

    outcome = await carrier.submit(_submission("MS0:1"), key="MS0:1", deadline=_soon())

    assert isinstance(outcome, Refused)
    assert (outcome.is_returned, outcome.is_unsent) == (True, True)


@pytest.mark.anyio
async def test_a_text_that_cannot_be_written_spoils_no_other(tmp_path: Path) -> None:
    async with simulated(tmp_path) as harness:
        good, bad = _submission("MS0:1"), Submission("MS1:1", "+15550001111", RECIPIENT, "\ud800")
        async with asyncio.TaskGroup() as tasks:
            outcomes = [
                tasks.create_task(
                    harness.carrier.submit(each, key=each.reference, deadline=_soon())
                )
                for each in (good, bad)
            ]

    assert isinstance(outcomes[0].result(), Accepted)
    assert outcomes[1].result() == Refused(30_008, "the text is not valid Unicode")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("retries_per_s", "attempts"),
    [(0.3, [1, 2, 3, 1, 2, 1]), (float("inf"), [1, 2, 3, 1, 2, 3, 1, 2, 3])],
    ids=["with a budget of three in ten seconds", "without a bound"],
)
async def test_a_poll_that_fails_is_repeated_within_the_budget_and_says_so(
    tmp_path: Path, retries_per_s: float, attempts: list[int]
) -> None:
    budget = BudgetLimits(0.0, retries_per_s)
    async with simulated(tmp_path) as harness:
        await harness.behave_as_a_whole({"polls_turned_away": True})
        carrier = link(harness.url, retry_budget=budget)
        for _ in range(3):
            assert await carrier.receive(10, 0.1) == []
        await harness.behave_as_a_whole({})
        await harness.send_from_handset(RECIPIENT, "+15550001111", "hello")
        items = await carrier.receive(10, 5.0)
        await carrier.close()

    lines = (tmp_path / FILE_NAME).read_text().splitlines()
    entries = [entry for entry in map(json.loads, lines) if entry["event"] == "turned-away"]
    assert [entry.get("attempt", 1) for entry in entries] == attempts
    assert {entry["bind"] for entry in entries} == {"test"}
    assert len(items) == 1


@pytest.mark.anyio
async def test_closing_a_link_ends_its_hanging_poll(tmp_path: Path) -> None:
    async with simulated(tmp_path) as harness:
        async with asyncio.timeout(10.0), asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(harness.carrier.receive(10, 30.0))
            await asyncio.sleep(0)
            await harness.carrier.close()
        assert polling.result() == []
        await harness.carrier.acknowledge(["receipt-1"])
        await harness.carrier.close()


@pytest.mark.anyio
async def test_a_link_that_is_stopped_leaves_its_open_posts_unknown(tmp_path: Path) -> None:
    async with simulated(tmp_path) as harness:
        await harness.behave_as({"latency_ms": 60_000})
        other = link(harness.url)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(other.run())
            await asyncio.sleep(0)
            submitting = tasks.create_task(
                other.submit(_submission("MS0:1"), key="MS0:1", deadline=_soon())
            )
            await _until_handset_has(harness, 1)
            running.cancel()
        await other.close()

    assert isinstance(submitting.result(), Unknown)


@pytest.mark.anyio
async def test_hand_overs_of_one_moment_go_in_one_post(tmp_path: Path) -> None:
    async with simulated(tmp_path) as harness:
        outcomes = await _submit_together(link(harness.url), [f"MS{n}:1" for n in range(10)])
        texts = await harness.texts_at(RECIPIENT)

    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert len(texts) == 10


@pytest.mark.anyio
async def test_a_connection_that_was_closed_while_idle_is_not_used_again() -> None:
    refused = b'{"result":"refused","reference":"MS0:1","error_code":30007}\n'
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(refused)}\r\n\r\n".encode()
    async with _peer(head + refused) as url, asyncio.TaskGroup() as tasks:
        carrier = link(url)
        tasks.create_task(carrier.run())
        await asyncio.sleep(0)
        outcomes = []
        for _ in range(3):
            outcomes.append(
                await carrier.submit(_submission("MS0:1"), key="MS0:1", deadline=_soon())
            )
            async with asyncio.timeout(5.0):
                while carrier._connections._idle:  # the peer hangs up
                    await asyncio.sleep(0)
        await carrier.close()

    assert outcomes == [Refused(30_007, "")] * 3


@pytest.mark.anyio
async def test_the_receipts_of_a_large_batch_come_in_one_poll(tmp_path: Path) -> None:
    async with simulated(tmp_path) as harness:
        outcomes: dict[int, Outcome] = {}
        is_done = asyncio.Event()

        def settle(place: int, outcome: Outcome) -> None:
            outcomes[place] = outcome
            if len(outcomes) == 500:
                is_done.set()

        harness.carrier.submit_many(
            [_submission(f"MS{number}:1") for number in range(500)],
            deadline=_soon(),
            on_outcome=settle,
        )
        await is_done.wait()
        items = await harness.carrier.receive(500, 1.0)

    assert all(isinstance(outcome, Accepted) for outcome in outcomes.values())
    assert len({item.item_id for item in items}) == 500


@pytest.mark.anyio
async def test_a_spoilt_text_is_refused_and_the_rest_of_its_batch_goes(tmp_path: Path) -> None:
    async with simulated(tmp_path) as harness:
        told: list[tuple[int, Outcome]] = []
        is_done = asyncio.Event()

        def settle(place: int, outcome: Outcome) -> None:
            told.append((place, outcome))
            if len(told) == 2:
                is_done.set()

        spoilt = Submission("MS0:1", "+15550001111", RECIPIENT, "\ud800")
        harness.carrier.submit_many(
            [spoilt, _submission("MS1:1")], deadline=_soon(), on_outcome=settle
        )
        await is_done.wait()

    assert told[0] == (0, Refused(30_008, "the text is not valid Unicode"))
    assert told[1][0] == 1
    assert isinstance(told[1][1], Accepted)


async def _until_handset_has(harness: SimulatedHarness, messages: int) -> None:
    address = f"{harness.url}/v1/handsets/{RECIPIENT}/messages?wait_ms=5000"
    async with harness.session.get(address) as response:
        assert len(await response.json()) == messages


async def _submit_once(carrier: SimulatedCarrier) -> Outcome:
    return (await _submit_together(carrier, ["MS0:1"]))[0]


async def _submit_together(carrier: SimulatedCarrier, references: Sequence[str]) -> list[Outcome]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(carrier.run())
        await asyncio.sleep(0)
        async with asyncio.TaskGroup() as submits:
            under_way = [
                submits.create_task(
                    carrier.submit(_submission(reference), key=reference, deadline=_soon())
                )
                for reference in references
            ]
        assert carrier._submits.calls == 1
        await carrier.close()
    return [each.result() for each in under_way]


def _submission(reference: str) -> Submission:
    return Submission(reference, "+15550001111", RECIPIENT, f"text of {reference}")


def _soon() -> Deadline:
    return Deadline.after(3.0, SystemClock())


@asynccontextmanager
async def _peer(answer: bytes) -> AsyncIterator[str]:
    """A far side that reads one request, says `answer` and hangs up."""

    async def serve_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        await reader.readexactly(length)
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve_once, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
