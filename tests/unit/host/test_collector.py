"""What a serving process asks of the collector of cycles."""

import gc
from collections.abc import Iterator

import pytest

from trunkline.host import collector


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def looked_at() -> set[int]:
    """The identities of all that the next full collection would look at."""
    return {id(thing) for thing in gc.get_objects()}


def test_what_stands_before_serving_is_not_looked_at_while_serving() -> None:
    standing: list[list[object]] = [[] for _ in range(1000)]
    assert looked_at().issuperset(map(id, standing))

    collector.settle()

    assert looked_at().isdisjoint(map(id, standing))


def test_cycles_made_later_are_still_found() -> None:
    collector.settle()

    cycle: list[object] = []
    cycle.append(cycle)
    del cycle

    assert gc.isenabled()
    assert gc.collect() >= 1
