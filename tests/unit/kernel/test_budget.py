"""The budget: extra tries are a share of the requests, and what was not used in time is gone."""

from hypothesis import given
from hypothesis import strategies as st

from trunkline.kernel import HEDGE_BUDGET, Budget, BudgetLimits


def test_a_tenth_of_the_requests_may_be_retried_and_a_trickle_besides() -> None:
    budget = Budget(BudgetLimits(ratio=0.1, per_s=1.0))
    for _ in range(200):
        budget.deposit(now=5.0)

    granted = sum(budget.withdraw(now=5.0) for _ in range(100))

    assert granted == 20 + 10


def test_a_quiet_client_may_still_retry() -> None:
    budget = Budget()
    budget.deposit(now=100.0)

    assert budget.withdraw(now=100.0)


def test_hedges_have_no_trickle() -> None:
    budget = Budget(HEDGE_BUDGET)
    for _ in range(19):
        budget.deposit(now=0.0)
    assert not budget.withdraw(now=0.0)

    budget.deposit(now=0.0)
    assert budget.withdraw(now=0.0)
    assert not budget.withdraw(now=0.0)


def test_requests_of_long_ago_pay_for_nothing() -> None:
    budget = Budget(BudgetLimits(ratio=0.1, per_s=0.0))
    for _ in range(100):
        budget.deposit(now=0.0)

    assert budget.withdraw(now=9.0)
    assert not budget.withdraw(now=11.0)


def test_a_spent_budget_refills_when_the_spending_is_long_ago() -> None:
    budget = Budget(BudgetLimits(ratio=0.0, per_s=0.1))

    assert budget.withdraw(now=0.0)
    assert not budget.withdraw(now=9.0)
    assert budget.withdraw(now=10.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 3.0)), max_size=200))
def test_no_order_of_events_grants_more_than_the_share_of_what_was_asked(
    events: list[tuple[bool, float]],
) -> None:
    budget = Budget(BudgetLimits(ratio=0.1, per_s=0.0))
    now, requests, extras = 0.0, 0, 0

    for is_request, pause_s in events:
        now += pause_s
        if is_request:
            budget.deposit(now)
            requests += 1
        else:
            extras += budget.withdraw(now)

    assert extras <= 0.1 * requests
