"""Leases of the processes of one host: live while the process is, dead for ever afterwards."""

import itertools
import os
from pathlib import Path

import pytest

from trunkline.domain.ports import Entropy
from trunkline.host.leases import FileLeases
from trunkline.messaging.lease import Leases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    leases = tmp_path / "leases"
    leases.mkdir()
    return leases


@pytest.fixture
def entropy() -> Entropy:
    numbers = itertools.count()
    return lambda count: next(numbers).to_bytes(count, "big")


def test_a_process_sees_its_own_lease_and_that_of_another_live_one(
    folder: Path, entropy: Entropy
) -> None:
    one: Leases = FileLeases(folder, host="host-1", entropy=entropy)
    two: Leases = FileLeases(folder, host="host-1", entropy=entropy)

    assert one.is_own_valid()
    assert one.is_live(one.own)
    assert one.is_live(two.own)
    assert two.is_live(one.own)


def test_a_lease_given_up_is_dead(folder: Path, entropy: Entropy) -> None:
    one = FileLeases(folder, host="host-1", entropy=entropy)
    two = FileLeases(folder, host="host-1", entropy=entropy)

    one.close()
    one.close()

    assert not one.is_own_valid()
    assert not one.is_live(one.own)
    assert not two.is_live(one.own)


def test_the_lease_of_a_process_that_vanished_is_dead_and_cleared_away(
    folder: Path, entropy: Entropy
) -> None:
    gone = FileLeases(folder, host="host-1", entropy=entropy)
    assert gone._descriptor is not None
    os.close(gone._descriptor)  # what the kernel does at kill -9

    later = FileLeases(folder, host="host-1", entropy=entropy)

    assert not later.is_live(gone.own)
    assert [path.name for path in folder.iterdir()] == [later.own]


def test_clearing_away_spares_the_living(folder: Path, entropy: Entropy) -> None:
    one = FileLeases(folder, host="host-1", entropy=entropy)
    two = FileLeases(folder, host="host-1", entropy=entropy)

    assert two.is_live(one.own)
    assert one.is_own_valid()


@pytest.mark.parametrize("name", ["", "host-1-1-00", "../lease", "/etc/passwd", "a/b", "A", "."])
def test_a_name_nobody_has_is_dead(folder: Path, entropy: Entropy, name: str) -> None:
    leases = FileLeases(folder, host="host-1", entropy=entropy)

    assert not leases.is_live(name)


def test_a_process_whose_lease_was_deleted_may_not_act(folder: Path, entropy: Entropy) -> None:
    leases = FileLeases(folder, host="host-1", entropy=entropy)

    (folder / leases.own).unlink()

    assert not leases.is_own_valid()
