"""Telephone numbers: the E.164 shape, and a number as its owner set it up."""

import re
from typing import Final

import msgspec

from trunkline.domain.events import NumberOwned

_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}\Z")


def is_e164(text: str) -> bool:
    """Whether `text` is `+`, a country code and at most 15 digits in all (ITU-T E.164 §6)."""
    return _E164.match(text) is not None


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """A telephone number that an account owns. Times are seconds since the epoch."""

    account: str
    settings: NumberOwned
    created_at: float
    updated_at: float

    @property
    def sid(self) -> str:
        return self.settings.sid

    @property
    def phone_number(self) -> str:
        return self.settings.phone_number
