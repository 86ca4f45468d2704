"""How the log engine is started: flushing always, on loopback, and never promised a full disk."""

import dataclasses
import re
from pathlib import Path

import pytest

from trunkline.host import engine_cluster, engine_conf, storage
from trunkline.host.engine_cluster import EngineCluster, TlsFiles
from trunkline.host.engine_conf import EnginePlan
from trunkline.host.listen import Address
from trunkline.host.refusal import EngineError
from trunkline.host.roster import Member
from trunkline.host.setting_kinds import GIB, MIB


def plan(folder: Path, *, log_bytes_max: int = GIB, monitor: Address | None = None) -> EnginePlan:
    return EnginePlan("host-1", None, folder / "log", folder / "run", log_bytes_max, monitor)


def test_every_write_is_flushed_before_it_is_acknowledged(tmp_path: Path) -> None:
    conf = engine_conf.render(plan(tmp_path), Address("127.0.0.1", 4), "t")

    assert "sync_interval: always" in conf
    assert 'listen: "127.0.0.1:4"' in conf
    assert f"max_file_store: {1 << 50}" in conf, "the shards have bounds of their own"
    assert re.search(r"^http", conf, re.MULTILINE) is None


def test_the_monitor_is_served_only_when_asked_for(tmp_path: Path) -> None:
    asked = plan(tmp_path, monitor=Address("127.0.0.1", 8222))

    conf = engine_conf.render(asked, Address("127.0.0.1", 4), "t")

    assert 'http: "127.0.0.1:8222"' in conf


def test_an_engine_of_a_cluster_is_told_of_its_peers_and_not_of_itself(tmp_path: Path) -> None:
    own, *peers = (Member.parse(f"{name}@10.0.0.{n}") for n, name in enumerate("abc", 1))
    cluster = EngineCluster("c1", own, tuple(peers), "client-token", "route-password")
    asked = dataclasses.replace(plan(tmp_path), name="a", cluster=cluster)

    conf = engine_conf.render(asked, own.log, cluster.client_token)

    assert 'server_name: "a"' in conf
    assert 'listen: "10.0.0.1:4222"' in conf
    assert 'listen: "10.0.0.1:6222"' in conf
    assert 'token: "client-token"' in conf
    routes = re.findall(r'"nats://trunkline:route-password@([^"]+)"', conf)
    assert routes == ["10.0.0.2:6222", "10.0.0.3:6222"]
    assert "sync_interval: always" in conf
    assert "tls" not in conf


def test_while_the_secret_is_changed_one_is_accepted_and_both_are_shown() -> None:
    own, peer = Member.parse("a@10.0.0.1"), Member.parse("b@10.0.0.2")
    cluster = EngineCluster("c1", own, (peer,), "t", "new", former_passwords=("old",))

    conf = "\n".join(engine_cluster.render(cluster))

    assert re.findall(r'password: "(.*)"', conf) == ["new"]
    assert re.findall(r"trunkline:(\w+)@10.0.0.2:6222", conf) == ["new", "old"]


def test_with_certificates_nothing_between_engines_is_said_in_the_clear(tmp_path: Path) -> None:
    own = Member.parse("a@10.0.0.1")
    tls = TlsFiles(Path("/cert"), Path("/key"), Path("/ca"))
    cluster = EngineCluster("c1", own, (), "t", "p", tls)

    lines = engine_cluster.render(cluster)

    assert [line.strip() for line in lines].count("verify: true") == 2, "for clients and routes"
    assert "  handshake_first: true" in lines


@pytest.mark.parametrize("is_spread", [False, True])
def test_an_engine_is_told_its_zone_and_spreads_copies_when_asked_to(
    tmp_path: Path, *, is_spread: bool
) -> None:
    own = Member.parse("a@10.0.0.1")
    cluster = EngineCluster("c1", own, (), "t", "p", zone="rack-1", is_spread=is_spread)
    asked = dataclasses.replace(plan(tmp_path), name="a", cluster=cluster)

    conf = engine_conf.render(asked, own.log, "t")

    assert 'server_tags: ["zone:rack-1"]' in conf
    assert ('unique_tag: "zone:"' in conf) is is_spread


def test_a_host_alone_is_told_of_no_cluster(tmp_path: Path) -> None:
    assert "cluster" not in engine_conf.render(plan(tmp_path), Address("127.0.0.1", 4), "t")


def test_the_log_is_not_promised_more_than_the_disk_has(tmp_path: Path) -> None:
    free = storage.free_bytes(tmp_path)

    assert engine_conf.store_bytes(plan(tmp_path, log_bytes_max=2 * MIB)) == 2 * MIB
    assert engine_conf.store_bytes(plan(tmp_path, log_bytes_max=100 * free)) < free


def test_a_program_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="correct --nats-server"):
        engine_conf.find_program(tmp_path / "absent")
