"""The simulator as a process: killed, restarted, inspected, and looked at with `trunkline phone`."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.system

HANDSET = "+15550002222"
SENDER = "+15550001111"
RUN = "import typer; from trunkline.cli.commands.{0} import command; typer.run(command)"
START_DEADLINE_S = 20.0
STOP_DEADLINE_S = 10.0


@dataclass
class Running:
    """One simulator process."""

    process: subprocess.Popen[str]
    url: str

    def ask(
        self, method: str, path: str, content: object = None, body: bytes | None = None
    ) -> tuple[int, Any]:
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
        sent = body if content is None else json.dumps(content).encode()
        connection.request(method, path, body=sent)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        is_json = response.getheader("content-type") == "application/json"
        return response.status, json.loads(answer) if is_json else answer

    def submit(self, *references: str, **more: object) -> list[dict[str, Any]]:
        submissions = [
            {"reference": reference, "sender": SENDER, "recipient": HANDSET, "text": "hello"} | more
            for reference in references
        ]
        status, answer = self.ask("POST", "/wire/v1/submissions?bind=a", submissions)
        assert status == 200, answer
        return lines(answer)

    def deliveries(self, wait_ms: int = 0) -> list[dict[str, Any]]:
        _, items = self.ask("POST", f"/wire/v1/deliveries?bind=a&max=10&wait_ms={wait_ms}")
        found: list[dict[str, Any]] = items
        return found

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_DEADLINE_S)


def lines(answer: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.splitlines()]


class Simulators:
    """Starts simulators on one folder and ends those that are left."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self._ready = folder / "ready.json"
        self._running: list[Running] = []

    def start(self, *arguments: str) -> Running:
        self._ready.unlink(missing_ok=True)
        command = [sys.executable, "-c", RUN.format("simulator"), "--http", "127.0.0.1:0"]
        command += ["--data", str(self.data), "--ready-file", str(self._ready), *arguments]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
        running = Running(process, self._wait_until_ready(process))
        self._running.append(running)
        return running

    def end_all(self) -> None:
        for running in self._running:
            if running.process.poll() is None:
                running.process.kill()
            running.process.wait(STOP_DEADLINE_S)
            if running.process.stderr is not None:
                running.process.stderr.close()

    def _wait_until_ready(self, process: subprocess.Popen[str]) -> str:
        watchdog = threading.Timer(START_DEADLINE_S, process.kill)
        watchdog.start()
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if "simulator.ready" in line:
                    ready = json.loads(self._ready.read_text())
                    assert ready["pid"] == process.pid
                    url: str = ready["simulator_url"]
                    return url
        finally:
            watchdog.cancel()
        raise AssertionError(f"the simulator ended with {process.wait()}")


def environment() -> dict[str, str]:
    source = str(Path(__file__).parents[2] / "src")
    return dict(os.environ, PYTHONPATH=source, COLUMNS="200")  # noqa: TID251 - for a child


@pytest.fixture
def simulators(tmp_path: Path) -> Iterator[Simulators]:
    started = Simulators(tmp_path)
    yield started
    started.end_all()


@pytest.fixture
def simulator(simulators: Simulators) -> Running:
    return simulators.start()


def phone(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN.format("phone"), *arguments]
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=20, check=False
    )


def test_what_was_answered_survives_a_kill(simulators: Simulators) -> None:
    first = simulators.start()
    [answer] = first.submit("MS1:1")
    first.ask("PUT", "/v1/behaviour", {"outcome": "silent"})
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    with (simulators.data / "simulator.jsonl").open("ab") as file:
        file.write(b'{"event":"submi')

    second = simulators.start()

    _, [message] = second.ask("GET", f"/v1/handsets/{HANDSET}/messages")
    assert (message["body"], message["message_id"]) == ("hello", answer["message_id"])
    assert [item["message_id"] for item in second.deliveries()] == [answer["message_id"]]
    assert second.submit("MS2:1") == []
    entries = [
        json.loads(line) for line in (simulators.data / "simulator.jsonl").read_text().splitlines()
    ]
    assert [entry["n"] for entry in entries] == sorted({entry["n"] for entry in entries})
    assert sum(entry.get("delivered", False) for entry in entries) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_clean_even_while_a_poll_hangs(simulators: Simulators, number: int) -> None:
    running = simulators.start()
    hanging = threading.Thread(target=lambda: running.deliveries(wait_ms=30_000))
    hanging.start()

    assert running.end(number) == 0
    hanging.join(STOP_DEADLINE_S)
    assert not hanging.is_alive()


