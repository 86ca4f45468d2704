"""A cluster of three hosts on this machine: it comes up, shares one log, and goes on without any one.

All are real: three hosts with their engines, and a simulated carrier outside of them as the judge.
"""

import asyncio
import json
import random
import shutil
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Final

import pytest
from tests.system import running
from tests.system.machines import (
    BACK_S,
    ENDED_S,
    create,
    expect_delivered_once,
    expect_told,
    is_ready,
    kill_host,
    machines,
    trunkline,
)
from tests.system.running import descendants, end, is_running, wait_until

from trunkline.host.engine import Door, open_door
from trunkline.host.layout import Layout
from trunkline.kernel import SystemClock
from trunkline.log.interface import Accepted

pytestmark = [
    pytest.mark.system,
    pytest.mark.several,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform != "linux", reason="each host has a loopback address"),
]

TIMER_WRITE_S: Final = 5.0
FIRST_START: Final = "To make a log for the first time takes 3 hosts at once"
SAID_S: Final = 60.0
"""A leader of all is elected, and then it is tried for half a minute to make the log."""
CLOCK: Final = SystemClock()


def test_three_hosts_share_one_log_and_go_on_without_any_one_of_them(tmp_path: Path) -> None:
    with running.up(tmp_path / "data", "--hosts", "3") as up:
        facts, hosts = up.facts, up.facts["hosts"]
        urls = [host["base_url"] for host in hosts]
        assert [host["name"] for host in hosts] == ["host-a", "host-b", "host-c"]
        assert len({urllib.parse.urlsplit(url).hostname for url in urls}) == 3

        # A message through each host is delivered once, and each host tells of all of them.
        bodies = [f"through {host['name']}" for host in hosts]
        sids = [create(facts, url, body) for url, body in zip(urls, bodies, strict=True)]
        expect_delivered_once(facts, bodies)
        for url in urls:
            for sid in sids:
                expect_told(facts, url, sid)

        # Without one of them, creates go on through the other two, while its shards elect.
        kill_host(hosts[0]["pid"])
        began, gaps = time.monotonic(), []
        for turn in range(40):
            body = f"without host-a {turn}"
            asked_at = time.monotonic()
            sids.append(create(facts, urls[1 + turn % 2], body))
            gaps.append(time.monotonic() - asked_at)
            bodies.append(body)
        sys.stderr.write(
            f"40 creates in {time.monotonic() - began:.2f} s, the slowest {max(gaps):.2f} s\n"
        )

        # It comes back by itself, and serves.
        wait_until(lambda: is_ready(urls[0]), "host-a to serve again", within_s=BACK_S)
        bodies.append("through host-a again")
        sids.append(create(facts, urls[0], bodies[-1]))
        expect_delivered_once(facts, bodies)
        for sid in sids:
            expect_told(facts, urls[0], sid)
        pids = [up.pid, *descendants(up.pid)]
        assert up.stop() == 0
    assert [pid for pid in pids if is_running(pid)] == []


def remove(folder: Path) -> None:
    """All of it at once, though a host is writing in it."""
    gone = folder.rename(folder.with_name(f"{folder.name}.gone"))
    shutil.rmtree(gone)


def test_a_host_whose_whole_folder_is_removed_while_it_runs_comes_back_and_is_filled(
    tmp_path: Path,
) -> None:
    with running.up(tmp_path / "data", "--hosts", "3") as up:
        facts, hosts = up.facts, up.facts["hosts"]
        urls = [host["base_url"] for host in hosts]
        bodies = [f"before {turn}" for turn in range(10)]
        sids = [create(facts, urls[turn % 3], body) for turn, body in enumerate(bodies)]
        for sid in sids:
            expect_told(facts, urls[2], sid)

        remove(Path(hosts[2]["data"]))
        wait_until(lambda: not is_running(hosts[2]["pid"]), "host-c to end", within_s=ENDED_S)
        wait_until(lambda: is_ready(urls[2]), "host-c to serve again", within_s=BACK_S)

        for sid in sids:
            expect_told(facts, urls[2], sid)
        bodies.append("through host-c again")
        sids.append(create(facts, urls[2], bodies[-1]))
        expect_delivered_once(facts, bodies)
        assert up.stop() == 0


