"""Connection overrides in a URL's fragment: what is taken, clipped and passed over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.webhooks.overrides import ALL, DEFAULT, FIELDS_MAX, Overrides, RetryOn, overrides_of

URL = "https://app.example/sms"


@pytest.mark.parametrize(
    "fragment",
    ["", "#", "#section-2", "#ik=order-42", "#e=ashburn&sni=y", "#rc", "#rc=&ct=fast", "#ct=1.5"],
)
def test_what_says_nothing_that_is_known_leaves_the_defaults(fragment: str) -> None:
    assert (
        overrides_of(URL + fragment)
        == DEFAULT
        == Overrides(5.0, 15.0, 15.0, 1, frozenset({RetryOn.CONNECT}))
    )


def test_every_field_is_taken_beside_our_own_key() -> None:
    assert overrides_of(f"{URL}?a=b#ik=1&rc=3&rp=5xx,rt&ct=2000&rt=2500&tt=9000") == Overrides(
        connect_s=2.0,
        read_s=2.5,
        total_s=9.0,
        retries=3,
        policy=frozenset({RetryOn.SERVER_ERROR, RetryOn.READ}),
    )


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("ct=60000&rt=60000&tt=60000&rc=99", Overrides(10.0, 15.0, 15.0, 5)),
        ("ct=1&rt=0&tt=-5&rc=-1", Overrides(0.1, 0.1, 0.1, 0)),
        (f"ct={'9' * 4000}", Overrides(connect_s=10.0)),
        ("rc=0&rc=4", Overrides(retries=4)),
    ],
)
def test_numbers_beyond_their_bounds_count_as_the_bound(fragment: str, expected: Overrides) -> None:
    assert overrides_of(f"{URL}#{fragment}") == expected


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("all", ALL),
        ("ALL", ALL),
        ("4xx%2Cct", frozenset({RetryOn.CLIENT_ERROR, RetryOn.CONNECT})),
        ("rt,never", frozenset({RetryOn.READ})),
        ("never", DEFAULT.policy),
    ],
)
def test_a_policy_is_a_list_of_which_unknown_words_are_passed_over(
    text: str, policy: frozenset[RetryOn]
) -> None:
    assert overrides_of(f"{URL}#rp={text}").policy == policy


def test_only_so_many_fields_are_read() -> None:
    assert overrides_of(f"{URL}#{'a=b&' * FIELDS_MAX}rc=5") == DEFAULT


@given(st.text())
def test_no_fragment_breaks_it_and_all_stay_in_their_bounds(fragment: str) -> None:
    found = overrides_of(f"{URL}#{fragment}")

    assert 0.1 <= found.connect_s <= 10.0
    assert 0.1 <= found.read_s <= 15.0
    assert 0.1 <= found.total_s <= 15.0
    assert 0 <= found.retries <= 5