def test_answers_stream_as_they_are_decided_and_silence_gets_no_line(simulator: Running) -> None:
    simulator.ask("PUT", "/v1/behaviour/%2B15550003333", {"outcome": "silent"})
    simulator.ask("PUT", "/v1/behaviour/+15550004444", {"latency_ms": 50, "outcome": "refuse"})
    recipients = {"slow": "+15550004444", "mute": "+15550003333", "good": HANDSET}
    submissions = [
        {"reference": name, "sender": SENDER, "recipient": recipient, "text": name}
        for name, recipient in recipients.items()
    ]

    _, answer = simulator.ask("POST", "/wire/v1/submissions?bind=a", submissions)

    assert [(line["reference"], line["result"]) for line in lines(answer)] == [
        ("good", "accepted"),
        ("slow", "refused"),
    ]
    _, found = simulator.ask("GET", "/v1/submissions?after=0&limit=2")
    assert [each["outcome"] for each in found] == ["refuse", "silent"]
    _, found = simulator.ask("GET", f"/v1/submissions?after={found[-1]['n']}")
    assert [each["reference"] for each in found] == ["good"]


def test_a_handset_s_message_goes_to_the_bind_until_acknowledged(simulators: Simulators) -> None:
    simulator = simulators.start("--reoffer-ms", "100")
    status, sent = simulator.ask(
        "POST", f"/v1/handsets/{HANDSET}/messages", {"to": SENDER, "body": "hi"}
    )
    assert status == 201

    [first] = simulator.deliveries(wait_ms=5_000)
    [again] = simulator.deliveries(wait_ms=5_000)
    simulator.ask("POST", "/wire/v1/acknowledgements", [again["item_id"]])

    assert first == again
    assert (first["item"], first["message_id"]) == ("inbound", sent["message_id"])
    assert simulator.deliveries(wait_ms=300) == []


def test_a_poll_whose_host_died_takes_nothing(simulator: Running) -> None:
    address = urlsplit(simulator.url)
    dead = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    dead.request("POST", "/wire/v1/deliveries?bind=dead&wait_ms=30000")
    assert simulator.deliveries(wait_ms=100) == []  # by now the other poll hangs
    dead.close()

    simulator.submit("MS1:1")

    assert [item["reference"] for item in simulator.deliveries(wait_ms=1_000)] == ["MS1:1"]


def test_the_poll_that_has_waited_longest_is_served_first(simulator: Running) -> None:
    address = urlsplit(simulator.url)
    polls = [
        http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
        for _ in range(2)
    ]
    for number, poll in enumerate(polls):
        poll.request("POST", f"/wire/v1/deliveries?bind=bind{number}&wait_ms=1000")
        assert simulator.ask("GET", "/healthz")[0] == 200  # by now it hangs

    simulator.submit("MS1:1")

    items = [json.loads(poll.getresponse().read()) for poll in polls]
    assert [len(each) for each in items] == [1, 0]
    for poll in polls:
        poll.close()


def test_a_connection_serves_the_wire_and_the_inspection_in_turn(simulator: Running) -> None:
    address = urlsplit(simulator.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    seen = []
    for method, path in [
        ("GET", "/healthz"),
        ("POST", "/wire/v1/deliveries?bind=a"),
        ("GET", "/wire/v1/deliveries?bind=a"),
        ("POST", "/wire/v1/nothing"),
        ("GET", "/healthz"),
    ]:
        connection.request(method, path)
        response = connection.getresponse()
        response.read()
        seen.append(response.status)
    connection.close()

    assert seen == [200, 200, 405, 404, 200]


def test_a_second_request_before_the_answer_is_hung_up_on(simulator: Running) -> None:
    address = urlsplit(simulator.url)
    poll = b"POST /wire/v1/deliveries?bind=a&wait_ms=30000 HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as peer:
        peer.sendall(poll + poll)
        received = b""
        while chunk := peer.recv(65_536):
            received += chunk

    assert received.startswith(b"HTTP/1.1 400 ")
    assert simulator.ask("GET", "/healthz")[0] == 200


def test_waiting_for_a_message_returns_when_it_comes(simulator: Running) -> None:
    found: list[Any] = []
    path = f"/v1/handsets/{HANDSET}/messages?wait_ms=10000"
    waiting = threading.Thread(target=lambda: found.append(simulator.ask("GET", path)))
    waiting.start()

    simulator.submit("MS1:1", media_urls=["https://example.com/a.png"], possible_duplicate=True)
    waiting.join(STOP_DEADLINE_S)

    [(_, [message])] = found
    assert message["possible_duplicate"] is True
    assert message["media_urls"] == ["https://example.com/a.png"]


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "field"),
    [
        ("PUT", "/v1/behaviour", {"latency": 1}, 400, "latency"),
        ("PUT", "/v1/behaviour", {"latency_ms": "1"}, 400, "latency_ms"),
        ("PUT", "/v1/behaviour/nobody", {}, 400, "number"),
        ("GET", "/v1/handsets/15550002222/messages", None, 400, "number"),
        ("GET", f"/v1/handsets/{HANDSET}/messages?after=x", None, 400, "after"),
        ("GET", "/v1/submissions?limit=1001", None, 400, "limit"),
        ("POST", f"/v1/handsets/{HANDSET}/messages", {"body": "hi"}, 400, "body"),
        ("POST", f"/v1/handsets/{HANDSET}/messages", {"to": ""}, 400, "to"),
        ("POST", f"/v1/handsets/{HANDSET}/messages", {"to": "a" * 70_000}, 413, None),
        ("POST", "/wire/v1/submissions?bind=a", [], 400, None),
        ("POST", "/wire/v1/submissions", [], 400, "bind"),
        ("POST", "/wire/v1/acknowledgements", [1], 400, None),
        ("GET", "/v1/nothing", None, 404, None),
        ("DELETE", "/v1/counts", None, 405, None),
    ],
)
def test_a_mistake_is_answered_with_what_is_wrong(
    simulator: Running, method: str, path: str, content: object, status: int, field: str | None
) -> None:
    answered, told = simulator.ask(method, path, content)

    assert answered == status
    assert told["error"]
    assert told.get("field") == field


