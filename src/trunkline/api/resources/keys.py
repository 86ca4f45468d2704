"""The Key and SigningKey resources: one kind of key, under two paths.

A key stands for its account in everything but the managing of accounts and keys. Its secret is told in
the answer to its create and kept nowhere: only what it hashes to is.
"""

import hashlib
import hmac
from typing import Final

import msgspec

from trunkline.api.answer import Answer, json_answer
from trunkline.api.errors import ApiError
from trunkline.api.freshness import lag_header
from trunkline.api.idempotency import key_of
from trunkline.api.moments import rfc_2822
from trunkline.api.paging import requested_page, rows_answer
from trunkline.api.records import create, delete, fetch, new_sid, sid_of, update
from trunkline.api.request import Handler, Request
from trunkline.api.services import ApiServices
from trunkline.api.settings import friendly_name, signed
from trunkline.domain import sid
from trunkline.domain.errors import Code
from trunkline.domain.events import KeyMade
from trunkline.domain.key import Key, digest_of

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
    name = new_sid(sid.KEY, account, "Keys", key=key, services=services)
    secret = services.entropy(16).hex() if key is None else _secret_of(request, name, key)
    asked = KeyMade(
        sid=name,
        friendly_name=friendly_name(request) or "",
        secret_digest=digest_of(secret.encode()),
    )
    settings = signed(asked)
    made = await create(
        request, services.keys, account, settings, key=key, claim="the key was made"
    )
    if made.settings.fingerprint != settings.fingerprint:
        raise ApiError(Code.KEY_REUSED, sid=name)
    return json_answer(201, _new_key_json(made, secret))


def _secret_of(request: Request, name: str, key: str) -> str:
    """The secret of a key whose create may be repeated: the answer to the repeat must tell it too, and
    it stands nowhere. Who could compute it has the account's token, and could make any key."""
    token = request.account.auth_token.encode()
    mac = hmac.new(token, f"secret of {name} by {key}".encode(), hashlib.sha256)
    return mac.hexdigest()[:SECRET_CHARS]


async def _fetch(request: Request, services: ApiServices) -> Answer:
    key = await fetch(request, services.keys, sid.KEY, services.known.key)
    return json_answer(200, key_json(key), lag_header(services.replica))


async def _list(request: Request, services: ApiServices) -> Answer:
    page = requested_page(request.arguments)
    rows = services.replica.keys(request.account.sid, items_max=page.rows_max, behind=page.behind)
    return rows_answer(request, page, rows, key_json, services.replica)


async def _update(request: Request, services: ApiServices) -> Answer:
    name = friendly_name(request)

    def edit(settings: KeyMade) -> KeyMade:
        return settings if name is None else msgspec.structs.replace(settings, friendly_name=name)

    key = await update(request, services.keys, sid_of(request, sid.KEY), edit)
    return json_answer(200, key_json(key))


async def _delete(request: Request, services: ApiServices) -> Answer:
    return await delete(request, services.keys, sid.KEY)


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
