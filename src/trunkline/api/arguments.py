"""Typed arguments: what a client sent, checked against the types of the catalogue.

Names the operation does not have are ignored, as Twilio does. An empty value counts as not given.
One value given twice is that value; two different ones are refused.
What is malformed is refused with a code of the resource's own where it has one, else with 20001.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from trunkline.api.catalogue import Catalogue, Operation, Place, Type
from trunkline.api.errors import ApiError, invalid
from trunkline.api.form import Fields
from trunkline.api.moments import DayOffset, Span, date_or_offset, span
from trunkline.api.web_address import is_web_address
from trunkline.domain.errors import Code
from trunkline.domain.number import is_e164

PAGE_SIZE: Final = "PageSize"
VALUES_MAX: Final = 100
"""How many values one list parameter may have; each resource has a lower limit of its own."""

Value = str | int | float | Span | DayOffset | tuple[str, ...]
Reader = Callable[[str], Value | None]
"""Makes a value of a text; None when the text is malformed."""


class Arguments:
    """The values that were given, each read under the type its parameter has."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        return value if isinstance(value, str) else None

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._values.get(name)
        return value if isinstance(value, tuple) else ()

    def integer(self, name: str) -> int | None:
        value = self._values.get(name)
        return value if isinstance(value, int) else None

    def flag(self, name: str) -> bool | None:
        value = self._values.get(name)
        return value if isinstance(value, bool) else None

    def span(self, name: str) -> Span | None:
        value = self._values.get(name)
        return value if isinstance(value, Span) else None

    def days(self, name: str) -> DayOffset | None:
        value = self._values.get(name)
        return value if isinstance(value, DayOffset) else None

    def given(self, names: Iterable[str]) -> Iterable[tuple[str, Value]]:
        """Those of `names` that were given, with their values."""
        return ((name, self._values[name]) for name in names if name in self._values)


class ArgumentReader:
    """Reads the arguments of one operation; made once, when the application is built."""

    def __init__(
        self, catalogue: Catalogue, operation: Operation, codes: Mapping[str, Code]
    ) -> None:
        place: Place = "form" if operation.method == "POST" else "query"
        types = catalogue.types_of(operation, place)
        self._readers: Final = {
            name: _BY_NAME.get(name) or _reader(as_taken(name, each), catalogue, place)
            for name, each in types.items()
        }
        self._lists: Final = frozenset(n for n, each in types.items() if each.shape == "array")
        self._wanted: Final = {name: _wanted(each, catalogue) for name, each in types.items()}
        self._codes: Final = codes

    def read(self, fields: Fields) -> Arguments:
        """Raises `ApiError` for the first malformed value."""
        values: dict[str, Value] = {}
        for name, texts in fields.items():
            reader = self._readers.get(name)
            if reader is None:
                continue
            if name in self._lists:
                given = tuple(text for text in texts if text)
                if len(given) > VALUES_MAX:
                    raise invalid(name, f"it has more than {VALUES_MAX} values")
                if any(reader(text) is None for text in given):
                    raise self._malformed(name)
                if given:
                    values[name] = given
            elif len(texts) > 1 and any(text != texts[0] for text in texts):
                # Which one is meant decides who is texted, or what is billed: not for us to guess.
                raise invalid(name, "it is given more than once, with different values")
            elif texts[0]:
                value = reader(texts[0])
                if value is None:
                    raise self._malformed(name)
                values[name] = value
        return Arguments(values)

    def _malformed(self, name: str) -> ApiError:
        code = self._codes.get(name)
        if code is None:
            return invalid(name, self._wanted[name])
        return ApiError(code, parameter=name)


def phone_number(text: str) -> str | None:
    """An E.164 number. A plus sign that was not escaped arrives as a space, and is meant."""
    restored = with_plus(text)
    return restored if is_e164(restored) else None


def with_plus(text: str) -> str:
    """`text`, with the plus sign that form decoding made a space of."""
    return "+" + text[1:] if text.startswith(" ") and text[1:2].isdigit() else text


