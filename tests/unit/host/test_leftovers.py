"""What a process leaves that dies between the writing and the renaming of a small file."""

import os
from collections.abc import Callable
from pathlib import Path

import prometheus_client
import pytest
from msgspec import convert

from trunkline.host import durable, leftovers, retain
from trunkline.host.data_folder import open_folder
from trunkline.host.layout import Layout
from trunkline.host.metrics import MetricsFile
from trunkline.kernel import FakeClock
from trunkline.log.engines.jetstream import positions
from trunkline.replica import schema

FOUND = convert(
    dict.fromkeys(retain.Found.__struct_fields__, 0) | {"waiting_for": ""}, retain.Found
)


class Died(BaseException):
    """Stands for kill -9: nothing that the writer does for an error is done."""


def die(*_: object) -> None:
    raise Died


def leave_metrics(layout: Layout) -> None:
    registry = prometheus_client.CollectorRegistry()
    MetricsFile(registry, layout.metrics_of(77), clock=FakeClock())._leave()


WRITERS: dict[str, Callable[[Layout], None]] = {
    "settings": lambda layout: durable.write_file(layout.settings, b"{}"),
    "format": lambda layout: durable.write_file(layout.format, b"{}"),
    "positions": lambda layout: positions.write(layout.positions, {}),
    "retention": lambda layout: retain.write(layout.retention, FOUND),
    "metrics": leave_metrics,
    "copy": lambda layout: schema.make(layout.replica, cluster="c"),
}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    open_folder(tmp_path / "data", entropy=os.urandom).release()
    made = Layout(tmp_path / "data")
    made.log.mkdir()
    return made


def names(layout: Layout) -> set[str]:
    return {str(path.relative_to(layout.data)) for path in layout.data.rglob("*")}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("is_locked", [False, True])
def test_the_half_of_a_dead_writer_is_gone_when_the_host_starts(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, writer: str, *, is_locked: bool
) -> None:
    before = names(layout)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", die)
        with pytest.raises(Died):
            WRITERS[writer](layout)
    assert names(layout) != before

    open_folder(layout.data, entropy=os.urandom, is_locked=is_locked).release()

    assert names(layout) == before


def test_halves_of_databases_and_of_snapshots_are_removed_with_what_belongs_to_them(
    layout: Layout,
) -> None:
    layout.snapshots.mkdir()
    halves = [
        layout.replica.with_name("replica.db.peer.new"),
        layout.replica.with_name("replica.db.new-wal"),
        layout.snapshots / "00000003.db.new",
        layout.snapshots / "00000003.db.new-journal",
    ]
    for half in halves:
        half.write_bytes(b"half")

    assert leftovers.clear_away(layout) == len(halves)

    assert not any(half.exists() for half in halves)


def test_nothing_else_is_touched(layout: Layout) -> None:
    layout.snapshots.mkdir()
    kept = [
        layout.log / "jetstream" / "1.new",
        layout.snapshots / "00000003.db",
        layout.replica.with_name("replica.db.set-aside"),
        layout.positions,
        layout.data / "new",
    ]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"whole")
    (layout.run / "folder.new").mkdir()
    before = names(layout)

    assert leftovers.clear_away(layout) == 0

    assert names(layout) == before
