"""Telephone numbers in E.164."""

import pytest

from trunkline.domain.events import NumberOwned
from trunkline.domain.number import Number, is_e164


@pytest.mark.parametrize("text", ["+15125550100", "+4930123456", "+3544101000", "+" + "9" * 15])
def test_a_number_with_plus_country_code_and_digits_is_e164(text: str) -> None:
    assert is_e164(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "+12345",
        "15125550100",
        "++15125550100",
        "+05125550100",
        "+1512555010x",
        "+1 512 555 0100",
        "+15125550100\n",
        "+" + "9" * 16,
        "+١٥١٢٥٥٥٠١٠٠",
    ],
)
def test_anything_else_is_not(text: str) -> None:
    assert not is_e164(text)


def test_a_number_is_named_by_its_settings() -> None:
    settings = NumberOwned(sid="PN" + "1" * 32, phone_number="+15125550100", friendly_name="desk")
    number = Number(account="AC" + "2" * 32, settings=settings, created_at=1.0, updated_at=1.0)

    assert (number.sid, number.phone_number) == (settings.sid, settings.phone_number)
