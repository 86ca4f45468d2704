"""Backoff: how long to wait before the next try."""

import random

from hypothesis import given
from hypothesis import strategies as st

from trunkline.kernel import Backoff


@given(st.integers(0, 10_000), st.integers())
def test_a_wait_is_never_negative_nor_longer_than_its_turn_allows(attempt: int, seed: int) -> None:
    backoff = Backoff(base_s=0.5, cap_s=8.0, rng=random.Random(seed))

    delay_s = backoff.delay_s(attempt)

    assert 0.0 <= delay_s <= min(8.0, 0.5 * 2.0 ** min(attempt, 10))


def test_clients_cut_off_together_do_not_come_back_together() -> None:
    clients = [Backoff(1.0, 60.0, random.Random(seed)) for seed in range(20)]

    delays = {client.delay_s(3) for client in clients}

    assert len(delays) == 20
    assert max(delays) > 4.0