def test_two_hosts_on_this_machine_are_refused_with_the_reason(tmp_path: Path) -> None:
    refused = trunkline("up", "--hosts", "2", "--data", str(tmp_path / "data"))

    assert refused.returncode == 1
    assert "no quorum" in refused.stderr
    assert "run one, or three" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_the_folder_of_one_host_is_not_taken_for_three_nor_that_of_three_for_one(
    tmp_path: Path,
) -> None:
    with running.up(tmp_path / "one"):
        pass
    with running.up(tmp_path / "three", "--hosts", "3"):
        pass

    to_three = trunkline("up", "--hosts", "3", "--data", str(tmp_path / "one"))
    to_one = trunkline("up", "--data", str(tmp_path / "three"))
    to_five = trunkline("up", "--hosts", "5", "--data", str(tmp_path / "three"))
    host_alone = trunkline("up", "--data", str(tmp_path / "three" / "host-a"))

    assert "folder of one host alone, and --hosts asks for 3" in to_three.stderr
    assert "start them with --hosts" in to_one.stderr
    assert "start it with '--hosts 3'" in to_five.stderr
    assert "set cluster.hosts" in host_alone.stderr
    assert {each.returncode for each in (to_three, to_one, to_five, host_alone)} == {1}


def test_a_host_waits_for_a_majority_and_one_with_another_secret_is_refused(
    tmp_path: Path,
) -> None:
    with machines(tmp_path) as cluster:
        # Alone it waits, says for whom, and does not fail; a stop is heeded meanwhile.
        alone = cluster.start("a")
        wait_until(lambda: alone.events("cluster.waiting"), "host-a to say that it waits")
        reason = alone.events("cluster.waiting")[0]["reason"]
        assert reason.startswith("1 of 3 hosts are there; host-b at 127.0.0.3:")
        assert not alone.is_ready()
        end(alone.process)
        assert alone.process.returncode == 0

        # Two are a majority, but the first start is that of all three, as is said; then it goes on.
        three = [cluster.start(letter) for letter in "ab"]
        wait_until(
            lambda: any(
                FIRST_START in said["reason"] for said in three[0].events("cluster.waiting")
            ),
            "host-a to say what the first start needs",
            within_s=SAID_S,
        )
        assert not any(host.is_ready() for host in three)
        three.append(cluster.start("c"))
        wait_until(lambda: all(host.is_ready() for host in three), "all to serve", within_s=BACK_S)
        for host in three:
            end(host.process)
        first, second = cluster.start("a"), cluster.start("b")
        wait_until(lambda: first.is_ready() and second.is_ready(), "two to serve", within_s=BACK_S)

        # One with another secret is told by whom it was refused; they tell of it, and go on.
        stranger = cluster.start("c", token=cluster.token_file("another"), data="stranger")
        assert stranger.process.wait(timeout=ENDED_S) == 1
        said = stranger.said.read_text("utf-8")
        assert "refuse this host's cluster token" in said
        assert f"host-a at {cluster.hosts[0].removeprefix('host-a@').rpartition(':')[0]}" in said
        wait_until(lambda: first.events("cluster.refused"), "host-a to tell of the stranger")
        assert first.process.poll() is None

        # A host that has lost its disk comes back on an empty one.
        empty = cluster.start("c", data="new-disk")
        wait_until(empty.is_ready, "the host with an empty disk to serve", within_s=BACK_S)


