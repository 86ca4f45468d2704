"""One answer for the metrics of all processes of a host."""

import asyncio
import errno
import os
from pathlib import Path

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from trunkline.host.metrics import LEFT_EVERY_S, STALE_S, MetricsFile, forget, render
from trunkline.kernel import FakeClock, SystemClock


def registry_with(
    pool_calls: int, *, lag_s: float, name: str = ""
) -> prometheus_client.CollectorRegistry:
    registry = prometheus_client.CollectorRegistry()
    calls = prometheus_client.Counter("calls", "Calls.", ["pool"], registry=registry)
    calls.labels("log").inc(pool_calls)
    prometheus_client.Gauge("lag", "Lag.", registry=registry).set(lag_s)
    if name:
        prometheus_client.Counter(name, "Of one process alone.", registry=registry).inc()
    return registry


def values(text: bytes) -> dict[str, float]:
    families = list(text_string_to_metric_families(text.decode()))
    assert len({family.name for family in families}) == len(families), "each family stands once"
    return {sample.name: sample.value for family in families for sample in family.samples}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The file of another process."""
    path = tmp_path / "2.metrics"
    theirs = MetricsFile(registry_with(5, lag_s=9.0, name="sent"), path, clock=SystemClock())
    theirs._leave()
    return path


def test_counts_of_processes_add_up_and_measures_are_not_doubled(other: Path) -> None:
    own = registry_with(2, lag_s=1.0, name="accepted")

    found = values(render(own, other.with_name("1.metrics"), clock=SystemClock()))

    assert found["calls_total"] == 7
    assert found["lag"] == 1.0
    assert found["sent_total"] == 1
    assert found["accepted_total"] == 1


@pytest.mark.anyio
async def test_a_full_disk_ends_nobody_and_is_written_to_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, path, tried = FakeClock(), tmp_path / "1.metrics", []
    write_bytes = Path.write_bytes

    def write(to: Path, content: bytes) -> int:
        tried.append(to)
        if len(tried) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(to, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    async with asyncio.timeout(30.0), asyncio.TaskGroup() as tasks:
        leaving = tasks.create_task(
            MetricsFile(registry_with(1, lag_s=1.0), path, clock=clock).run()
        )
        while not path.exists():
            await clock.advance(LEFT_EVERY_S)
        leaving.cancel()

    assert len(tried) > 1


def test_a_process_does_not_count_itself_twice(other: Path) -> None:
    found = values(render(registry_with(2, lag_s=1.0), other, clock=SystemClock()))

    assert found["calls_total"] == 2


def test_what_a_dead_process_left_is_passed_over_and_forgotten(other: Path) -> None:
    written = other.stat().st_mtime
    os.utime(other, (written - STALE_S, written - STALE_S))

    found = values(render(registry_with(2, lag_s=1.0), other.with_name("1"), clock=SystemClock()))
    forget(other.parent)

    assert found["calls_total"] == 2
    assert not other.exists()


@pytest.mark.anyio
async def test_the_file_is_there_while_its_process_is(tmp_path: Path) -> None:
    path = tmp_path / "1.metrics"
    file = MetricsFile(registry_with(1, lag_s=0.0), path, clock=FakeClock())

    async with asyncio.timeout(5.0), asyncio.TaskGroup() as tasks:
        leaving = tasks.create_task(file.run())
        while not path.exists():
            await asyncio.sleep(0.001)
        leaving.cancel()

    assert not path.exists()
