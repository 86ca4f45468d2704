"""Three log servers in a cluster on loopback, to be killed, frozen and thawed."""

import contextlib
import json
import random
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from trunkline.host.engine_conf import find_program
from trunkline.kernel import SystemClock
from trunkline.log.engines.jetstream import JetStreamLog, open_jetstream

NAMES: Final = ("a", "b", "c")
REPLICAS: Final = len(NAMES)
BYTES_MAX: Final = 1 << 30
STARTS_S: Final = 10.0


class Cluster:
    """Its servers are called as in `NAMES`."""

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_hex(16)
        self._folder = folder
        ports = _free_ports(2 * len(NAMES))
        self._ports = dict(zip(NAMES, ports, strict=False))
        self._route_ports = dict(zip(NAMES, ports[len(NAMES) :], strict=True))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def urls(self, own: str) -> list[str]:
        """As the host of the server `own` lists them."""
        names = [own, *(name for name in NAMES if name != own)]
        return [f"nats://127.0.0.1:{self._ports[name]}" for name in names]

    def open(
        self,
        own: str = "a",
        *,
        is_born: bool = False,
        replicas: int = REPLICAS,
        bytes_max: int = BYTES_MAX,
        positions: Path | None = None,
    ) -> AbstractAsyncContextManager[JetStreamLog]:
        """The log as the host of the server `own` has it."""
        return open_jetstream(
            self.urls(own),
            self.token,
            clock=SystemClock(),
            # Not a fixed seed: inboxes of one name would get what is still owed to another one.
            rng=random.Random(),
            replicas=replicas,
            bytes_max=bytes_max,
            is_born=is_born,
            positions=positions,
        )

    def start(self, *names: str) -> None:
        for name in names or NAMES:
            conf = self._write_conf(name)
            self._processes[name] = subprocess.Popen([find_program(None), "-c", conf])
        for name in names or NAMES:
            wait_for_greeting(self._ports[name])

    def kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait(timeout=STARTS_S)

    def freeze(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGCONT)

    def end(self) -> None:
        for name in tuple(self._processes):
            self.thaw(name)
            self.kill(name)

    def _write_conf(self, name: str) -> Path:
        own = self._folder / name
        own.mkdir(exist_ok=True)
        secret = json.dumps(self.token)
        others = [
            json.dumps(f"nats-route://route:{self.token}@127.0.0.1:{port}")
            for other, port in self._route_ports.items()
            if other != name
        ]
        conf = own / "nats.conf"
        conf.write_text(
            f"server_name: {name}\n"
            f'listen: "127.0.0.1:{self._ports[name]}"\n'
            f"authorization {{ token: {secret} }}\n"
            f'log_file: "{own / "nats.log"}"\n'
            f'jetstream {{ store_dir: "{own}", sync_interval: always }}\n'
            "cluster {\n"
            f'  name: test, listen: "127.0.0.1:{self._route_ports[name]}"\n'
            f"  authorization {{ user: route, password: {secret} }}\n"
            f"  routes: [{', '.join(others)}]\n"
            "}\n"
        )
        return conf


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Started; whoever opens the log waits for its leaders."""
    started = Cluster(folder)
    started.start()
    try:
        yield started
    finally:
        started.end()


def wait_for_listener(port: int) -> None:
    """Of a server that says nothing before the other side has. Bounded by the number of tries."""
    for _ in range(1000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        subprocess.run(["sleep", "0.01"], check=True)
    raise AssertionError(f"no log server listens on port {port}")


def wait_for_greeting(port: int) -> None:
    """Bounded by the number of tries."""
    for _ in range(1000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as peer:
            if peer.recv(5) == b"INFO ":
                return
        subprocess.run(["sleep", "0.01"], check=True)
    raise AssertionError(f"no log server greets on port {port}")


def _free_ports(count: int) -> Sequence[int]:
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
