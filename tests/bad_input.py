"""What no client should send, for every operation that takes a form or gives a list.

The table is made from the catalogue, so that an operation which is implemented tomorrow is tried
tomorrow. Whoever uses it says what a host answered; nothing of it may be stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from trunkline.api.catalogue import Catalogue, Operation, Parameter, Type
from trunkline.api.form import BODY_BYTES_MAX, FIELDS_MAX
from trunkline.api.resources import RESOURCES

FORM = "application/x-www-form-urlencoded"
BODIES: dict[str, tuple[bytes, int]] = {
    "larger than 64 KiB": (b"Body=" + b"x" * BODY_BYTES_MAX, 413),
    "a NUL": (b"Body=a\x00b", 400),
    "an escaped NUL": (b"Body=a%00b", 400),
    "a NUL in a name": (b"Bo%00dy=a", 400),
    "a lone surrogate": (b"Body=%ED%A0%80", 400),
    "half a character": (b"Body=%E2%82", 400),
    "bytes that are not UTF-8": (b"Body=\xff\xfe", 400),
    "an overlong slash": (b"Body=%C0%AF", 400),
    "too many fields": (b"&".join(b"Unknown=1" for _ in range(FIELDS_MAX + 1)), 400),
}
TYPES: dict[str, int] = {
    "application/json": 415,
    "multipart/form-data; boundary=x": 415,
    "text/plain": 415,
    f"{FORM}; charset=utf-16": 415,
    f"{FORM}; charset=iso-8859-1": 415,
    "\xff": 415,
}
DATES = (
    *("0000-00-00", "2026-02-30", "2026-13-01", "99999-01-01", "-0001-01-01", "tomorrow"),
    *("2026-01-31T25:00:00Z", "2026-01-31T00:00:00+99:99", "1e9", "2026-01-31 OR 1=1", "\u0662"),
    # Moments that no calendar in UTC has.
    *("9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00"),
)
INTEGERS = ("abc", "1.5", "1e3", "0x10", " 7", "1_000", "\u0661", "9" * 400, "--1", "NaN")
PAGE_SIZES = ("0", "-1", "-" + "9" * 15)
PAGES = ("-1", "1", "999999999999999")
PAGE_TOKENS = ("!!!!", "A", "kZLLf_AAAAAAAAChQQ", "%F0%9F%92%A9", "A" * 5_000)
QUERIES = {
    "a NUL": b"Unknown=a%00b",
    "bytes that are not UTF-8": b"Unknown=%ff",
    "a lone surrogate": b"Unknown=%ED%A0%80",
    "too many fields": b"&".join(b"U=1" for _ in range(FIELDS_MAX + 1)),
}
METHODS = ("PUT", "PATCH", "TRACE", "BREW", "POST", "DELETE", "GET")


@dataclass(frozen=True)
class BadInput:
    """One request, and the HTTP status that it must be answered with."""

    operation: str
    what: str
    method: str
    path: str
    status: int
    query: bytes = b""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def statuses(self) -> set[int]:
        """Where the path names something that is not there, a host may say that first; and of a
        method that no standard has heard of, that this is no HTTP."""
        if self.method == "BREW":
            return {400, 405}
        names_nothing = "0" * 32 in self.path or "/none" in self.path
        return {self.status, 404} if names_nothing and self.status != 405 else {self.status}

    def __str__(self) -> str:
        return f"{self.operation}: {self.what}"


def bad_inputs(known: Catalogue, account: str) -> Iterator[BadInput]:
    """All of it, for `account`."""
    for operation in known.operations:
        if operation.name in RESOURCES:
            path = path_of(operation, known, account)
            if operation.method == "POST":
                yield from _bad_forms(operation, known, path)
            if operation.list_key:
                yield from _bad_queries(operation, known, path)
            yield from _bad_methods(operation, known, path)


def path_of(operation: Operation, known: Catalogue, account: str) -> str:
    """Its path, with the account, and SIDs that look right and name nothing."""
    path = operation.path
    for name, type_ in known.types_of(operation, "path").items():
        prefix = type_.prefixes[0] if type_.prefixes else ""
        is_account = prefix == "AC"
        path = path.replace(f"{{{name}}}", account if is_account else _absent(prefix), 1)
    return path


def _absent(prefix: str) -> str:
    return prefix + "0" * 32 if prefix else "none"


def _bad_forms(operation: Operation, known: Catalogue, path: str) -> Iterator[BadInput]:
    def bad(what: str, body: bytes, status: int, content_type: str = FORM) -> BadInput:
        headers = {"content-type": content_type}
        return BadInput(operation.name, what, "POST", path, status, b"", body, headers)

    for what, (body, status) in BODIES.items():
        yield bad(what, body, status)
    for content_type, status in TYPES.items():
        yield bad(repr(content_type), b"Body=x", status, content_type)
    for parameter in operation.parameters:
        if parameter.place == "form":
            for text in _malformed(parameter, known):
                yield bad(f"{parameter.name}={text:.30}", _pair(parameter.name, text), 400)
            if known.types[parameter.type].shape == "array":
                many = b"&".join(_pair(parameter.name, f"http://a.test/{n}") for n in range(101))
                yield bad(f"{parameter.name} 101 times", many, 400)
            else:
                twice = _pair(parameter.name, "one") + b"&" + _pair(parameter.name, "two")
                yield bad(f"{parameter.name} twice", twice, 400)


def _bad_queries(operation: Operation, known: Catalogue, path: str) -> Iterator[BadInput]:
    def bad(what: str, query: bytes) -> BadInput:
        return BadInput(operation.name, what, "GET", path, 400, query)

    for what, query in QUERIES.items():
        yield bad(what, query)
    absurd = {"PageSize": PAGE_SIZES, "Page": PAGES, "PageToken": PAGE_TOKENS}
    for parameter in operation.parameters:
        if parameter.place == "query":
            for text in (*_malformed(parameter, known), *absurd.get(parameter.name, ())):
                yield bad(f"{parameter.name}={text:.30}", _pair(parameter.name, text))
            yield bad(
                f"{parameter.name} twice",
                _pair(parameter.name, "1") + b"&" + _pair(parameter.name, "2"),
            )


def _bad_methods(operation: Operation, known: Catalogue, path: str) -> Iterator[BadInput]:
    right = {each.method for each in known.operations if each.path == operation.path}
    for method in METHODS:
        if method not in right:
            yield BadInput(operation.name, method, method, path, 405)


def _malformed(parameter: Parameter, known: Catalogue) -> tuple[str, ...]:
    """Texts that are no value of the parameter; none where any text is one."""
    type_ = known.types[parameter.type]
    if type_.items:
        type_ = known.types[type_.items]
    if type_.format == "phone-number" and parameter.place == "query":
        return ()
    return _malformed_of(type_)


def _malformed_of(type_: Type) -> tuple[str, ...]:
    if type_.prefixes:
        return ("nothing", type_.prefixes[0] + "g" * 32, "ZZ" + "0" * 32, "'; DROP TABLE message")
    if type_.words:
        return ("no such word", type_.words[0] + " ")
    by_format = {
        "phone-number": ("nobody", "+0123456789", "+" + "1" * 40, "\u0661" * 11, "12025550123"),
        "uri": ("nowhere", "ftp://a.test/", "http://", "javascript:1", "http://a b/", "http://[/"),
        "date": DATES,
        "date-time": DATES,
    }
    by_shape = {
        "integer": INTEGERS,
        "number": ("abc", "1e5", "NaN", "inf", "\u0661", "1.1.1"),
        "boolean": ("yes", "1", "tru", "\u2713"),
    }
    return by_format.get(type_.format, by_shape.get(type_.shape, ()))


def _pair(name: str, value: str) -> bytes:
    return f"{quote(name, safe='')}={quote(value, safe='')}".encode()
