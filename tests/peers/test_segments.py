"""Our count of segments against Twilio's own calculator, over thousands of random texts."""

import json
import os
import random
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest

from trunkline.domain.segment import BASIC, EXTENSION, Segments, count
from trunkline.domain.smart_encoding import plain

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

MODULES = Path(__file__).parents[2] / "build" / "segment-calculator" / "node_modules"
COUNT = Path(__file__).parent / "segments" / "count.js"
TEXTS = 4_000
COUNT_MAX_S = 60.0

ZERO_WIDTH_JOINER = "\u200d"
EMOJI = "😀🎉👍🚀🦄"
PEOPLE = "👨👩👧👦"
LENGTHS = ((0, 20), (60, 75), (125, 170), (200, 320), (320, 1_600))
ALPHABETS = (
    BASIC,
    BASIC + EXTENSION,
    BASIC + EXTENSION * 4,
    EXTENSION,
    "aé漢字Жש",
    EMOJI + "a",
    EMOJI,
    BASIC + "€漢",
)
"""None has characters that join to one that is seen: those are another test's."""


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None or not (MODULES / "sms-segments-calculator").is_dir():
        mend = "make peers, then make segment-calculator"
        warnings.warn(f"segments are not counted against Twilio's calculator: {mend}", stacklevel=1)
        pytest.skip(mend)
    return found


def texts(seed: int, alphabets: tuple[str, ...]) -> list[str]:
    dice = random.Random(seed)
    made = []
    for _ in range(TEXTS):
        alphabet, (least, most) = dice.choice(alphabets), dice.choice(LENGTHS)
        made.append("".join(dice.choices(alphabet, k=dice.randint(least, most))))
    # A carriage return and its line feed are one that is seen.
    return [text.replace("\r\n", "\n") for text in made]


def theirs(node: str, asked: list[str], *, smart: bool = False) -> list[dict[str, Any]]:
    counted = subprocess.run(
        [node, str(COUNT)],
        input="\n".join(json.dumps({"text": text, "smart": smart}) for text in asked),
        env={**os.environ, "NODE_PATH": str(MODULES)},  # noqa: TID251 - what it is started with
        capture_output=True,
        text=True,
        timeout=COUNT_MAX_S,
        check=False,
    )
    assert counted.returncode == 0, counted.stderr
    return [json.loads(line) for line in counted.stdout.splitlines()]


def shown(ours: Segments) -> dict[str, Any]:
    return {"encoding": ours.encoding, "segments": ours.segments}


def test_thousands_of_texts_are_counted_alike(node: str) -> None:
    asked = [text for text in texts(1, ALPHABETS) if text]

    counted = theirs(node, asked)

    assert len(counted) == len(asked)
    wrong = [
        (text, count(text), their)
        for text, their in zip(asked, counted, strict=True)
        if shown(count(text)) != their
    ]
    assert wrong == []


def test_every_character_chooses_the_alphabet_that_it_chooses_there(node: str) -> None:
    # Theirs has the control characters below the space in neither alphabet or in another place.
    asked = [chr(code) for code in range(0x20, 0xD800)]

    counted = theirs(node, asked)

    assert [their["encoding"] for their in counted] == [count(text).encoding for text in asked]


def test_a_text_at_each_edge_is_counted_alike(node: str) -> None:
    edges = [n for edge in (70, 134, 160, 201, 306, 459) for n in range(edge - 2, edge + 3)]
    asked = [
        filler * (length - len(last)) + last
        for length in edges
        for filler in ("a", "漢")
        for last in ("a", "€", "€a", "😀", "a😀", "😀a")
    ]

    counted = theirs(node, asked)

    assert counted == [shown(count(text)) for text in asked]


def test_joined_characters_are_cut_between_their_pairs_where_theirs_keeps_them_whole(
    node: str,
) -> None:
    """A known difference: a family of emoji is several characters that are shown as one. A carrier
    cuts by code units, as we do; their calculator never cuts one, and so may come to more."""
    asked = [text for text in texts(2, (PEOPLE + ZERO_WIDTH_JOINER * 3,)) if text]

    counted = theirs(node, asked)

    for text, their in zip(asked, counted, strict=True):
        assert count(text).segments <= their["segments"]
        if len(text.encode("utf-16-be")) <= 140:
            assert shown(count(text)) == their


def test_what_smart_encoding_replaces_is_replaced_there_too(node: str) -> None:
    asked = [chr(code) for code in range(0x20, 0x10000) if plain(chr(code)) != chr(code)]
    assert len(asked) > 130

    counted = theirs(node, [f"a{text}" for text in asked], smart=True)

    wrong = [
        f"{ord(text):04x}"
        for text, their in zip(asked, counted, strict=True)
        if their["encoding"] != "GSM-7" or count(plain(text)).encoding != "GSM-7"
    ]
    assert wrong == []
