"""What the simulated carrier says, in our words."""

import pytest

from trunkline.messaging.carrier import ReceiptItem
from trunkline.messaging.simulated_words import item_of
from trunkline.protocols import simulated as wire


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("2611251330", "2611251330"),
        ("261125133059", "2611251330"),
        ("", ""),
        ("yesterday", ""),
        ("26112513300", ""),
        ("\u0662611251330", ""),
        ("2611251330\n", ""),
    ],
)
def test_a_done_date_is_ten_digits_or_none(said: str, kept: str) -> None:
    receipt = wire.Receipt(
        item_id="receipt-1", message_id="sim-1", reference="r", status="delivered", done_date=said
    )

    item = item_of(receipt)

    assert isinstance(item, ReceiptItem)
    assert item.done_date == kept
