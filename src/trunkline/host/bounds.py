"""Every named bound of the program, read from the program itself.

A bound is a number in capitals whose name ends in its unit (house style §4); because they all have
one, an operator can be shown all of them without a second list that could be wrong.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Final

import trunkline

UNITS: Final[Mapping[str, str]] = {
    "_PER_S": "a second",
    "_S": "seconds",
    "_MS": "milliseconds",
    "_US": "microseconds",
    "_BYTES": "bytes",
    "_CHARACTERS": "characters",
    "_CHARS": "characters",
    "_DAYS": "days",
    "_HOURS": "hours",
    "_RATIO": "",
    "_MAX": "",
    "_MIN": "",
}
"""Endings that make a name a bound; `_MAX` and `_MIN` may stand behind a unit or alone."""


@dataclass(frozen=True, slots=True)
class Bound:
    module: str
    name: str
    value: int | float
    unit: str


@dataclass(frozen=True, slots=True)
class Unread:
    """A module that could not be imported, and why."""

    module: str
    reason: str


def collect() -> tuple[list[Bound], list[Unread]]:
    """All bounds, in the order of their modules. Imports the whole program."""
    found: list[Bound] = []
    unread: list[Unread] = []
    names = [info.name for info in pkgutil.walk_packages(trunkline.__path__, "trunkline.")]
    for name in sorted(names):
        if name.endswith("__main__"):
            continue
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            unread.append(Unread(name, str(error)))
            continue
        found += bounds_of(module)
    return found, unread


def bounds_of(module: ModuleType) -> Iterator[Bound]:
    """Those that the module itself declares, not what it imports."""
    for name in getattr(module, "__annotations__", {}):
        value = getattr(module, name, None)
        unit = unit_of(name)
        if unit is None or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        yield Bound(module.__name__, name.lstrip("_"), value, unit)


def unit_of(name: str) -> str | None:
    """The unit that a bound's name ends with, "" for a plain count, None if it is no bound."""
    if not name.isupper():
        return None
    stem = name.removesuffix("_MAX").removesuffix("_MIN").removesuffix("_CAP")
    for suffix, unit in UNITS.items():
        if stem.endswith(suffix):
            return unit
    return "" if stem != name else None