def test_a_body_over_the_bound_is_refused(simulator: Running) -> None:
    body = b"[" + b" " * (8 * 1024 * 1024) + b"]"

    status, _ = simulator.ask("POST", "/wire/v1/submissions?bind=a", body=body)

    assert status == 413
    assert simulator.ask("GET", "/healthz") == (200, {"status": "ok"})


def test_behaviours_are_set_read_and_reset(simulator: Running) -> None:
    simulator.ask("PUT", "/v1/behaviour", {"receipt_status": "none"})
    simulator.ask("PUT", f"/v1/behaviour/{HANDSET}", {"outcome": "throttle"})

    assert simulator.ask("GET", f"/v1/behaviour/{HANDSET}")[1]["outcome"] == "throttle"
    simulator.ask("DELETE", f"/v1/behaviour/{HANDSET}")

    assert simulator.ask("GET", f"/v1/behaviour/{HANDSET}")[1]["receipt_status"] == "none"
    assert simulator.ask("PUT", "/v1/behaviour", {})[1]["receipt_status"] == "delivered"


def test_counts_say_what_happened(simulator: Running) -> None:
    simulator.submit("MS1:1", "MS1:2")
    simulator.submit("MS2:1", recipient="nobody")

    _, counts = simulator.ask("GET", "/v1/counts")

    assert counts["submitted"] == 3
    assert (counts["accepted"], counts["refused"]) == (2, 1)
    assert (counts["delivered"], counts["unflagged_duplicates_by_body"]) == (2, 1)
    assert simulator.ask("GET", "/v1/handsets")[1] == [{"number": HANDSET, "messages": 2}]


def test_the_page_for_people_needs_nothing_else(simulator: Running) -> None:
    status, page = simulator.ask("GET", "/")

    assert status == 200
    assert b"<title>Trunkline simulator</title>" in page
    assert not re.findall(rb"(?:src|href)=", page)


def test_a_phone_sends_and_reads(simulator: Running) -> None:
    at = ("--simulator", simulator.url)
    assert "nothing received yet" in phone(HANDSET, *at).stdout

    sent = phone(HANDSET, "--to", SENDER, "--send", "[bold]hi", *at)
    simulator.submit("MS1:1", text="[red]hello", possible_duplicate=True)
    read = phone(HANDSET, *at)
    as_json = phone(HANDSET, "--json", *at)

    assert sent.stdout.startswith("sent as handset-")
    assert simulator.deliveries()[0]["text"] == "[bold]hi"
    assert "[red]hello" in read.stdout
    assert "may be a repeat" in read.stdout
    assert json.loads(as_json.stdout)["body"] == "[red]hello"


def test_a_phone_says_what_to_do_when_it_cannot(simulator: Running) -> None:
    nobody = phone(HANDSET, "--simulator", "http://127.0.0.1:9")
    wrong_number = phone("nobody", "--simulator", simulator.url)
    half = phone(HANDSET, "--to", SENDER, "--simulator", simulator.url)

    assert nobody.returncode == 1
    assert "no simulator answers at http://127.0.0.1:9" in nobody.stderr
    assert "--simulator" in nobody.stderr
    assert wrong_number.returncode == 1
    assert "a handset's number is" in wrong_number.stderr
    assert half.returncode == 2


def test_a_second_simulator_on_the_same_folder_says_so(simulators: Simulators) -> None:
    simulators.start()
    command = [sys.executable, "-c", RUN.format("simulator"), "--http", "127.0.0.1:0"]

    second = subprocess.run(
        [*command, "--data", str(simulators.data)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert second.returncode == 1
    assert "another simulator is using" in second.stderr
    assert "Traceback" not in second.stderr
