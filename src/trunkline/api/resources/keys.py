"""The Key and SigningKey resources: one kind of key, under two paths.

A key stands for its account in everything but the managing of accounts and keys. Its secret is told in
the answer to its create and kept nowhere: only what it hashes to is.
"""

import hashlib
import hmac
from typing import Final, assert_never

import msgspec

from trunkline.api.admission import not_begun_in_time
from trunkline.api.answer import Answer, json_answer
from trunkline.api.errors import ApiError, not_found, unavailable
from trunkline.api.freshness import lag_header
from trunkline.api.idempotency import key_of
from trunkline.api.moments import rfc_2822
from trunkline.api.paging import page_answer, requested_page
from trunkline.api.request import Handler, Request
from trunkline.api.services import ApiServices
from trunkline.api.settings import friendly_name, signed
from trunkline.directory.records import Missing, Removed, Spent, Undecidable
from trunkline.domain import sid
from trunkline.domain.errors import Code
from trunkline.domain.events import KeyMade
from trunkline.domain.key import Key, digest_of
from trunkline.log.interface import Unreadable
from trunkline.replica.queries import Place

SECRET_CHARS: Final = 32
"""128 random bits in hexadecimal digits."""


class KeyJson(msgspec.Struct, frozen=True):
    """Every property of the published schema."""

    sid: str
    friendly_name: str
    date_created: str
    date_updated: str


class NewKeyJson(KeyJson, frozen=True):
    """The same, the only time that its secret is told."""

    secret: str


async def _create(request: Request, services: ApiServices) -> Answer:
    key = key_of(request)
    account = request.account.sid
    name = (
        sid.sid_from_entropy(sid.KEY, services.entropy(16))
        if key is None
        else sid.sid_from_key(sid.KEY, account, "Keys", key)
    )
    secret = services.entropy(16).hex() if key is None else _secret_of(request, name, key)
    asked = KeyMade(
        sid=name,
        friendly_name=friendly_name(request) or "",
        secret_digest=digest_of(secret.encode()),
    )
    settings = signed(asked)
    if request.deadline.has_passed():
        raise not_begun_in_time()
    answer = await services.keys.make(
        account, settings, is_keyed=key is not None, deadline=request.deadline
    )
    match answer:
        case Key():
            if answer.settings.fingerprint != settings.fingerprint:
                raise ApiError(Code.KEY_REUSED, sid=name)
            return json_answer(201, _new_key_json(answer, secret))
        case Spent():
            raise ApiError(Code.KEY_SPENT, sid=name)
        case Undecidable(reason):
            raise unavailable(
                f"Whether the key was made cannot be told ({reason}); repeat with the same "
                "Idempotency-Key, or look for it in the list first."
            )
        case other:
            assert_never(other)


def _secret_of(request: Request, name: str, key: str) -> str:
    """The secret of a key whose create may be repeated: the answer to the repeat must tell it too, and
    it stands nowhere. Who could compute it has the account's token, and could make any key."""
    token = request.account.auth_token.encode()
    mac = hmac.new(token, f"secret of {name} by {key}".encode(), hashlib.sha256)
    return mac.hexdigest()[:SECRET_CHARS]


async def _fetch(request: Request, services: ApiServices) -> Answer:
    key = services.known.key(_sid(request))
    if key is None:
        # The copy may lag: one just made is found in the log, or we say that we cannot tell.
        found = await services.keys.find(_sid(request), deadline=request.deadline)
        if isinstance(found, Unreadable):
            raise unavailable("Whether it exists cannot be told at the moment. Try again.")
        key = found
    if key is None or key.account != request.account.sid:
        raise not_found(request.path)
    return json_answer(200, key_json(key), lag_header(services.replica))


async def _list(request: Request, services: ApiServices) -> Answer:
    page = requested_page(request.arguments)
    rows = services.replica.keys(request.account.sid, items_max=page.rows_max, behind=page.behind)
    shown = rows[: page.size]
    last = Place(shown[-1].created_at, shown[-1].sid) if len(rows) > page.size else None
    items: list[object] = [key_json(each) for each in shown]
    return page_answer(request, page, items, last=last, headers=lag_header(services.replica))


async def _update(request: Request, services: ApiServices) -> Answer:
    name = friendly_name(request)

    def edit(settings: KeyMade) -> KeyMade:
        return settings if name is None else msgspec.structs.replace(settings, friendly_name=name)

    answer = await services.keys.change(
        request.account.sid, _sid(request), edit, deadline=request.deadline
    )
    match answer:
        case Key():
            return json_answer(200, key_json(answer))
        case Missing():
            raise not_found(request.path)
        case Undecidable(reason):
            raise unavailable(f"Whether it was changed cannot be told ({reason}). Send it again.")
        case other:
            assert_never(other)


async def _delete(request: Request, services: ApiServices) -> Answer:
    answer = await services.keys.delete(
        request.account.sid, _sid(request), deadline=request.deadline
    )
    match answer:
        case Removed():
            return Answer(204, b"")
        case Missing():
            raise not_found(request.path)
        case Undecidable(reason):
            raise unavailable(f"Whether it was deleted cannot be told ({reason}). Send it again.")
        case other:
            assert_never(other)


def _sid(request: Request) -> str:
    """The SID in the path. Raises `ApiError`: it becomes the name of a register."""
    name = request.words[1]
    if not sid.is_sid(name, sid.KEY):
        raise not_found(request.path)
    return name


def key_json(key: Key) -> KeyJson:
    """The key as the API shows it from then on."""
    return KeyJson(
        sid=key.sid,
        friendly_name=key.settings.friendly_name,
        date_created=rfc_2822(key.created_at),
        date_updated=rfc_2822(key.updated_at),
    )


def _new_key_json(key: Key, secret: str) -> NewKeyJson:
    return NewKeyJson(**msgspec.structs.asdict(key_json(key)), secret=secret)


CREATE: Final = Handler(_create, is_own_only=True)
LIST: Final = Handler(_list, is_own_only=True)
FETCH: Final = Handler(_fetch, is_own_only=True)
UPDATE: Final = Handler(_update, is_own_only=True)
DELETE: Final = Handler(_delete, is_own_only=True)
