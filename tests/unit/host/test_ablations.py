"""What is left out on purpose can be left out in drills alone, and is left out indeed."""

from pathlib import Path

import pytest

from trunkline.domain.events import Kind, Tombstone, Type
from trunkline.drills.conduct import DRILL_MARK
from trunkline.host import engine_cluster
from trunkline.host.ablations import ABLATIONS, MARK, Parts, parts_of
from trunkline.host.config import SETTINGS
from trunkline.host.engine_cluster import EngineCluster
from trunkline.host.engine_conf import EnginePlan, render
from trunkline.host.listen import Address
from trunkline.host.refusal import ConfigError
from trunkline.host.roster import Member
from trunkline.kernel import Budget, FakeClock
from trunkline.log.engines.memory import MemoryLog
from trunkline.log.event import Event, encode, encode_body
from trunkline.log.interface import Accepted


def test_nothing_is_left_out_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert parts_of("", tmp_path) == Parts()


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_host_that_serves_somebody_refuses_to_leave_anything_out(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="is not the data folder of a drill"):
        parts_of(name, tmp_path / "hosts" / "host-1")


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_host_of_a_drill_leaves_it_out(name: str, tmp_path: Path) -> None:
    (tmp_path / DRILL_MARK).touch()

    assert parts_of(name, tmp_path / "hosts" / "host-1") is ABLATIONS[name]


def test_the_mark_of_a_drill_is_the_one_that_hosts_look_for() -> None:
    assert DRILL_MARK == MARK


def test_the_setting_takes_every_row_of_the_table() -> None:
    kind = next(each.kind for each in SETTINGS if each.key == "host.break_protection")

    assert [kind.read(name) for name in ABLATIONS] == list(ABLATIONS)


@pytest.mark.parametrize(("name", "is_flushed"), [("", True), ("flush", False), ("claims", True)])
def test_only_without_flushes_does_the_engine_answer_before(
    name: str, is_flushed: bool, tmp_path: Path
) -> None:
    (tmp_path / MARK).touch()
    data = tmp_path / "hosts"
    plan = EnginePlan("one", None, data, data, 1, is_flushed=parts_of(name, data).is_flushed)

    text = render(plan, Address.parse("127.0.0.1:1"), "made-up")

    assert ("sync_interval: always" in text) is is_flushed


@pytest.mark.parametrize(("name", "is_watched"), [("", True), ("timeouts", False)])
def test_only_without_timeouts_do_engines_not_ask_each_other_whether_they_are_there(
    name: str, is_watched: bool, tmp_path: Path
) -> None:
    (tmp_path / MARK).touch()
    own, peer = Member.parse("a@10.0.0.1"), Member.parse("b@10.0.0.2")
    cluster = EngineCluster("c1", own, (peer,), "made-up", "made-up")

    lines = engine_cluster.render(cluster, is_watched=parts_of(name, tmp_path / "hosts").is_watched)

    assert any("ping_interval" in line for line in lines) is is_watched


def test_only_without_a_budget_can_every_retry_be_paid(tmp_path: Path) -> None:
    (tmp_path / MARK).touch()
    well, broken = (
        Budget(parts_of(name, tmp_path / "hosts").retry_budget) for name in ("claims", "budget")
    )
    for budget in (well, broken):
        budget.deposit(0.0)

    assert sum(well.withdraw(0.0) for _ in range(1_000)) == 10
    assert sum(broken.withdraw(0.0) for _ in range(1_000)) == 1_000


@pytest.mark.anyio
async def test_without_fencing_a_tombstone_is_said_to_stand_and_does_not() -> None:
    log = MemoryLog(clock=FakeClock())
    fenced = ABLATIONS["fencing"].fenced(log)
    tombstone = Event(
        id="one:tombstone",
        kind=Kind.MESSAGE,
        type=Type.TOMBSTONE,
        sid="SM" + "0" * 32,
        account="AC" + "0" * 32,
        at=0.0,
        by_host="host-1",
        data=encode_body(Tombstone(for_shard=1)),
    )

    answer = await fenced.publish(0, "ev.0.x", encode(tombstone), expected=0, timeout_s=1.0)

    assert isinstance(answer, Accepted)
    assert await log.read_first(0, "ev.0.x", timeout_s=1.0) is None
    assert isinstance(
        await fenced.publish(0, "ev.0.x", b"another", expected=0, timeout_s=1.0), Accepted
    )
    assert await log.read_first(0, "ev.0.x", timeout_s=1.0) is not None
