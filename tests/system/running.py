"""Real processes for system tests: started on free ports, known by their ids, always ended."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_MAX_S = 60.0
STOP_MAX_S = 40.0
HAPPENS_MAX_S = 40.0
"""Long, because nothing is waited for longer than it takes: a machine with much else to do is slow."""

LOOK_EVERY_S = 0.02

HOSTS = 1
"""How many of them `up` starts, where a test does not say."""

LIVE: "list[Running]" = []
"""What runs just now, for whoever looks at it from outside a test."""


@dataclass
class Running:
    """One `trunkline` process and what its ready file says."""

    process: subprocess.Popen[bytes]
    facts: dict[str, Any]

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOP_MAX_S)


@contextlib.contextmanager
def simulator(data: Path) -> Iterator[str]:
    """A simulator of its own; yields its URL."""
    ready = data.with_name(data.name + ".ready")
    arguments = ["simulator", "--http", "127.0.0.1:0", "--data", str(data)]
    with _running([*arguments, "--ready-file", str(ready)], ready, {}) as running:
        yield str(running.facts["simulator_url"])


@contextlib.contextmanager
def up(
    data: Path, *arguments: str, carrier: str = "", settings: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """`trunkline up` on free ports."""
    ready = data.with_name(data.name + ".ready")
    environment = {"TRUNKLINE_CARRIER_SIMULATOR_HTTP": "127.0.0.1:0", **(settings or {})}
    command = ["up", "--data", str(data), "--http", "127.0.0.1:0", "--ready-file", str(ready)]
    if HOSTS > 1 and "--hosts" not in arguments:
        command += ["--hosts", str(HOSTS)]
    if carrier:
        command += ["--carrier", carrier]
    with _running([*command, *arguments], ready, environment) as running:
        yield running


@contextlib.contextmanager
def _running(
    arguments: list[str], ready: Path, environment: Mapping[str, str]
) -> Iterator[Running]:
    ready.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "trunkline", *arguments],
        env={**os.environ, **environment},  # noqa: TID251 - what it is started with
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(
            lambda: ready.exists() or process.poll() is not None,
            f"{arguments[0]} to be ready",
            within_s=READY_MAX_S,
        )
        assert process.poll() is None, f"{arguments[0]} ended with {process.returncode}"
        LIVE.append(Running(process, json.loads(ready.read_bytes())))
        yield LIVE[-1]
    finally:
        LIVE[:] = [running for running in LIVE if running.process is not process]
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, and kill it if it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=STOP_MAX_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=STOP_MAX_S)


def wait_until(
    happened: Callable[[], object], what: str, *, within_s: float = HAPPENS_MAX_S
) -> None:
    """Look until `happened`; fails naming `what` after the limit."""
    pause = threading.Event()
    for _ in range(int(within_s / LOOK_EVERY_S)):
        if happened():
            return
        pause.wait(LOOK_EVERY_S)
    raise AssertionError(f"waited {within_s:g} s in vain for {what}")


def is_running(pid: int) -> bool:
    """Whether a process is there and not just waiting to be collected."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def descendants(pid: int) -> dict[int, str]:
    """Every process below `pid`, with its name."""
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                for child in map(int, task.read_text("ascii").split()):
                    found[child] = Path(f"/proc/{child}/comm").read_text("utf-8").strip()
                    waiting.append(child)
    return found


def get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
        return json.load(answer)


def put_json(url: str, body: object) -> None:
    _send_json("PUT", url, body)


def post_json(url: str, body: object) -> None:
    _send_json("POST", url, body)


def _send_json(method: str, url: str, body: object) -> None:
    request = urllib.request.Request(  # noqa: S310 - our own server
        url,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own server
        assert answer.status in (200, 201)
