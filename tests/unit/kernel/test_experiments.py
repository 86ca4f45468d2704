"""What the constants are for, in small: the experiments of `make bench-kernel`, shortened."""

from dataclasses import replace

from bench.kernel import ALL_SLOW as SLOW
from bench.kernel import HEDGED, NO_BUDGET, ONE_FAILS, ONE_FREEZES, POOL, WHOLE
from bench.kernel_model import Setup, run

SEED = 5


def test_one_replica_that_fails_in_a_millisecond_costs_nobody_anything() -> None:
    result = run(
        WHOLE, replace(ONE_FAILS, fault_from_s=1.0, fault_until_s=5.9, length_s=6.0), seed=SEED
    )

    assert result.share_at_first() < 0.01
    assert result.success() >= 0.999


def test_one_frozen_replica_is_hardly_noticed_with_hedges() -> None:
    result = run(
        HEDGED, replace(ONE_FREEZES, fault_from_s=2.0, fault_until_s=5.9, length_s=6.0), seed=SEED
    )

    assert result.success() == 1.0
    assert result.percentile_s(0.99) <= 0.07
    assert result.hedges_per_request() <= 0.05


def test_a_slow_down_is_over_when_it_is_over_only_with_budget_and_deadlines() -> None:
    short = replace(SLOW, fault_from_s=1.0, fault_until_s=3.0, length_s=5.0)

    whole = run(Setup("both", POOL), short, seed=SEED)
    without_deadlines = run(Setup("budget", POOL, tells_deadline=False), short, seed=SEED)
    without_budget = run(Setup("deadlines", NO_BUDGET), short, seed=SEED)

    assert whole.recovery_s() == 0.0
    assert without_deadlines.success(4.0) < 0.9
    assert without_budget.success(4.0) < 0.9


def test_the_same_seed_gives_the_same_run() -> None:
    short = replace(ONE_FREEZES, fault_from_s=0.5, fault_until_s=0.9, length_s=1.0)

    first, second = run(HEDGED, short, seed=SEED), run(HEDGED, short, seed=SEED)

    assert first.requests == second.requests
    assert first.requests != run(HEDGED, short, seed=SEED + 1).requests
