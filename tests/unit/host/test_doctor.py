"""The doctor: that it looks at everything, and which bounds it finds."""

from pathlib import Path

from trunkline.host import bounds, config, doctor, engine_child, layout
from trunkline.host.doctor import Verdict
from trunkline.kernel import FakeClock, SystemClock


def test_a_sound_machine_has_no_faults(tmp_path: Path) -> None:
    flags = {
        "host.data": tmp_path / "data",
        "host.http": "127.0.0.1:0",
        "carrier.url": "http://127.0.0.1:9",
    }

    findings = doctor.examine(config.load(None, flags, {}), clock=SystemClock())

    assert [finding for finding in findings if finding.verdict is Verdict.FAULT] == []
    assert {finding.subject for finding in findings} >= {"python", "data folder", "flush", "clock"}


def test_a_flush_that_takes_no_time_is_not_believed(tmp_path: Path) -> None:
    finding = doctor._flush(tmp_path, FakeClock())

    assert finding.verdict is Verdict.WARNING
    assert "too fast" in finding.what


def test_a_clock_that_nobody_set_is_a_fault() -> None:
    assert doctor._clock(FakeClock(wall=0.0), 0.0).verdict is Verdict.FAULT


def test_a_clock_that_jumps_is_noticed() -> None:
    clock = FakeClock(wall=1_800_000_000.0)
    offset = clock.wall() - clock.monotonic()
    clock.jump_wall(2.0)

    assert doctor._clock(clock, offset).verdict is Verdict.WARNING


def test_the_bounds_of_a_module_are_its_own_and_have_units() -> None:
    found = {bound.name: bound for bound in bounds.bounds_of(engine_child)}

    assert found["ENGINE_STOP_S"].value == engine_child.ENGINE_STOP_S
    assert found["ENGINE_STOP_S"].unit == "seconds"
    assert "DISMISSAL" not in found
    assert "LOCK_WAIT_S" in {bound.name for bound in bounds.bounds_of(layout)}


def test_a_unit_is_read_from_the_end_of_a_name() -> None:
    assert bounds.unit_of("WEBHOOK_DEADLINE_S") == "seconds"
    assert bounds.unit_of("DATA_PATH_BYTES_MAX") == "bytes"
    assert bounds.unit_of("WINDOW_MAX") == ""
    assert bounds.unit_of("FLUSH_SLOW_MS") == "milliseconds"
    assert bounds.unit_of("STATUS") is None
    assert bounds.unit_of("Deadline_s") is None
