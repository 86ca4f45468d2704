"""SIDs: what they look like, and that a key always names the same one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.domain.sid import MMS, SMS, digits_of, is_sid, sid_from_entropy, sid_from_key

# What may stand in a header field, which is where keys come from.
_KEYS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=40)


def test_a_sid_from_entropy_is_its_bytes_in_hexadecimal() -> None:
    assert sid_from_entropy(SMS, bytes(range(16))) == "SM000102030405060708090a0b0c0d0e0f"


@pytest.mark.parametrize("size", [0, 8, 15, 17])
def test_a_sid_takes_exactly_sixteen_bytes(size: int) -> None:
    with pytest.raises(ValueError, match=f"not {size}"):
        sid_from_entropy(SMS, bytes(size))


@given(_KEYS)
def test_a_key_always_names_the_same_well_formed_sid(key: str) -> None:
    sid = sid_from_key(SMS, "AC1", "CreateMessage", key)

    assert is_sid(sid, SMS)
    assert sid == sid_from_key(SMS, "AC1", "CreateMessage", key)


@given(_KEYS, _KEYS)
def test_parts_do_not_run_into_each_other(one: str, other: str) -> None:
    assert sid_from_key(SMS, one, other) != sid_from_key(SMS, one + other)
    assert (sid_from_key(SMS, one, other) == sid_from_key(SMS, other, one)) == (one == other)


def test_one_key_names_one_resource_whatever_its_letters_are() -> None:
    short, with_media = (sid_from_key(prefix, "AC1", "key") for prefix in (SMS, MMS))

    assert short != with_media
    assert digits_of(short) == digits_of(with_media)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SM",
        "SM" + "a" * 31,
        "SM" + "a" * 33,
        "SM" + "A" * 32,
        "SM" + "g" * 32,
        "SM" + "a" * 32 + "\n",
        "sm" + "a" * 32,
        "AC" + "a" * 32,
    ],
)
def test_what_is_not_a_sid_is_not_taken_for_one(text: str) -> None:
    assert not is_sid(text, SMS, MMS)
