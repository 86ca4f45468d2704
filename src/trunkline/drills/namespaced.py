"""Hosts that have a network each: `trunkline host` in namespaces, started again by the drill itself.

What `trunkline up` does for hosts on one address, this does for hosts that can be cut off.
"""

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trunkline.drills import processes
from trunkline.drills.cluster import READY_MAX_S, Account, Host
from trunkline.drills.faults.network import Network, Seat
from trunkline.drills.processes import PROGRAM, Program, run_tool, until
from trunkline.drills.refusal import DrillError
from trunkline.kernel import Clock

API_PORT: Final = 8009


@dataclass(frozen=True, slots=True)
class _Place:
    """One host's name, seat, folder and files."""

    name: str
    seat: Seat
    data: Path
    config: Path
    ready: Path
    words: Path


class NamespacedCluster:
    """A `Cluster` of which each host has a seat in `network`. Dead hosts stay dead."""

    def __init__(
        self,
        folder: Path,
        network: Network,
        *,
        carrier_url: str,
        clock: Clock,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.network: Final = network
        self._folder = folder
        self._carrier_url = carrier_url
        self._clock = clock
        self._settings = dict(settings or {})
        self._programs: dict[str, Program] = {}
        self._account: Account | None = None
        self._places = tuple(
            _Place(
                name,
                seat,
                folder / name,
                folder / f"{name}.toml",
                folder / f"{name}.ready",
                folder / f"{name}.words",
            )
            for number, seat in enumerate(network.seats, 1)
            for name in (f"host-{number}",)
        )

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def account(self) -> Account:
        if self._account is None:
            raise DrillError("the hosts have no account yet", "start them first")
        return self._account

    def hosts(self) -> Sequence[Host]:
        return tuple(
            Host(
                place.name,
                f"http://{place.seat.address}:{API_PORT}",
                self._programs[place.name].pid if place.name in self._programs else 0,
                place.data,
            )
            for place in self._places
        )

    def seat(self, host: Host) -> Seat:
        return next(place.seat for place in self._places if place.name == host.name)

    async def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        token = self._folder / "token"
        if not token.exists():
            token.touch(0o600)
            token.write_text(secrets.token_hex(32) + "\n", "ascii")
        for place in self._places:
            place.ready.unlink(missing_ok=True)
            place.config.write_text(self._config(place, token), "utf-8")
            argv = place.seat.inside(
                *PROGRAM, "host", "--config", str(place.config), "--ready-file", str(place.ready)
            )
            self._programs[place.name] = Program(
                argv, words=place.words, environment=self._settings
            )
        await until(self._is_decided, self._clock, within_s=READY_MAX_S)
        silent = [place for place in self._places if not place.ready.exists()]
        if silent:
            words = self._programs[silent[0].name].last_words() or "it said nothing"
            raise DrillError(f"{silent[0].name} did not become ready ({words})", "see what it says")
        self._account = await asyncio.to_thread(_account_of, self._places[0].data)

    async def stop(self) -> None:
        for program in self._programs.values():
            processes.send_all(processes.tree(program.pid), processes.CONTINUE)
        async with asyncio.TaskGroup() as tasks:
            for program in self._programs.values():
                tasks.create_task(program.end(self._clock))
        self._programs.clear()

    def kill(self) -> None:
        for program in self._programs.values():
            processes.kill_all(processes.tree(program.pid))
        self._programs.clear()

    def hold_restarts(self) -> None:
        """Nobody restarts anything here."""

    def let_restart(self) -> None:
        """The same."""

    def _is_decided(self) -> bool:
        return all(
            place.ready.exists() or self._programs[place.name].exit_code is not None
            for place in self._places
        )

    def _config(self, place: _Place, token: Path) -> str:
        members = [f"{each.name}@{each.seat.address}" for each in self._places]
        sections: dict[str, dict[str, Any]] = {
            "host": {
                "name": place.name,
                "data": str(place.data),
                "http": f"{place.seat.address}:{API_PORT}",
                "log_level": "warning",
            },
            "carrier": {"url": self._carrier_url},
            # The judge's own receiver is on the network of these hosts, which no machine is alone on.
            "webhooks": {"private_addresses": "allow"},
        }
        if len(members) > 1:
            sections["cluster"] = {"hosts": members, "token_file": str(token)}
        # Strings and lists of strings are written in JSON as they are in TOML.
        return "".join(
            f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items())
            for name, rows in sections.items()
        )


def _account_of(data: Path) -> Account:
    found = json.loads(run_tool(*PROGRAM, "credentials", "--data", str(data), "--json"))
    return Account(found["account_sid"], found["auth_token"], found["phone_number"])
