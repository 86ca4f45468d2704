"""The Media resource of a message: list, fetch and delete. Its bytes are `api/media_bytes`.

A message's media are created when they are stored: an inbound message's right before its
application is asked, an outbound one's right before it is sent.
"""

from typing import Final

import msgspec

from trunkline.api.answer import Answer, json_answer
from trunkline.api.arguments import Arguments
from trunkline.api.errors import not_found, unavailable
from trunkline.api.finding import find_message
from trunkline.api.freshness import lag_header
from trunkline.api.media_bytes import media_path, piece_of
from trunkline.api.moments import rfc_2822, whole_day
from trunkline.api.paging import Page, page_answer, requested_page
from trunkline.api.request import Handler, Request
from trunkline.api.services import ApiServices
from trunkline.domain.media import Piece
from trunkline.domain.message import Message
from trunkline.replica.queries import Place


class MediaJson(msgspec.Struct, frozen=True):
    """Every property of the published schema."""

    sid: str
    account_sid: str
    parent_sid: str
    content_type: str
    date_created: str
    date_updated: str
    uri: str


async def _list(request: Request, services: ApiServices) -> Answer:
    message = await _message(request, services)
    page = requested_page(request.arguments)
    rows = _behind(_created_in(message, request.arguments), page)
    shown = rows[: page.size]
    last = Place(message.created_at, shown[-1].sid) if len(rows) > page.size else None
    items: list[object] = [_json(message, piece) for piece in shown]
    return page_answer(request, page, items, last=last, headers=lag_header(services.replica))


async def _fetch(request: Request, services: ApiServices) -> Answer:
    message = await _message(request, services)
    piece = piece_of(message, request.words[2], request.path)
    return json_answer(200, _json(message, piece), lag_header(services.replica))


async def _delete(request: Request, services: ApiServices) -> Answer:
    message = await _message(request, services)
    piece = piece_of(message, request.words[2], request.path)
    if not await services.media.remove(message, piece.sid, deadline=request.deadline):
        raise unavailable("Whether it is deleted cannot be told at the moment. Try again.")
    return Answer(204, b"")


async def _message(request: Request, services: ApiServices) -> Message:
    account, name = request.account.sid, request.words[1]
    message = await find_message(account, name, services, deadline=request.deadline)
    if message is None:
        raise not_found(request.path)
    return message


def _created_in(message: Message, arguments: Arguments) -> tuple[Piece, ...]:
    """Those that the filters let through; all were created at once. As with messages, both bounds
    include the date they name, and `DateCreated` is a day."""
    at = _created_at(message)
    on, until, since = (
        arguments.span(name) for name in ("DateCreated", "DateCreated<", "DateCreated>")
    )
    on = None if on is None else whole_day(on)
    is_in = all(each is None or at >= each.start for each in (on, since))
    is_in = is_in and all(each is None or at < each.end for each in (on, until))
    return message.pieces if is_in else ()


def _behind(pieces: tuple[Piece, ...], page: Page) -> tuple[Piece, ...]:
    """In the order of the message: what comes behind the page before, also if that was deleted."""
    if page.behind is None:
        return pieces
    sids = [piece.sid for piece in pieces]
    if page.behind.sid in sids:
        return pieces[sids.index(page.behind.sid) + 1 :]
    return pieces[page.number * page.size :]


def _created_at(message: Message) -> float:
    return message.created_at if message.media is None else message.media.at


def _json(message: Message, piece: Piece) -> MediaJson:
    created = rfc_2822(_created_at(message))
    return MediaJson(
        sid=piece.sid,
        account_sid=message.account,
        parent_sid=message.sid,
        content_type=piece.content_type,
        date_created=created,
        date_updated=created,
        uri=f"{media_path(message.account, message.sid, piece.sid)}.json",
    )


LIST: Final = Handler(_list)
FETCH: Final = Handler(_fetch)
DELETE: Final = Handler(_delete)
