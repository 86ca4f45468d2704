"""Pages of a list, newest first, in the envelope of the API's 2010 version.

A page is asked for by the places of the rows before it, never by an offset, so that rows which
arrive meanwhile neither repeat nor hide others. The token carries the last few places, which is
what makes going back possible without a query in the other direction.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Final, Protocol, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from trunkline.api.answer import Answer, Headers, json_answer
from trunkline.api.arguments import PAGE_SIZE, Arguments
from trunkline.api.errors import ApiError, invalid
from trunkline.api.freshness import lag_header
from trunkline.api.request import Request
from trunkline.api.services import ReplicaPort
from trunkline.replica.queries import Place

PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 1_000
"""The published maximum. More is not refused: an SDK passes on what its caller wrote."""
TRAIL_MAX: Final = 16
"""How many pages one can go back; the token grows by 60 characters for each."""
TOKEN_CHARS_MAX: Final = 2_000

_PAGING: Final = frozenset({PAGE_SIZE, "Page", "PageToken"})
_DECODER: Final = msgspec.msgpack.Decoder(list[tuple[float, str]])


class Listed(Protocol):
    """What has a place in a list."""

    @property
    def sid(self) -> str: ...

    @property
    def created_at(self) -> float: ...


Row = TypeVar("Row", bound=Listed)


class Page(msgspec.Struct, frozen=True):
    """The page that is asked for. `trail` holds the places it and the pages before it begin behind."""

    number: int
    size: int
    trail: tuple[Place, ...] = ()

    @property
    def behind(self) -> Place | None:
        return self.trail[-1] if self.trail else None

    @property
    def rows_max(self) -> int:
        """One more than is shown: it tells whether there is a next page."""
        return self.size + 1


def requested_page(arguments: Arguments) -> Page:
    """Raises `ApiError` for a token that is not ours, or a later page without one."""
    number = arguments.integer("Page") or 0
    token = arguments.text("PageToken")
    if number > 0 and token is None:
        # Whoever counts pages up without following the links would get the first one for ever.
        raise invalid("Page", "a page after the first needs its PageToken; follow next_page_uri")
    trail = () if token is None else _trail(token)
    size = min(arguments.integer(PAGE_SIZE) or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    return Page(number, size, trail)


def rows_answer(
    request: Request,
    page: Page,
    rows: Sequence[Row],
    as_json: Callable[[Row], object],
    replica: ReplicaPort,
) -> Answer:
    """The page of `rows`, of which the copy was asked for `page.rows_max` and may have given fewer."""
    shown = rows[: page.size]
    last = Place(shown[-1].created_at, shown[-1].sid) if len(rows) > page.size else None
    items = [as_json(each) for each in shown]
    return page_answer(request, page, items, last=last, headers=lag_header(replica))


def page_answer(
    request: Request, page: Page, items: list[object], *, last: Place | None, headers: Headers = ()
) -> Answer:
    """The envelope around `items`; `last` is the place of the last one if more follow it."""
    start = page.number * page.size
    content = {
        request.operation.list_key: items,
        "first_page_uri": _uri(request, Page(0, page.size)),
        "next_page_uri": None if last is None else _uri(request, _next(page, last)),
        "previous_page_uri": _previous_uri(request, page),
        "uri": _uri(request, page),
        "page": page.number,
        "page_size": page.size,
        "start": start,
        "end": start + max(0, len(items) - 1),
    }
    return json_answer(200, content, headers)


def _next(page: Page, last: Place) -> Page:
    return Page(page.number + 1, page.size, (*page.trail, last)[-TRAIL_MAX:])


def _previous_uri(request: Request, page: Page) -> str | None:
    if page.number <= 1:
        return None if page.number == 0 else _uri(request, Page(0, page.size))
    trail = page.trail[:-1]
    # Unlike Twilio: after going back TRAIL_MAX pages in a row, the way back ends.
    return _uri(request, Page(page.number - 1, page.size, trail)) if trail else None


def _uri(request: Request, page: Page) -> str:
    known = {parameter.name for parameter in request.operation.parameters} - _PAGING
    query = [
        (name, text) for name, texts in request.fields.items() if name in known for text in texts
    ]
    query += [("PageSize", str(page.size)), ("Page", str(page.number))]
    if page.trail:
        query.append(("PageToken", _token(page.trail)))
    return f"{quote(request.path.removesuffix('.json'))}.json?{urlencode(query)}"


def _token(trail: tuple[Place, ...]) -> str:
    packed = msgspec.msgpack.encode([(place.created_at, place.sid) for place in trail])
    return urlsafe_b64encode(packed).decode().rstrip("=")


def _trail(token: str) -> tuple[Place, ...]:
    if len(token) > TOKEN_CHARS_MAX:
        raise _foreign()
    try:
        packed = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        places = _DECODER.decode(packed)
    except (binascii.Error, UnicodeEncodeError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _foreign() from error
    if not 0 < len(places) <= TRAIL_MAX or not all(isfinite(at) for at, _ in places):
        raise _foreign()
    return tuple(Place(at, sid) for at, sid in places)


def _foreign() -> ApiError:
    return invalid("PageToken", "it is not a token of this list; follow next_page_uri")
