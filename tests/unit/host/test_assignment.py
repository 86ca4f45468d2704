"""Shards over hosts: evenly, the same for everybody, and nothing moves that need not."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from trunkline.host.assignment import assign
from trunkline.log.shards import SHARDS
from trunkline.log.timers import TIMER_SHARDS

HOSTS = ("a", "b", "c")

names = st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, max_size=9, unique=True)


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[str], set[str]]:
    """The members, and those of them that are present."""
    hosts = draw(names)
    return hosts, set(draw(st.lists(st.sampled_from(hosts), min_size=1, unique=True)))


def test_three_hosts_have_four_of_twelve_shards_each() -> None:
    assert Counter(assign("shard", SHARDS, HOSTS, HOSTS)) == {"a": 4, "b": 4, "c": 4}


def test_when_one_of_three_is_gone_two_have_six_each_and_keep_what_they_had() -> None:
    before = assign("shard", SHARDS, HOSTS, HOSTS)
    after = assign("shard", SHARDS, HOSTS, ("a", "c"))

    assert Counter(after) == {"a": 6, "c": 6}
    assert all(now == was for was, now in zip(before, after, strict=True) if was in ("a", "c"))


def test_who_comes_back_gets_its_own_and_nothing_else_moves() -> None:
    before = assign("shard", SHARDS, HOSTS, HOSTS)
    without = assign("shard", SHARDS, HOSTS, ("a", "b"))

    moved = {was for was, now in zip(before, without, strict=True) if was != now}

    assert moved == {"c"}


def test_nobody_present_means_nobody_has_anything() -> None:
    assert assign("shard", SHARDS, HOSTS, ()) == (None,) * SHARDS


def test_what_is_divided_is_divided_differently_by_name() -> None:
    of_timers = assign("timers", TIMER_SHARDS, HOSTS, HOSTS)

    assert sorted(Counter(of_timers).values()) == [1, 1, 2]


def test_the_shards_of_a_host_that_is_gone_go_to_the_zone_that_has_fewest() -> None:
    hosts = ("a", "b", "c", "d")
    zones = {"a": "north", "b": "north", "c": "south", "d": "south"}
    after = Counter(assign("shard", SHARDS, hosts, ("a", "b", "d"), zones))

    assert after == {"a": 4, "b": 4, "d": 4}
    first = next(
        now
        for was, now in zip(
            assign("shard", SHARDS, hosts, hosts),
            assign("shard", SHARDS, hosts, ("a", "b", "d"), zones),
            strict=True,
        )
        if was == "c"
    )
    assert first == "d", "its zone has 3 of 9, and the other 6"


@given(clusters(), st.integers(0, 40))
def test_it_is_even_over_those_present(cluster: tuple[list[str], set[str]], shards: int) -> None:
    hosts, present = cluster
    owners = assign("shard", shards, hosts, present)

    loads = Counter(dict.fromkeys(present, 0))
    loads.update(owner for owner in owners if owner is not None)
    assert set(loads) == present
    assert sum(loads.values()) == shards
    assert max(loads.values()) - min(loads.values()) <= 1


@given(clusters(), st.randoms(use_true_random=False))
def test_it_is_the_same_in_whatever_order_the_hosts_are_named(
    cluster: tuple[list[str], set[str]], rng: object
) -> None:
    hosts, present = cluster
    again = sorted(hosts, reverse=True)

    assert assign("shard", SHARDS, hosts, present) == assign(
        "shard", SHARDS, again, sorted(present, reverse=True)
    )


@given(clusters())
def test_who_is_present_keeps_its_own_whoever_else_is_not(
    cluster: tuple[list[str], set[str]],
) -> None:
    hosts, present = cluster
    everybody = assign("shard", SHARDS, hosts, hosts)
    now = assign("shard", SHARDS, hosts, present)

    assert all(owner == now[shard] for shard, owner in enumerate(everybody) if owner in present)
