"""The Application resource: URLs under one name, which many numbers may share."""

import functools
from collections.abc import Mapping
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
from trunkline.api.settings import (
    URLS,
    Setting,
    check_version,
    friendly_name,
    given,
    is_repeat_of,
    signed,
)
from trunkline.domain import sid
from trunkline.domain.application import Application
from trunkline.domain.errors import Code
from trunkline.domain.events import ApplicationMade

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
    name = new_sid(sid.APPLICATION, account, "Applications", key=key, services=services)
    bare = ApplicationMade(sid=name, friendly_name=friendly_name(request) or "")
    settings = signed(msgspec.structs.replace(bare, **given(request, _SETTINGS)))
    made = await create(
        request, services.applications, account, settings, key=key, claim="the application was made"
    )
    if not is_repeat_of(made.settings, settings):
        raise ApiError(Code.KEY_REUSED, sid=name)
    return json_answer(201, application_json(made))


async def _fetch(request: Request, services: ApiServices) -> Answer:
    application = await fetch(
        request, services.applications, sid.APPLICATION, services.replica.application
    )
    return json_answer(200, application_json(application), lag_header(services.replica))


async def _list(request: Request, services: ApiServices) -> Answer:
    page = requested_page(request.arguments)
    rows = services.replica.applications(
        request.account.sid,
        request.arguments.text("FriendlyName"),
        items_max=page.rows_max,
        behind=page.behind,
    )
    return rows_answer(request, page, rows, application_json, services.replica)


async def _update(request: Request, services: ApiServices) -> Answer:
    check_version(request)
    changed = given(request, _SETTINGS)
    name = friendly_name(request)
    if name is not None:
        changed["friendly_name"] = name
    edit = functools.partial(msgspec.structs.replace, **changed)
    application = await update(
        request, services.applications, sid_of(request, sid.APPLICATION), edit
    )
    return json_answer(200, application_json(application))


async def _delete(request: Request, services: ApiServices) -> Answer:
    return await delete(request, services.applications, sid.APPLICATION)


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
