"""Keywords: which texts are some, and that no answer is one."""

import pytest

from trunkline.domain.optout import REPLIES, Keyword, keyword_in


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        ("STOP", Keyword.STOP),
        (" stop\n", Keyword.STOP),
        ("StopAll", Keyword.STOP),
        ("revoke", Keyword.STOP),
        ("yes", Keyword.START),
        ("UNSTOP", Keyword.START),
        ("help", Keyword.HELP),
        ("Info", Keyword.HELP),
        ("please stop", None),
        ("STOP!", None),
        ("", None),
        ("stop" + " " * 1000, None),
    ],
)
def test_a_keyword_is_the_whole_message(text: str, keyword: Keyword | None) -> None:
    assert keyword_in(text) == keyword


def test_no_answer_is_a_keyword_and_each_takes_one_segment() -> None:
    assert REPLIES.keys() == set(Keyword)
    assert all(keyword_in(text) is None and len(text) <= 160 for text in REPLIES.values())
