"""How many parts a text takes on the air, and in which alphabet (3GPP TS 23.038, TS 23.040).

One character outside the GSM alphabet turns the whole text into UCS-2. A part of a long text is
shorter than a single one by its header, and a pair (an escape and its character, two surrogates)
is never cut in two, so that the count is what the carrier will bill.
"""

import re
from typing import Final, Literal, NamedTuple

Encoding = Literal["GSM-7", "UCS-2"]

# TS 23.040 §9.2.3.24.1: 140 octets a part, 6 of which a concatenation header takes.
GSM_SINGLE_SEPTETS: Final = 160
GSM_PART_SEPTETS: Final = 153
UCS2_SINGLE_UNITS: Final = 70
UCS2_PART_UNITS: Final = 67

# TS 23.038 §6.2.1, without the escape, which no text may contain as a character of its own.
BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
# TS 23.038 §6.2.1.1: each of these is an escape and a second septet.
EXTENSION: Final = "\f^{}\\[~]|€"

_ESCAPE: Final = "\x1b"
_IS_BASIC: Final = re.compile(f"[{re.escape(BASIC)}]*+\\Z").match
_IS_GSM: Final = re.compile(f"[{re.escape(BASIC + EXTENSION)}]*+\\Z").match
_ESCAPED: Final = str.maketrans({character: _ESCAPE + character for character in EXTENSION})


class Segments(NamedTuple):
    """`units` are septets in GSM-7 and UTF-16 code units in UCS-2."""

    encoding: Encoding
    segments: int
    units: int


def count(text: str) -> Segments:
    """The parts of `text`. An empty text still takes one: a message with media and no body."""
    if _IS_BASIC(text):
        units = len(text)
        if units <= GSM_SINGLE_SEPTETS:
            return Segments("GSM-7", 1, units)
        return Segments("GSM-7", -(-units // GSM_PART_SEPTETS), units)
    if _IS_GSM(text):
        return _count_escaped(text.translate(_ESCAPED))
    return _count_utf16(text.encode("utf-16-be", "surrogatepass"))


def _count_escaped(septets: str) -> Segments:
    units = len(septets)
    if units <= GSM_SINGLE_SEPTETS:
        return Segments("GSM-7", 1, units)
    parts = start = 0
    while start < units:
        end = start + GSM_PART_SEPTETS
        start = end - 1 if end < units and septets[end - 1] == _ESCAPE else end
        parts += 1
    return Segments("GSM-7", parts, units)


def _count_utf16(octets: bytes) -> Segments:
    units = len(octets) // 2
    if units <= UCS2_SINGLE_UNITS:
        return Segments("UCS-2", 1, units)
    parts = start = 0
    while start < units:
        end = start + UCS2_PART_UNITS
        opens_pair = end < units and 0xD8 <= octets[2 * (end - 1)] <= 0xDB
        start = end - 1 if opens_pair else end
        parts += 1
    return Segments("UCS-2", parts, units)
