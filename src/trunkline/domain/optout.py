"""STOP, START and HELP: what a handset says to a sender's number, and how it is answered.

A keyword is the whole message. The last of the stops and starts between a number and a handset
decides, by the moment at which it was written down and its SID: an order that every host agrees on.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

KEYWORD_CHARACTERS_MAX: Final = 40
"""A longer text is no keyword, whatever white space it is padded with."""


class Keyword(StrEnum):
    """What is asked for."""

    STOP = "stop"
    START = "start"
    HELP = "help"


WORDS: Final[Mapping[str, Keyword]] = {
    **dict.fromkeys(
        ("STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "OPTOUT", "REVOKE"),
        Keyword.STOP,
    ),
    **dict.fromkeys(("START", "YES", "UNSTOP"), Keyword.START),
    **dict.fromkeys(("HELP", "INFO"), Keyword.HELP),
}

REPLIES: Final[Mapping[Keyword, str]] = {
    Keyword.STOP: "You are unsubscribed and will get no more messages from this number. "
    "Reply START to subscribe again.",
    Keyword.START: "You are subscribed again and will get messages from this number. "
    "Reply HELP for help, STOP to unsubscribe.",
    Keyword.HELP: "Reply STOP to unsubscribe, START to subscribe again. "
    "Your operator's message rates may apply.",
}
"""None of them is a keyword itself, so two numbers that answer each other end at once."""


def keyword_in(text: str) -> Keyword | None:
    """The keyword that `text` is, in capitals or not, white space around it aside."""
    return WORDS.get(text.strip().upper()) if len(text) <= KEYWORD_CHARACTERS_MAX else None
