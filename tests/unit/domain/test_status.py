"""The life of a message, as a table."""

import pytest

from trunkline.domain.status import FINAL, NEXT, Status, rank, steps


def ways(start: Status) -> list[tuple[Status, ...]]:
    """Every way from `start` to an end; endless if there is a circle."""
    if not NEXT[start]:
        return [(start,)]
    return [(start, *way) for after in NEXT[start] for way in ways(after)]


def test_every_status_has_a_row() -> None:
    assert set(NEXT) == set(Status)


@pytest.mark.parametrize("start", [Status.QUEUED, Status.ACCEPTED, Status.SCHEDULED])
def test_every_way_from_the_start_ends(start: Status) -> None:
    ends = {way[-1] for way in ways(start)}

    assert ends <= FINAL
    assert ends >= {Status.DELIVERED, Status.UNDELIVERED, Status.FAILED}


def test_every_step_goes_further() -> None:
    for status, following in NEXT.items():
        assert all(rank(after) > rank(status) for after in following)


def test_nothing_follows_an_end() -> None:
    assert {Status.DELIVERED, Status.UNDELIVERED, Status.FAILED, Status.CANCELED} <= FINAL
    assert Status.RECEIVED in FINAL
    assert not FINAL & {Status.QUEUED, Status.SENDING, Status.SENT}


def test_the_way_to_a_status_goes_through_every_step() -> None:
    assert steps(Status.QUEUED, Status.DELIVERED) == (
        Status.SENDING,
        Status.SENT,
        Status.DELIVERED,
    )
    assert steps(Status.QUEUED, Status.FAILED) == (Status.FAILED,)
    assert steps(Status.SENT, Status.SENT) == ()
    assert steps(Status.DELIVERED, Status.SENT) == ()
