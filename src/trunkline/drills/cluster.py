"""The system under test: some hosts as processes, and where each is reached. `trunkline up` runs them.

What a drill knows of a host is what its ready file says: a name, an address, a process, a folder.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from trunkline.drills import processes
from trunkline.drills.processes import PROGRAM, Program, until
from trunkline.drills.refusal import DrillError
from trunkline.kernel import Clock

READY_MAX_S: Final = 120.0
"""Three hosts, and as many engines that elect, on a small machine."""
BACK_MAX_S: Final = 60.0
STOP_MAX_S: Final = 60.0
LOG_SERVER: Final = "nats-server"
"""What the process of a host's log engine is called."""


@dataclass(frozen=True, slots=True)
class Host:
    """One host as it runs now: `pid` changes when it was started again."""

    name: str
    base_url: str
    pid: int
    data: Path

    def processes(self) -> dict[int, str]:
        """Everything that is this host, by process id, with names."""
        return processes.tree(self.pid)


@dataclass(frozen=True, slots=True)
class Account:
    """With which credentials the API is asked, and from which number messages are sent."""

    sid: str
    auth_token: str
    phone_number: str


class Cluster(Protocol):
    """What a scenario may do with the system under test."""

    @property
    def folder(self) -> Path: ...

    @property
    def account(self) -> Account: ...

    def hosts(self) -> Sequence[Host]:
        """As they are now; a host that is being started again has the process it had."""

    async def start(self) -> None:
        """Run until `stop`. Raises `DrillError` if it does not become ready."""

    async def stop(self) -> None:
        """End everything in good order."""

    def kill(self) -> None:
        """End everything at once, as a power failure does."""

    def hold_restarts(self) -> None:
        """Nobody starts a dead host again until `let_restart`."""

    def let_restart(self) -> None: ...


class UpCluster:
    """Hosts below one `trunkline up`, which starts again what dies."""

    def __init__(
        self,
        folder: Path,
        *,
        hosts: int,
        carrier_url: str,
        clock: Clock,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._count = hosts
        self._carrier_url = carrier_url
        self._clock = clock
        self._settings = dict(settings or {})
        self._ready = folder.with_name(folder.name + ".ready")
        self._program: Program | None = None
        self._facts: dict[str, Any] = {}
        self._is_held = False

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def words(self) -> Path:
        """What the hosts and whoever runs them have said."""
        return self._folder.with_name(self._folder.name + ".words")

    @property
    def account(self) -> Account:
        facts = self._facts
        return Account(facts["account_sid"], facts["auth_token"], facts["phone_number"])

    def hosts(self) -> Sequence[Host]:
        with contextlib.suppress(OSError, json.JSONDecodeError):
            self._facts = json.loads(self._ready.read_bytes())
        return tuple(
            Host(each["name"], each["base_url"], each["pid"] or 0, Path(each["data"]))
            for each in self._facts["hosts"]
        )

    async def start(self) -> None:
        if self._program is not None:
            raise DrillError("the cluster runs already", "stop it first")
        self._ready.unlink(missing_ok=True)
        hosts = ["--hosts", str(self._count)] if self._count > 1 else []
        self._program = Program(
            [
                *PROGRAM, "up", *hosts, "--data", str(self._folder), "--http", "127.0.0.1:0",
                "--carrier", self._carrier_url, "--ready-file", str(self._ready),
            ],
            words=self.words,
            environment={"TRUNKLINE_HOST_LOG_LEVEL": "warning", **self._settings},
        )  # fmt: skip
        program = self._program
        await until(
            lambda: self._ready.exists() or program.exit_code is not None,
            self._clock,
            within_s=READY_MAX_S,
        )
        if not self._ready.exists():
            words = program.last_words() or "it said nothing"
            raise DrillError(f"the hosts did not become ready ({words})", "see what they say")
        self.hosts()

    async def stop(self) -> None:
        if self._program is None:
            return
        self.let_restart()
        program, self._program = self._program, None
        for host in self._facts.get("hosts", ()):
            # A process that a fault left frozen could not hear that it is to stop.
            processes.send_all(processes.tree(host["pid"] or 0), processes.CONTINUE)
        await program.end(self._clock, within_s=STOP_MAX_S)

    def kill(self) -> None:
        if self._program is not None:
            program, self._program = self._program, None
            processes.kill_all(processes.tree(program.pid))

    def hold_restarts(self) -> None:
        if self._program is not None and not self._is_held:
            self._is_held = True
            processes.send_all([self._program.pid], processes.FREEZE)

    def let_restart(self) -> None:
        if self._program is not None and self._is_held:
            self._is_held = False
            processes.send_all([self._program.pid], processes.CONTINUE)
