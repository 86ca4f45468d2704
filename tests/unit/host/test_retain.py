"""The retention as a host runs it: at which pace, and what doctor and metrics read of it."""

from pathlib import Path

import prometheus_client
import pytest

from trunkline.host import config, gauges, retain
from trunkline.host.config import Settings
from trunkline.host.refusal import ConfigError
from trunkline.kernel import FakeClock
from trunkline.kernel.crash import CrashPoint
from trunkline.log.interface import Extent
from trunkline.log.limits import KEY_WINDOW_S
from trunkline.log.trim import Waiting
from trunkline.replica.retention import Pace, Report

GIB = 1 << 30
REPORT = Report(
    at=1_000_000.0,
    extents={
        0: Extent(first=11, last=110, bytes=GIB // 4, bytes_max=GIB, subjects=40),
        1: Extent(first=1, last=100, bytes=GIB // 2, bytes_max=GIB, subjects=60),
    },
    oldest_at=900_000.0,
    horizon=800_000.0,
    waiting=Waiting(1, "dispatch", 17, 899_000.0),
    recent_messages=100,
    recent_s=3600.0,
)


def settings(**given: str) -> Settings:
    return config.load(None, {}, {f"TRUNKLINE_{name}": value for name, value in given.items()})


def test_an_operator_may_keep_the_log_longer_and_never_shorter() -> None:
    assert retain.pace_of(settings()) == Pace()
    assert retain.pace_of(settings(LOG_RETAIN_H="100")).trim.retain_s == 360_000.0
    with pytest.raises(ConfigError, match=r"log\.retain_h cannot be '47'"):
        settings(LOG_RETAIN_H="47")


@pytest.mark.parametrize(("months", "hours"), [("1", "721"), ("11", "8161")])
def test_the_log_may_not_outlast_the_records_of_what_was_erased(months: str, hours: str) -> None:
    with pytest.raises(ConfigError, match=r"log\.retain_h.* records\.keep_months"):
        settings(RECORDS_KEEP_MONTHS=months, LOG_RETAIN_H=hours)

    for kept, retained in ((months, "720"), ("0", "8784"), ("13", "8784")):
        allowed = settings(RECORDS_KEEP_MONTHS=kept, LOG_RETAIN_H=retained)
        assert allowed.log.retain_h == int(retained)


def test_no_record_leaves_while_its_key_must_be_known() -> None:
    assert config.MONTH_S > KEY_WINDOW_S


@pytest.mark.parametrize("point", CrashPoint)
def test_only_a_host_that_is_to_die_there_hastens_it(point: CrashPoint) -> None:
    pace = retain.pace_of(settings(CRASH_AT=f"{point}:3"))

    assert (pace == retain.DRILL) is (point in retain.HASTENED_BY)
    assert (pace == Pace()) is (point not in retain.HASTENED_BY)


def test_what_was_found_can_be_read_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "retention.json"
    found = retain.summed_up(REPORT, 172_800.0)

    retain.write(path, found)

    assert retain.read(path) == found
    assert (found.messages, found.resources, found.bytes) == (200, 100, 3 * GIB // 4)
    assert found.fullest == 0.5
    assert found.waiting_for == "dispatch"


def test_a_file_that_is_not_there_or_of_another_version_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "retention.json"
    assert retain.read(path) is None
    path.write_text('{"at": "yesterday"}')
    assert retain.read(path) is None


def test_metrics_show_what_the_log_holds(tmp_path: Path) -> None:
    registry = prometheus_client.CollectorRegistry()
    path = tmp_path / "retention.json"
    clock = FakeClock(wall=1_000_000.0)
    registry.register(gauges._Kept(path, clock))
    assert registry.get_sample_value("trunkline_log_bytes") is None

    retain.write(path, retain.summed_up(REPORT, 172_800.0))

    assert registry.get_sample_value("trunkline_log_fill_ratio") == 0.5
    assert registry.get_sample_value("trunkline_log_bytes") == 3 * GIB // 4
    assert registry.get_sample_value("trunkline_log_resources") == 100
    assert registry.get_sample_value("trunkline_log_oldest_seconds") == 100_000.0
