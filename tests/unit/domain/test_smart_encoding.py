"""SmartEncoded: look-alikes go, everything else stays."""

from hypothesis import given
from hypothesis import strategies as st

from trunkline.domain.segment import count
from trunkline.domain.smart_encoding import plain


def test_what_a_word_processor_types_becomes_what_was_meant() -> None:
    written = "\u201cIt\u2019s \u2013 well\u2026\u201d\u00a0\uff21\u200b"

    assert plain(written) == '"It\'s - well..." A'
    assert count(written).encoding == "UCS-2"
    assert count(plain(written)).encoding == "GSM-7"


def test_what_has_a_meaning_of_its_own_stays() -> None:
    assert plain("Grüße, 漢字 😀 €") == "Grüße, 漢字 😀 €"


@given(st.text())
def test_doing_it_twice_is_no_different_from_once(text: str) -> None:
    assert plain(plain(text)) == plain(text)
