"""Connection overrides: what the fragment of a webhook's URL says about how it is asked.

`https://app.example/sms#ct=2000&rc=2&rp=5xx,ct` (Twilio documentation, "Webhooks: Connection
Overrides"). A fragment is neither sent nor signed. Other fields change nothing here: `e`, `sni`, and our
own `ik`. A number beyond its bounds counts as the bound; what is no number, or no policy, as not said.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

FIELDS_MAX: Final = 32
"""Of one fragment; what is behind them is not read."""

DIGITS_MAX: Final = 9


class RetryOn(StrEnum):
    """What a document is asked for again after."""

    CLIENT_ERROR = "4xx"
    SERVER_ERROR = "5xx"
    CONNECT = "ct"
    """No connection came about, TLS included."""
    READ = "rt"
    """No answer, or no more of it, came in time."""


ALL: Final = frozenset(RetryOn)


@dataclass(frozen=True, slots=True)
class Overrides:
    """The defaults are those of the Twilio API. `total_s` bounds a request, its redirects and all its
    retries together; `read_s` each wait for more of an answer."""

    connect_s: float = 5.0
    read_s: float = 15.0
    total_s: float = 15.0
    retries: int = 1
    policy: frozenset[RetryOn] = frozenset({RetryOn.CONNECT})


DEFAULT: Final = Overrides()


def overrides_of(url: str) -> Overrides:
    """What the fragment of `url` says; the defaults where it says nothing."""
    fragment = url.partition("#")[2]
    if not fragment:
        return DEFAULT
    said: dict[str, str] = {}
    for pair in fragment.split("&", FIELDS_MAX)[:FIELDS_MAX]:
        name, _, value = pair.partition("=")
        said[name] = unquote(value)
    return Overrides(
        connect_s=_number(said, "ct", 100, 10_000, 5_000) / 1_000.0,
        read_s=_number(said, "rt", 100, 15_000, 15_000) / 1_000.0,
        total_s=_number(said, "tt", 100, 15_000, 15_000) / 1_000.0,
        retries=_number(said, "rc", 0, 5, 1),
        policy=_policy(said.get("rp", "")),
    )


def _number(said: Mapping[str, str], name: str, least: int, most: int, default: int) -> int:
    text = said.get(name, "").strip()
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        return default
    if text != digits:
        return least
    return most if len(digits) > DIGITS_MAX else max(least, min(most, int(digits)))


def _policy(text: str) -> frozenset[RetryOn]:
    words = {word.strip().lower() for word in text.split(",")}
    if "all" in words:
        return ALL
    return frozenset(each for each in RetryOn if each.value in words) or DEFAULT.policy
