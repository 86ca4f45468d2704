"""Segments: what a text costs on the air."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.domain.segment import BASIC, EXTENSION, count


@pytest.mark.parametrize(
    ("text", "encoding", "segments", "units"),
    [
        ("", "GSM-7", 1, 0),
        ("a" * 160, "GSM-7", 1, 160),
        ("a" * 161, "GSM-7", 2, 161),
        ("a" * 306, "GSM-7", 2, 306),
        ("a" * 307, "GSM-7", 3, 307),
        ("€" * 80, "GSM-7", 1, 160),
        ("€" * 81, "GSM-7", 2, 162),
        ("ж" * 70, "UCS-2", 1, 70),
        ("ж" * 71, "UCS-2", 2, 71),
        ("ж" * 134, "UCS-2", 2, 134),
        ("ж" * 135, "UCS-2", 3, 135),
        ("😀" * 35, "UCS-2", 1, 70),
        ("😀" * 36, "UCS-2", 2, 72),
    ],
)
def test_a_text_takes_as_many_segments_as_the_standard_says(
    text: str, encoding: str, segments: int, units: int
) -> None:
    assert count(text) == (encoding, segments, units)


def test_one_character_outside_the_alphabet_turns_the_whole_text_into_ucs2() -> None:
    assert count("a" * 100 + "`") == ("UCS-2", 2, 101)


def test_an_escape_and_its_character_are_never_cut_in_two() -> None:
    # 152 septets, then a pair that would straddle the first cut, then 152 more: 306 septets that
    # would fit two parts of 153, were the pair not moved whole into the second.
    assert count("a" * 152 + "€" + "a" * 151) == ("GSM-7", 2, 305)
    assert count("a" * 152 + "€" + "a" * 152) == ("GSM-7", 3, 306)


def test_a_surrogate_pair_is_never_cut_in_two() -> None:
    assert count("ж" * 66 + "😀" + "ж" * 65) == ("UCS-2", 2, 133)
    assert count("ж" * 66 + "😀" + "ж" * 66) == ("UCS-2", 3, 134)


def test_a_lone_surrogate_is_counted_and_not_an_error() -> None:
    assert count("\ud83d") == ("UCS-2", 1, 1)


@given(st.text(alphabet=BASIC + EXTENSION + "ж😀", max_size=1700))
def test_the_parts_always_hold_the_units_and_are_never_wasteful(text: str) -> None:
    encoding, segments, units = count(text)
    single, part = (160, 153) if encoding == "GSM-7" else (70, 67)

    assert (segments == 1) == (units <= single)
    if segments > 1:
        assert math.ceil(units / part) <= segments <= math.ceil(units / (part - 1))
