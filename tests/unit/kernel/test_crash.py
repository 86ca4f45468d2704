"""Crash points: one process dies at one place once, and every place is in the code and the docs."""

from pathlib import Path

import pytest

from trunkline.kernel.crash import (
    PASSINGS_MAX,
    CrashHere,
    CrashPoint,
    arm,
    mark_of,
    never_crash,
    read_crash_at,
)

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src" / "trunkline"
PAGE = ROOT / "docs" / "how-to" / "crash-points.md"


class Deaths:
    """Counts in place of dying."""

    def __init__(self, folder: Path) -> None:
        self.count = 0
        self._folder = folder

    def armed(self, crash_at: str) -> CrashHere:
        return arm(crash_at, self._folder, die=self._die)

    def _die(self) -> None:
        self.count += 1


@pytest.fixture
def deaths(tmp_path: Path) -> Deaths:
    return Deaths(tmp_path)


def test_a_process_that_is_not_armed_never_dies(deaths: Deaths) -> None:
    assert deaths.armed("") is never_crash
    for point in CrashPoint:
        never_crash(point)


def test_an_armed_process_dies_at_its_point_and_at_no_other(deaths: Deaths, tmp_path: Path) -> None:
    crash_here = deaths.armed("claim-after")

    for point in CrashPoint:
        if point is not CrashPoint.CLAIM_AFTER:
            crash_here(point)
    assert deaths.count == 0
    crash_here(CrashPoint.CLAIM_AFTER)

    assert deaths.count == 1
    assert mark_of(tmp_path, CrashPoint.CLAIM_AFTER).name == "crashed-claim-after"
    assert mark_of(tmp_path, CrashPoint.CLAIM_AFTER).exists()


def test_a_process_can_be_told_to_die_at_a_later_passing(deaths: Deaths) -> None:
    crash_here = deaths.armed("fence-before:3")

    crash_here(CrashPoint.FENCE_BEFORE)
    crash_here(CrashPoint.FENCE_BEFORE)
    assert deaths.count == 0
    crash_here(CrashPoint.FENCE_BEFORE)

    assert deaths.count == 1


def test_the_process_that_takes_over_is_not_armed_again(deaths: Deaths) -> None:
    deaths.armed("fence-before")(CrashPoint.FENCE_BEFORE)

    successor = deaths.armed("fence-before")

    assert successor is never_crash
    assert deaths.armed("claim-before") is not never_crash


def test_of_several_armed_processes_only_one_dies(deaths: Deaths) -> None:
    several = [deaths.armed("fence-before") for _ in range(3)]

    for crash_here in several:
        crash_here(CrashPoint.FENCE_BEFORE)

    assert deaths.count == 1


@pytest.mark.parametrize(
    "text", ["claim", "", "claim-after:", "claim-after:0", "claim-after:-1", "claim-after:1:1",
             f"claim-after:{PASSINGS_MAX + 1}"],
)  # fmt: skip
def test_what_is_no_crash_point_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"claim|CrashPoint"):
        read_crash_at(text)


def test_every_crash_point_stands_at_one_place_in_the_code() -> None:
    code = "\n".join(
        path.read_text("utf-8") for path in SOURCE.rglob("*.py") if path.name != "crash.py"
    )

    assert {point: code.count(f"crash_here(CrashPoint.{point.name})") for point in CrashPoint} == (
        dict.fromkeys(CrashPoint, 1)
    )


def test_every_crash_point_is_documented_and_none_besides() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]

    assert [row.split("`")[1] for row in rows] == [point.value for point in CrashPoint]
