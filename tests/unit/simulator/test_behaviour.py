"""Behaviours: what may be set, and how a mistake is named."""

import pytest

from trunkline.simulator.behaviour import PERFECT, BadBehaviour, Bucket, Outcome, parse_behaviour


def test_an_empty_behaviour_is_the_perfect_carrier() -> None:
    assert parse_behaviour(b"{}") == PERFECT


def test_every_field_may_be_set_alone() -> None:
    assert parse_behaviour(b'{"outcome":"silent"}').outcome is Outcome.SILENT
    assert parse_behaviour(b'{"latency_ms":20}').latency_ms == 20


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"latency":1}', "latency"),
        (b'{"latency_ms":"1"}', "latency_ms"),
        (b'{"latency_ms":-1}', "latency_ms"),
        (b'{"latency_ms":60001}', "latency_ms"),
        (b'{"outcome":"explode"}', "outcome"),
        (b'{"receipt_copies":0}', "receipt_copies"),
        (b'{"receipt_error_code":"x"}', "receipt_error_code"),
        (b'{"loss_probability":1.5}', "loss_probability"),
        (b'{"rate_per_s":0}', "rate_per_s"),
        (b"[]", ""),
        (b"not json", ""),
        (b'{"\xff":1}', ""),
    ],
)
def test_a_mistake_names_its_field(body: bytes, field: str) -> None:
    with pytest.raises(BadBehaviour) as caught:
        parse_behaviour(body)

    assert caught.value.field == field


def test_a_slow_bucket_gives_its_first_token_at_once() -> None:
    bucket = Bucket(0.5, now=0.0)

    assert bucket.take(now=0.0) == 0.0
    assert bucket.take(now=1.0) == pytest.approx(1.0)
    assert bucket.take(now=2.0) == 0.0