def certificate(folder: Path, name: str, address: str, authority: Path | None) -> Path:
    """A key and a certificate for `address`, signed by `authority` or by itself."""
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(cert),
    ]  # fmt: skip
    if authority is not None:
        command += ["-CA", str(authority), "-CAkey", str(authority.with_suffix(".key"))]
        command += ["-addext", f"subjectAltName=IP:{address}"]
        command += ["-addext", "basicConstraints=critical,CA:FALSE"]
        command += ["-addext", "extendedKeyUsage=serverAuth,clientAuth"]
    subprocess.run(command, check=True, capture_output=True, timeout=ENDED_S)
    key.chmod(0o600)
    return cert


@pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")
def test_hosts_with_certificates_are_a_cluster_and_one_without_is_not(tmp_path: Path) -> None:
    authority = certificate(tmp_path, "authority", "", None)
    with machines(tmp_path) as cluster:
        tls = {}
        for last, letter in enumerate("abc", start=2):
            cert = certificate(tmp_path, letter, f"127.0.0.{last}", authority)
            tls[letter] = (
                f'tls_cert = "{cert}"\ntls_key = "{cert.with_suffix(".key")}"\n'
                f'tls_ca = "{authority}"\n'
            )
        hosts = {letter: cluster.start(letter, tls=tls[letter]) for letter in "abc"}
        wait_until(
            lambda: all(host.is_ready() for host in hosts.values()),
            "all to serve",
            within_s=BACK_S,
        )

        end(hosts["c"].process)
        plain = cluster.start("c")
        wait_until(lambda: plain.events("cluster.waiting"), "the host without to wait")

        reason = plain.events("cluster.waiting")[0]["reason"]
        assert "host-a at 127.0.0.2" in reason
        assert not plain.is_ready()


async def write_timer(data: Path, name: str, due_in_s: float) -> None:
    async with open_door(Door.find(Layout(data)), clock=CLOCK, rng=random.Random()) as log:
        answer = await log.timers.write(
            0, name, CLOCK.wall() + due_in_s, b"{}", timeout_s=TIMER_WRITE_S
        )
        assert isinstance(answer, Accepted)


async def timers_that_stand(data: Path) -> object:
    async with open_door(Door.find(Layout(data)), clock=CLOCK, rng=random.Random()) as log:
        return await log.timers.count(0, timeout_s=TIMER_WRITE_S)


def test_one_host_becomes_three_and_keeps_all_it_had(tmp_path: Path) -> None:
    with machines(tmp_path) as cluster:
        # One host alone, with messages that are done and a timer that stands.
        with running.up(tmp_path / "one", carrier=cluster.carrier) as up:
            facts = up.facts | {"simulator_url": cluster.carrier}
            bodies = [f"before {turn}" for turn in range(20)]
            sids = [create(facts, facts["base_url"], body) for body in bodies]
            for sid in sids:
                expect_told(facts, facts["base_url"], sid)
            asyncio.run(write_timer(tmp_path / "one", "in-an-hour", 3600.0))
        backup = str(tmp_path / "one.tar.gz")
        assert trunkline("backup", "--data", str(tmp_path / "one"), "--to", backup).returncode == 0

        # Its backup is restored on each host of a cluster.
        for letter in "abc":
            file = cluster.settings_file(letter)
            restored = trunkline("restore", "--from", backup, "--config", str(file))
            assert restored.returncode == 0, restored.stderr
        hosts = [cluster.start(letter) for letter in "cba"]
        wait_until(lambda: all(host.is_ready() for host in hosts), "all to serve", within_s=BACK_S)

        # Each tells of what was before, nothing is sent again, and the timer stands.
        urls = [json.loads(host.ready.read_bytes())["base_url"] for host in hosts]
        for url in urls:
            for sid in sids:
                expect_told(facts, url, sid)
        for url in urls:
            bodies.append(f"after, through {url}")
            expect_told(facts, url, create(facts, url, bodies[-1]))
        expect_delivered_once(facts, bodies)
        assert asyncio.run(timers_that_stand(tmp_path / "host-b")) == 1
        assert [path for path in tmp_path.glob("host-?/grow") if path.exists()] == []
