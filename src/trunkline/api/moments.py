"""Dates as the API writes and reads them: RFC 2822 out, ISO 8601 in, always in UTC.

Written by hand because `+0000` is looked for literally by clients, and `email.utils` writes `-0000`
or `GMT`; because `strftime` follows the locale; and because this runs three times a message.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

DAY_S: Final = 86_400.0
MOMENTS_CACHED_MAX: Final = 1024
"""Thousands of messages share a second, and each shows two or three."""

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_OFFSET: Final = re.compile(r"([+ -])([0-9]{1,5})days?\Z")
"""A plus sign that was not escaped arrives as a space. Five digits are centuries."""
_OFFSET_WITH_SPACE: Final = re.compile(r"(.*[0-9]:[0-9.]+) ([0-9]{2}:?[0-9]{2})\Z")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")


class Span(msgspec.Struct, frozen=True):
    """What a written date covers, `start` inclusive and `end` exclusive, in seconds since the epoch."""

    start: float
    end: float


class DayOffset(msgspec.Struct, frozen=True):
    """A date as so many days from today, before it if negative."""

    days: int


def rfc_2822(seconds: float) -> str:
    """Like `Thu, 24 Aug 2023 05:01:45 +0000`; fractions of a second are cut off."""
    return _rfc_2822(int(seconds))


@lru_cache(maxsize=MOMENTS_CACHED_MAX)
def _rfc_2822(seconds: int) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day:02} {_MONTHS[moment.month - 1]} {moment.year:04} "
        f"{moment.hour:02}:{moment.minute:02}:{moment.second:02} +0000"
    )


def span(text: str) -> Span | None:
    """What a date (that whole day) or a date and time (that second) covers; None if it is neither.

    A time without an offset is UTC.
    """
    seconds = _seconds(text)
    if seconds is None:
        return None
    start = float(int(seconds))
    return Span(start, start + (DAY_S if _DATE.match(text) else 1.0))


def whole_day(span: Span) -> Span:
    """The day, in UTC, in which `span` begins."""
    start = span.start // DAY_S * DAY_S
    return Span(start, start + DAY_S)


def instant(text: str) -> float | None:
    """The very moment that a date and time names, in seconds since the epoch; None if it is none, as
    a date alone is."""
    return _seconds(text) if ":" in text or "T" in text else None


def _seconds(text: str) -> float | None:
    # A plus sign that was not escaped arrives as a space, here as in a phone number.
    restored = _OFFSET_WITH_SPACE.sub(r"\1+\2", text)
    try:
        moment = datetime.fromisoformat(restored)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        # Raises where an offset leads out of the years that UTC can be written in.
        return moment.astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def date_or_offset(text: str) -> Span | DayOffset | None:
    """As `span`, and `-30days` or `+30days` too."""
    match = _OFFSET.match(text)
    if match is None:
        return span(text)
    sign, days = match.groups()
    return DayOffset(-int(days) if sign == "-" else int(days))
