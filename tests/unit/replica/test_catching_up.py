"""A host that starts has caught up when it has what the log held then, however much came since."""

from pathlib import Path

import pytest

from trunkline.kernel import FakeClock
from trunkline.log.engines.memory import MemoryLog
from trunkline.replica.progress import Progress, ends_of, has_reached, is_caught_up

pytestmark = pytest.mark.anyio


async def put(log: MemoryLog, count: int) -> None:
    for _ in range(count):
        await log.publish(3, "ev.3.message.changed.AC1", b"[]", expected=None, timeout_s=1.0)


async def test_what_others_write_meanwhile_does_not_move_the_goal(tmp_path: Path) -> None:
    clock = FakeClock()
    log = MemoryLog(clock=clock)
    progress = Progress(tmp_path / "progress", shards=log.shards, clock=clock)
    await put(log, 5)
    ends = await ends_of(log)
    assert ends is not None
    assert not has_reached(progress, ends)

    for shard in range(log.shards):
        progress.record(shard, sequence=0, complete_at=clock.wall())
    progress.record(3, sequence=4, complete_at=clock.wall())
    await put(log, 5)
    assert not has_reached(progress, ends)

    progress.record(3, sequence=5, complete_at=None)
    assert has_reached(progress, ends)
    assert not await is_caught_up(progress, log), "five more have come"
    progress.close()


async def test_a_copy_that_was_never_complete_has_reached_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    log = MemoryLog(clock=clock)
    progress = Progress(tmp_path / "progress", shards=log.shards, clock=clock)
    ends = await ends_of(log)

    assert ends is not None
    assert not has_reached(progress, ends)
    progress.close()
