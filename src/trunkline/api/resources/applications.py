"""The Application resource: URLs under one name, which many numbers may share."""

import functools
from collections.abc import Mapping
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
from trunkline.api.settings import (
    URLS,
    Setting,
    check_version,
    friendly_name,
    given,
    is_repeat_of,
    signed,
)
from trunkline.directory.records import Missing, Removed, Spent, Undecidable
from trunkline.domain import sid
from trunkline.domain.application import Application
from trunkline.domain.errors import Code
from trunkline.domain.events import ApplicationMade
from trunkline.log.interface import Unreadable
from trunkline.replica.queries import Place

_SETTINGS: Final[Mapping[str, Setting]] = {
    **URLS,
    "SmsStatusCallback": Setting("sms_status_callback"),
    "MessageStatusCallback": Setting("message_status_callback"),
    "VoiceCallerIdLookup": Setting("voice_caller_id_lookup", unset=False),
    "PublicApplicationConnectEnabled": Setting("public_application_connect_enabled", unset=False),
}
_CODES: Final[Mapping[str, Code]] = {
    name: Code.URL_INVALID for name in _SETTINGS if name.endswith(("Url", "Callback"))
}


class ApplicationJson(msgspec.Struct, frozen=True):
    """Every property of the published schema."""

    sid: str
    account_sid: str
    friendly_name: str
    date_created: str
    date_updated: str
    sms_url: str | None
    sms_method: str
    sms_fallback_url: str | None
    sms_fallback_method: str
    sms_status_callback: str | None
    message_status_callback: str | None
    status_callback: str | None
    status_callback_method: str
    voice_url: str | None
    voice_method: str
    voice_fallback_url: str | None
    voice_fallback_method: str
    voice_caller_id_lookup: bool
    public_application_connect_enabled: bool
    uri: str
    api_version: str = "2010-04-01"


async def _create(request: Request, services: ApiServices) -> Answer:
    check_version(request)
    key = key_of(request)
    account = request.account.sid
    name = (
        sid.sid_from_entropy(sid.APPLICATION, services.entropy(16))
        if key is None
        else sid.sid_from_key(sid.APPLICATION, account, "Applications", key)
    )
    bare = ApplicationMade(sid=name, friendly_name=friendly_name(request) or "")
    settings = signed(msgspec.structs.replace(bare, **given(request, _SETTINGS)))
    if request.deadline.has_passed():
        raise not_begun_in_time()
    answer = await services.applications.make(
        account, settings, is_keyed=key is not None, deadline=request.deadline
    )
    match answer:
        case Application():
            if not is_repeat_of(answer.settings, settings):
                raise ApiError(Code.KEY_REUSED, sid=name)
            return json_answer(201, application_json(answer))
        case Spent():
            raise ApiError(Code.KEY_SPENT, sid=name)
        case Undecidable(reason):
            raise unavailable(
                f"Whether the application was made cannot be told ({reason}); repeat with the same "
                "Idempotency-Key, or look for it in the list first."
            )
        case other:
            assert_never(other)


async def _fetch(request: Request, services: ApiServices) -> Answer:
    application = services.replica.application(_sid(request))
    if application is None:
        # The copy may lag: one just made is found in the log, or we say that we cannot tell.
        found = await services.applications.find(_sid(request), deadline=request.deadline)
        if isinstance(found, Unreadable):
            raise unavailable("Whether it exists cannot be told at the moment. Try again.")
        application = found
    if application is None or application.account != request.account.sid:
        raise not_found(request.path)
    return json_answer(200, application_json(application), lag_header(services.replica))


async def _list(request: Request, services: ApiServices) -> Answer:
    page = requested_page(request.arguments)
    rows = services.replica.applications(
        request.account.sid,
        request.arguments.text("FriendlyName"),
        items_max=page.rows_max,
        behind=page.behind,
    )
    shown = rows[: page.size]
    last = Place(shown[-1].created_at, shown[-1].sid) if len(rows) > page.size else None
    items: list[object] = [application_json(each) for each in shown]
    return page_answer(request, page, items, last=last, headers=lag_header(services.replica))


async def _update(request: Request, services: ApiServices) -> Answer:
    check_version(request)
    changed = given(request, _SETTINGS)
    name = friendly_name(request)
    if name is not None:
        changed["friendly_name"] = name
    # Asked of the log, not of the copy: what was just made can be changed, through any host.
    answer = await services.applications.change(
        request.account.sid,
        _sid(request),
        functools.partial(msgspec.structs.replace, **changed),
        deadline=request.deadline,
    )
    match answer:
        case Application():
            return json_answer(200, application_json(answer))
        case Missing():
            raise not_found(request.path)
        case Undecidable(reason):
            raise unavailable(f"Whether it was changed cannot be told ({reason}). Send it again.")
        case other:
            assert_never(other)


async def _delete(request: Request, services: ApiServices) -> Answer:
    answer = await services.applications.delete(
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
    if not sid.is_sid(name, sid.APPLICATION):
        raise not_found(request.path)
    return name


def application_json(application: Application) -> ApplicationJson:
    """The application as the API shows it: a URL that was not given is null."""
    settings = application.settings
    return ApplicationJson(
        sid=settings.sid,
        account_sid=application.account,
        friendly_name=settings.friendly_name,
        date_created=rfc_2822(application.created_at),
        date_updated=rfc_2822(application.updated_at),
        sms_url=settings.sms_url or None,
        sms_method=settings.sms_method,
        sms_fallback_url=settings.sms_fallback_url or None,
        sms_fallback_method=settings.sms_fallback_method,
        sms_status_callback=settings.sms_status_callback or None,
        message_status_callback=settings.message_status_callback or None,
        status_callback=settings.status_callback or None,
        status_callback_method=settings.status_callback_method,
        voice_url=settings.voice_url or None,
        voice_method=settings.voice_method,
        voice_fallback_url=settings.voice_fallback_url or None,
        voice_fallback_method=settings.voice_fallback_method,
        voice_caller_id_lookup=settings.voice_caller_id_lookup,
        public_application_connect_enabled=settings.public_application_connect_enabled,
        uri=f"/2010-04-01/Accounts/{application.account}/Applications/{settings.sid}.json",
    )


CREATE: Final = Handler(_create, _CODES)
LIST: Final = Handler(_list)
FETCH: Final = Handler(_fetch)
UPDATE: Final = Handler(_update, _CODES)
DELETE: Final = Handler(_delete)
