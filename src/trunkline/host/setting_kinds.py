"""The kinds of value a setting can have: how each is read from a file, a flag or the environment.

Files give TOML values, flags and the environment give text; a kind reads both. What `written`
makes of a value is read back to the same value.
"""

import ipaddress
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from trunkline.domain.price import micros_of
from trunkline.host.listen import Address
from trunkline.host.roster import Member
from trunkline.kernel.crash import PASSINGS_MAX, read_crash_at

AMOUNT_MICROS_MAX: Final = 10**15
"""A billion of the currency: what is summed stays far within 64 bits."""

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

SERVICES: Final = ("api", "projector", "dispatch", "receipts", "webhooks", "inbound")
GROUPS: Final = (SERVICES[:1], SERVICES[1:])
"""The API in a process of its own: no create waits behind a burst of the other services' work."""
"""What a host runs. Each is in at least one process; the projector, which writes the read copy, in
exactly one."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}\Z")
_SIZE: Final = re.compile(r"([0-9]+)\s*(B|KiB|MiB|GiB)?\Z")
_UNIT_BYTES: Final = {None: 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}


@dataclass(frozen=True, slots=True)
class Kind:
    """`read` raises `ValueError` for what is not `wanted`; `meant` then gives what was meant, or an
    empty text where nobody can tell."""

    name: str
    wanted: str
    read: Callable[[object], object]
    meant: Callable[[object], str] = lambda _: ""


def written(value: object) -> object:
    """The value as JSON and TOML can hold it."""
    match value:
        case None:
            return ""
        case Path() | Address() | Member() | ipaddress.IPv4Network() | ipaddress.IPv6Network():
            return str(value)
        case tuple():
            return [written(item) for item in value]
        case _:
            return value


def number(least: float, most: float) -> Kind:
    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(value)  # noqa: TRY004 - the reader knows one kind of refusal
        parsed = float(value)
        if not (math.isfinite(parsed) and least <= parsed <= most):
            raise ValueError(value)
        return parsed

    return Kind("number", f"a number from {least:g} to {most:g}", read)


def whole(least: int, most: int) -> Kind:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError(value)  # noqa: TRY004 - the reader knows one kind of refusal
        parsed = int(value)
        if not least <= parsed <= most:
            raise ValueError(value)
        return parsed

    return Kind("whole number", f"a whole number from {least} to {most}", read)


def size(least: int) -> Kind:
    def read(value: object) -> int:
        match = None if isinstance(value, bool) else _SIZE.match(str(value))
        if match is None:
            raise ValueError(value)
        parsed = int(match[1]) * _UNIT_BYTES[match[2]]
        if parsed < least:
            raise ValueError(value)
        return parsed

    return Kind("size", f'a size such as "8GiB" or 512MiB, at least {least // MIB}MiB', read)


def _amount(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(value)  # noqa: TRY004 - the reader knows one kind of refusal
    text = str(value)
    if not 0 <= micros_of(text) <= AMOUNT_MICROS_MAX:
        raise ValueError(value)
    return text


AMOUNT: Final = Kind("amount", "an amount of at most six decimals, such as 0.0079", _amount)


def choice(*words: str) -> Kind:
    def read(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(value)
        return value

    return Kind("one of " + ", ".join(words), "one of " + ", ".join(words), read)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - the reader knows one kind of refusal
    return value


def _name(value: object) -> str:
    text = _text(value)
    if _NAME.match(text) is None:
        raise ValueError(text)
    return text


def _zone(value: object) -> str:
    return "" if value == "" else _name(value)


def _members(value: object) -> tuple[Member, ...]:
    if isinstance(value, str):
        value = value.split(",") if value.strip() else []
    members = tuple(Member.parse(_text(each)) for each in _list(value))
    for member in members:
        _name(member.name)
    return members


def _networks(value: object) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    if isinstance(value, str):
        value = value.split(",") if value.strip() else []
    return tuple(ipaddress.ip_network(_text(each).strip()) for each in _list(value))


def _networks_meant(value: object) -> str:
    """The same without the bits of one address in it."""
    try:
        words = value.split(",") if isinstance(value, str) else map(_text, _list(value))
        return ",".join(str(ipaddress.ip_network(each.strip(), strict=False)) for each in words)
    except ValueError:
        return ""


def _path(value: object) -> Path:
    text = str(value) if isinstance(value, Path) else _text(value)
    if not text or "\0" in text:
        raise ValueError(text)
    return Path(text).expanduser().absolute()


def _address(value: object) -> Address:
    return Address.parse(_text(value))


def _url(value: object) -> str:
    text = _text(value)
    if not text:
        return text
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(text)
    if parts.port == 0:  # one that is no number is refused by looking
        raise ValueError(text)
    return text.rstrip("/")


def _url_meant(value: object) -> str:
    """The same with a scheme, if that is all that was forgotten."""
    if not isinstance(value, str) or "://" in value:
        return ""
    try:
        return _url(f"http://{value}")
    except ValueError:
        return ""


def _claim(value: object) -> bool:
    if isinstance(value, bool):
        return value
    claims = {"true": True, "1": True, "false": False, "0": False}
    if not isinstance(value, str) or value.lower() not in claims:
        raise ValueError(value)
    return claims[value.lower()]


def _processes(value: object) -> tuple[tuple[str, ...], ...]:
    if isinstance(value, str):
        value = [group.split(",") for group in value.split(";")] if value.strip() else []
    groups = tuple(tuple(_text(name).strip() for name in _list(group)) for group in _list(value))
    named = [name for group in groups for name in group]
    if groups and (
        set(named) != set(SERVICES)
        or named.count("projector") != 1
        or any(not group or len(set(group)) != len(group) for group in groups)
    ):
        raise ValueError(value)
    return groups


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise ValueError(value)  # noqa: TRY004 - the reader knows one kind of refusal
    return value


def _crash_at(value: object) -> str:
    text = _text(value)
    if text:
        read_crash_at(text)
    return text


def _optional(kind: Kind) -> Kind:
    def read(value: object) -> object:
        return None if value in ("", None) else kind.read(value)

    return Kind(kind.name, f'{kind.wanted}, or ""', read)


NAME: Final = Kind("name", "up to 32 lower-case letters, digits and hyphens", _name)
ZONE: Final = Kind("name", 'up to 32 lower-case letters, digits and hyphens, or ""', _zone)
MEMBERS: Final = Kind(
    "list of hosts",
    'a list of NAME@ADDRESS[:LOG_PORT[:ROUTE_PORT]], such as ["a@10.0.0.1", "b@10.0.0.2", '
    '"c@10.0.0.3"]; in the environment separated by commas',
    _members,
)
NETWORKS: Final = Kind(
    "list of networks",
    'a list of networks, such as ["10.1.0.0/16", "fd12:3456::/48"]; in the environment separated by '
    "commas",
    _networks,
    _networks_meant,
)
PATH: Final = Kind("path", "a path", _path)
OPTIONAL_PATH: Final = _optional(PATH)
ADDRESS: Final = Kind("address", "HOST:PORT", _address)
OPTIONAL_ADDRESS: Final = _optional(ADDRESS)
URL: Final = Kind("URL", 'an http or https URL without a query, or ""', _url, _url_meant)
CLAIM: Final = Kind("true or false", "true or false", _claim)
LOG_LEVEL: Final = choice("debug", "info", "warning", "error")
CRASH_AT: Final = Kind(
    "crash point",
    f'the name of a crash point, or NAME:N with a number up to {PASSINGS_MAX}, or ""',
    _crash_at,
)
PROTECTION: Final = choice(
    "", "flush", "claims", "fencing", "dedupe", "order", "budget", "timeouts", "diversion", "copies"
)
POLICY: Final = choice("hold", "resend", "fail")
PRIVATE_ADDRESSES: Final = choice("auto", "allow", "refuse")
PROCESSES: Final = Kind(
    "lists of service names",
    "lists that together name every service ("
    + ", ".join(SERVICES)
    + "), the projector once; in the environment: api,inbound;projector,dispatch,receipts,webhooks",
    _processes,
)
