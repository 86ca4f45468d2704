"""The doctor: that it looks at everything, and which bounds it finds."""

import json
import os
import socket
from pathlib import Path

import pytest

from trunkline.host import bounds, config, doctor, engine_child, layout
from trunkline.host.data_folder import open_folder
from trunkline.host.doctor import Finding, Verdict
from trunkline.host.layout import Layout
from trunkline.host.listen import Address
from trunkline.kernel import FakeClock, SystemClock


def test_a_sound_machine_has_no_faults(tmp_path: Path) -> None:
    flags = {
        "host.data": tmp_path / "data",
        "host.http": "127.0.0.1:0",
        "carrier.url": "http://127.0.0.1:9",
    }

    findings = doctor.examine(config.load(None, flags, {}), clock=SystemClock())

    assert [finding for finding in findings if finding.verdict is Verdict.FAULT] == []
    subjects = {finding.subject for finding in findings}
    assert subjects >= {"python", "data folder", "flush", "clock"}
    assert subjects >= {"log", "trimming", "room for snapshots"}


def born(data: Path) -> Layout:
    open_folder(data, entropy=os.urandom).release()
    return Layout(data)


def folder_finding(layout: Layout) -> Finding:
    before = {path: path.read_bytes() for path in layout.data.rglob("*") if path.is_file()}
    finding = doctor._data_folder(config.load(None, {"host.data": layout.data}, {}))
    assert before == {path: path.read_bytes() for path in layout.data.rglob("*") if path.is_file()}
    return finding


def test_the_folder_of_a_host_is_sound(tmp_path: Path) -> None:
    assert folder_finding(born(tmp_path / "data")).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"format": 99, "created_by": "9.9"}, "written by version 9.9"),
        ({"product": "other"}, "belongs to 'other'"),
        (None, "is damaged"),
    ],
)
def test_a_folder_that_up_would_refuse_is_a_fault(
    tmp_path: Path, document: dict[str, object] | None, said: str
) -> None:
    layout = born(tmp_path / "data")
    changed = json.loads(layout.format.read_text()) | (document or {})
    layout.format.write_text(json.dumps(changed) if document else "{")

    finding = folder_finding(layout)

    assert finding.verdict is Verdict.FAULT
    assert said in finding.what
    assert finding.mend


def test_somebody_elses_folder_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    assert "thesis.txt" in folder_finding(Layout(tmp_path)).what


def test_credentials_that_are_garbled_or_missing_are_a_fault(tmp_path: Path) -> None:
    layout = born(tmp_path / "data")

    layout.credentials.write_text("{}")
    assert "is damaged" in folder_finding(layout).what

    layout.credentials.unlink()
    assert "is missing" in folder_finding(layout).what


def test_a_disk_with_less_room_than_the_log_may_take_is_worth_knowing(tmp_path: Path) -> None:
    settings = config.load(None, {"host.data": tmp_path, "log.bytes_max": 1 << 60}, {})

    finding = doctor._log_room(settings)

    assert finding.verdict is Verdict.WARNING
    assert "less than log.bytes_max" in finding.what


def test_an_address_of_another_machine_is_not_called_in_use(tmp_path: Path) -> None:
    finding = doctor._port("API", Address("192.0.2.1", 0), tmp_path, setting="--http")

    assert finding.verdict is Verdict.FAULT
    assert finding.what == "192.0.2.1:0 is not an address of this machine"
    assert "--http" in finding.mend


def test_an_address_that_another_program_has_is_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = Address("127.0.0.1", other.getsockname()[1])

        finding = doctor._port("API", address, tmp_path, setting="--http")

    assert finding.verdict is Verdict.FAULT
    assert "is already in use by another program" in finding.what


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
