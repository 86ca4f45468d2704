"""How the log engine is started: flushing always, on loopback, and never promised a full disk."""

import re
from pathlib import Path

import pytest

from trunkline.host import engine_conf, storage
from trunkline.host.engine_conf import EnginePlan
from trunkline.host.listen import Address
from trunkline.host.refusal import EngineError
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


def test_the_log_is_not_promised_more_than_the_disk_has(tmp_path: Path) -> None:
    free = storage.free_bytes(tmp_path)

    assert engine_conf.store_bytes(plan(tmp_path, log_bytes_max=2 * MIB)) == 2 * MIB
    assert engine_conf.store_bytes(plan(tmp_path, log_bytes_max=100 * free)) < free


def test_a_program_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="correct --nats-server"):
        engine_conf.find_program(tmp_path / "absent")
