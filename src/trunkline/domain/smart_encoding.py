"""SmartEncoded: look-alikes of GSM characters are replaced, so that a text stays in the short alphabet.

Only what a phone or a word processor puts in place of what was typed: quotes, dashes, spaces, dots,
marks that are not seen, and the wide and small forms of ASCII. What has a meaning of its own stays,
and then keeps the whole text in UCS-2 as before.
"""

import unicodedata
from collections.abc import Mapping
from typing import Final

_LOOK_ALIKES: Final[Mapping[str, str]] = {
    '"': "\u00ab\u00bb\u201c\u201d\u201e\u201f\u02ba\u02ee\u275d\u275e\u301d\u301e",
    "'": "\u2018\u2019\u201a\u201b\u2039\u203a\u02b9\u02bb\u02bc\u02bd\u02c8\u02ca\u02cb`\u00b4\u275b\u275c",
    "-": "\u2010\u2013\u2014\u2015\u2043",
    " ": "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\t",
    "\n": "\u2028\u2029",
    "": "\u200b\u200c\u2060\ufeff",
    "...": "\u2026",
    "!!": "\u203c",
    "*": "\u204e\u2217\u2731\u2732\u2733",
    "/": "\u2044\u2215\u00f7",
    ",": "\u3001",
    ".": "\u3002",
    "1/4": "\u00bc",
    "1/2": "\u00bd",
    "3/4": "\u00be",
}
_FORMS: Final = (range(0xFF01, 0xFF40), range(0xFF5B, 0xFF5F), range(0xFE50, 0xFE6C))
"""Fullwidth ASCII, and the small forms: what Unicode itself says stands for a character of ASCII. The
fullwidth small letters are not replaced by Twilio's calculator, and so not here."""
_KEPT: Final = frozenset((0xFE55, 0xFE58))
"""The small colon and the small dash, for the same reason."""


def _table() -> dict[int, str]:
    table = {ord(each): plain for plain, group in _LOOK_ALIKES.items() for each in group}
    for code in (code for form in _FORMS for code in form):
        plain = unicodedata.normalize("NFKC", chr(code))
        if plain.isascii() and code not in table and code not in _KEPT:
            table[code] = plain
    return table


_PLAIN: Final = _table()


def plain(text: str) -> str:
    """`text` with its look-alikes replaced. It may be longer, by up to two characters for each."""
    return (
        text if text.isascii() and "`" not in text and "\t" not in text else text.translate(_PLAIN)
    )
