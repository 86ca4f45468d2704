"""Every named scenario of the protocol ends well, and goes wrong without the rule it is about."""

import re
from pathlib import Path
from typing import Final

import pytest
from tests.unit.protocol.cluster import Cluster, Fate
from tests.unit.protocol.promises import SEEN_FROM_OUTSIDE, Broken, Promise
from tests.unit.protocol.scenarios import (
    DIGITS,
    NOT_YET,
    SCENARIOS,
    A,
    Scenario,
    accepted,
    deliver,
    is_publish,
    is_submit,
)

from trunkline.messaging.work import OnAmbiguous

PAGE: Final = Path(__file__).parents[3] / "docs" / "design" / "proof.md"
ROW: Final = re.compile(r"^\| (S\d+) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)

NOTICED: Final = SEEN_FROM_OUTSIDE | {Promise.A3, Promise.NOT_STUCK}
RULED: Final = [scenario for scenario in SCENARIOS if scenario.without is not None]


def named(scenario: Scenario) -> str:
    return f"{scenario.number} {scenario.name}"


def played(scenario: Scenario, cluster: Cluster) -> None:
    """The trace to its end, with what it must come to."""
    try:
        scenario.trace(cluster)
        cluster.drain()
        assert len(cluster.promises.handed_over.get(DIGITS, [])) == scenario.sent
        assert bool(cluster.promises.ambiguous(DIGITS)) is scenario.is_marked
    finally:
        cluster.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=named)
def test_a_named_scenario_sends_the_message_once_or_marks_it(scenario: Scenario) -> None:
    played(scenario, Cluster(policy=scenario.policy))


@pytest.mark.parametrize("scenario", RULED, ids=named)
def test_without_the_rule_it_is_about_a_scenario_goes_wrong(scenario: Scenario) -> None:
    cluster = Cluster(policy=scenario.policy, without=scenario.without, watched=NOTICED)

    with pytest.raises(AssertionError) as wrong:
        played(scenario, cluster)

    promise = wrong.value.promise if isinstance(wrong.value, Broken) else None
    assert promise is scenario.breaks


@pytest.mark.parametrize("policy", OnAmbiguous)
def test_a_worker_that_thaws_in_its_hand_over_sends_what_is_marked_already(
    policy: OnAmbiguous,
) -> None:
    cluster = Cluster(policy=policy)
    one, two = cluster.hosts
    assert accepted(cluster, one) == A
    frozen = one.worker
    sending = deliver(cluster, frozen, A)
    cluster.until(sending, is_submit)
    frozen.is_frozen = True
    cluster.lapse(frozen)
    cluster.finish(deliver(cluster, two.worker, A))

    assert cluster.promises.ambiguous(DIGITS) == {1}
    frozen.is_frozen = False
    cluster.finish(sending)
    cluster.drain()

    sent = [2, 1] if policy is OnAmbiguous.RESEND else [1]
    assert cluster.promises.handed_over[DIGITS] == sent


def test_a_worker_that_thaws_before_its_claim_sends_nothing() -> None:
    cluster = Cluster()
    one, two = cluster.hosts
    assert accepted(cluster, one) == A
    frozen = one.worker
    claiming = deliver(cluster, frozen, A)
    cluster.until(claiming, is_publish)
    frozen.is_frozen = True
    cluster.lapse(frozen)
    cluster.finish(deliver(cluster, two.worker, A))

    frozen.is_frozen = False
    cluster.step(claiming, Fate.WELL)
    cluster.drain()

    assert cluster.promises.handed_over[DIGITS] == [1]
    assert not cluster.promises.ambiguous(DIGITS)


def test_the_page_of_the_proof_names_every_scenario_and_what_becomes_of_it() -> None:
    on_page = {number: (name, where) for number, name, _, where in ROW.findall(PAGE.read_text())}

    played_names: dict[str, str] = {}
    for scenario in SCENARIOS:
        before = played_names.get(scenario.number)
        played_names[scenario.number] = f"{before}; {scenario.name}" if before else scenario.name
    expected = {number: (name, "played") for number, name in played_names.items()}
    expected |= NOT_YET
    assert on_page == expected
    assert set(on_page) == {f"S{number}" for number in range(1, 26)}
