"""Every interleaving that is tried keeps every promise; with a rule left out, one is found that
does not.

`HYPOTHESIS_PROFILE=deep` searches for longer, and leaves out every rule in turn; else only those
whose absence is seen within a second.
"""

import os
from typing import Final

import pytest
from hypothesis.stateful import run_state_machine_as_test
from tests.unit.protocol.faulty_log import Rule
from tests.unit.protocol.machine import CHECK, COUNTER_EXAMPLE, DEEP, Protocol
from tests.unit.protocol.promises import SEEN_FROM_OUTSIDE, Broken, Promise

IS_DEEP: Final = os.getenv("HYPOTHESIS_PROFILE") == "deep"

SOON_MISSED: Final = (Rule.ACK_LAST, Rule.OUTCOME_IN_CHAIN)


class WithoutFence(Protocol):
    """Every copy takes itself for the true one."""

    without = Rule.FENCE
    watched = SEEN_FROM_OUTSIDE


class WithoutClaim(Protocol):
    """Every worker gets its claim, whatever stands there."""

    without = Rule.CLAIM
    watched = SEEN_FROM_OUTSIDE


@pytest.mark.timeout(0 if IS_DEEP else 60)
def test_whatever_happens_each_message_is_sent_once_or_marked_ambiguous() -> None:
    run_state_machine_as_test(Protocol, settings=DEEP if IS_DEEP else CHECK)


@pytest.mark.parametrize("machine", [WithoutFence, WithoutClaim])
def test_without_the_fence_or_the_claim_the_same_search_finds_a_message_sent_twice(
    machine: type[Protocol],
) -> None:
    with pytest.raises(Broken) as found:
        run_state_machine_as_test(machine, settings=COUNTER_EXAMPLE)

    assert found.value.promise in {Promise.C1, Promise.C2}


@pytest.mark.timeout(0 if IS_DEEP else 60)
@pytest.mark.parametrize("rule", Rule if IS_DEEP else SOON_MISSED, ids=lambda rule: rule.name)
def test_without_any_one_of_the_rules_the_same_search_finds_a_broken_promise(rule: Rule) -> None:
    machine = type("WithoutOne", (Protocol,), {"without": rule})

    with pytest.raises(Broken):
        run_state_machine_as_test(machine, settings=COUNTER_EXAMPLE)