def as_taken(name: str, type_: Type) -> Type:
    """The type as published, but for what is taken beyond it."""
    # Clients ask for pages larger than there are, and are given the largest: see `paging`.
    return msgspec.structs.replace(type_, maximum=None) if name == PAGE_SIZE else type_


def _reader(type_: Type, catalogue: Catalogue, place: Place) -> Reader:
    if type_.items:
        return _reader(catalogue.types[type_.items], catalogue, place)
    if type_.format == "phone-number" and place == "query":
        return with_plus  # what is searched for may be part of a number
    match type_.shape:
        case "integer":
            return _integer_reader(type_.minimum, type_.maximum)
        case "number":
            return _number
        case "boolean":
            return _boolean
        case _:
            return _text_reader(type_)


def _wanted(type_: Type, catalogue: Catalogue) -> str:
    """What a value of this type is, as the reason for which another is refused."""
    if type_.items:
        return _wanted(catalogue.types[type_.items], catalogue)
    match type_.shape:
        case "integer":
            return f"it must be a whole number{_range(type_)}"
        case "number":
            return "it must be a number"
        case "boolean":
            return "it must be true or false"
        case _:
            return _wanted_text(type_)


def _range(type_: Type) -> str:
    match type_.minimum, type_.maximum:
        case None, None:
            return ""
        case None, most:
            return f", at most {most}"
        case least, None:
            return f", at least {least}"
        case least, most:
            return f" from {least} to {most}"


def _wanted_text(type_: Type) -> str:
    if type_.prefixes:
        return f"it must be a SID: {' or '.join(type_.prefixes)} and 32 hexadecimal digits"
    if type_.words:
        return f"it must be one of {', '.join(type_.words)}"
    return _WANTED_BY_FORMAT.get(type_.format, "it must be a text")


def _text_reader(type_: Type) -> Reader:
    if type_.prefixes:
        return _sid_reader(frozenset(type_.prefixes))
    if type_.format == "http-method":
        return _method_reader(frozenset(type_.words))
    if type_.words:
        return _word_reader(frozenset(type_.words))
    return _BY_FORMAT.get(type_.format, _text)


def _text(text: str) -> str:
    return text


def _web_address(text: str) -> str | None:
    return text if is_web_address(text) else None


def _boolean(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.lower())


def _number(text: str) -> float | None:
    digits = text.removeprefix("-").replace(".", "", 1)
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= 15
    return float(text) if is_number else None


def _integer_reader(minimum: int | None, maximum: int | None) -> Reader:
    def read(text: str) -> int | None:
        digits = text.removeprefix("-")
        # `int` alone would also take "1_000", " 7" and digits of other scripts.
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 15):
            return None
        number = int(text)
        is_low = minimum is not None and number < minimum
        is_high = maximum is not None and number > maximum
        return None if is_low or is_high else number

    return read


def _sid_reader(prefixes: frozenset[str]) -> Reader:
    return lambda text: text if is_sid_shaped(text, prefixes) else None


def _word_reader(words: frozenset[str]) -> Reader:
    return lambda text: text if text in words else None


def _method_reader(words: frozenset[str]) -> Reader:
    return lambda text: text.upper() if text.upper() in words else None


def is_sid_shaped(text: str, prefixes: frozenset[str]) -> bool:
    """The published pattern, which takes digits of either case."""
    return len(text) == 34 and text[:2] in prefixes and _HEX.issuperset(text[2:])


_HEX: Final = frozenset("0123456789abcdefABCDEF")

_BY_FORMAT: Final[Mapping[str, Reader]] = {
    "phone-number": phone_number,
    "uri": _web_address,
    "date": span,
    "date-time": span,
}

_BY_NAME: Final[Mapping[str, Reader]] = {
    "StartDate": date_or_offset,
    "EndDate": date_or_offset,
}
"""What the published description of a parameter allows beyond its type."""

_A_DATE: Final = "it must be a date, like 2026-01-31, or a date and time, like 2026-01-31T18:30:00Z"
_WANTED_BY_FORMAT: Final[Mapping[str, str]] = {
    "phone-number": "it must be a phone number in E.164 form, like +15551234567",
    "uri": "it must be an absolute http or https URL",
    "date": _A_DATE,
    "date-time": _A_DATE,
}
