"""The secret that hosts show each other is changed, one host after the other, while the cluster works."""

import json
import secrets
import shutil
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.system.machines import (
    BACK_S,
    ENDED_S,
    Facts,
    Host,
    Machines,
    create,
    expect_delivered_once,
    expect_told,
    machines,
)
from tests.system.running import end, wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.alone,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="each host has a loopback address"),
]

LETTERS: Final = "abc"


def token_file(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return path


def url_of(host: Host) -> str:
    return str(json.loads(host.ready.read_bytes())["base_url"])


class Rolling:
    """The hosts, restarted one after the other with another file, and messages in between."""

    def __init__(self, cluster: Machines, folder: Path, token: Path) -> None:
        self.cluster = cluster
        self.hosts = {letter: cluster.start(letter, token=token) for letter in LETTERS}
        for host in self.hosts.values():
            wait_until(host.is_ready, "all to serve", within_s=BACK_S)
        found = json.loads((folder / "host-a" / "credentials.json").read_bytes())
        self.facts: Facts = found | {"simulator_url": cluster.carrier}
        self.bodies: list[str] = []
        self.sids: list[str] = []

    def restart_all(self, token: Path) -> None:
        for letter in LETTERS:
            end(self.hosts[letter].process)
            self.hosts[letter] = self.cluster.start(letter, token=token)
            wait_until(
                self.hosts[letter].is_ready, f"host-{letter} with {token.name}", within_s=BACK_S
            )
            self.send_through_all(f"{token.name} on {letter}")

    def send_through_all(self, when: str) -> None:
        for letter, host in self.hosts.items():
            self.bodies.append(f"{when}, through {letter}")
            self.sids.append(create(self.facts, url_of(host), self.bodies[-1]))
        expect_delivered_once(self.facts, self.bodies)


def test_the_secret_is_changed_host_by_host_and_the_old_one_opens_nothing_any_more(
    tmp_path: Path,
) -> None:
    old, new = secrets.token_hex(32), secrets.token_hex(32)
    born = token_file(tmp_path, "born", old)
    with machines(tmp_path) as cluster:
        rolling = Rolling(cluster, tmp_path, born)
        rolling.send_through_all("before")

        rolling.restart_all(token_file(tmp_path, "both", new, old))
        done = token_file(tmp_path, "done", new, f"birth:{old}")
        rolling.restart_all(done)

        # The old one is refused, and a host that has lost its disk is of the same cluster.
        end(rolling.hosts["c"].process)
        stranger = cluster.start("c", token=born, data="stranger")
        assert stranger.process.wait(timeout=ENDED_S) == 1
        assert "refuse this host's cluster token" in stranger.said.read_text("utf-8")
        shutil.rmtree(tmp_path / "host-c")
        empty = cluster.start("c", token=done)
        wait_until(empty.is_ready, "the host with an empty disk to serve", within_s=BACK_S)
        for sid in rolling.sids:
            expect_told(rolling.facts, url_of(empty), sid)
