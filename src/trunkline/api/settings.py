"""Settings of a record: which parameter sets which field, at its creation and in every update.

What an update does not name stays as it is. An empty value, which for everything else counts as not
given, takes a setting back: an SDK has no other way to say "no URL any more".
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from trunkline.api.errors import invalid
from trunkline.api.request import Request
from trunkline.domain.events import Settings

FRIENDLY_NAME_CHARS_MAX: Final = 64
API_VERSION: Final = "2010-04-01"
"""The one in which applications are spoken to."""

_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class Setting:
    """The field that a parameter sets, and its value where nobody set it."""

    field: str
    unset: str | bool = ""


METHOD: Final = "POST"

URLS: Final[Mapping[str, Setting]] = {
    "SmsUrl": Setting("sms_url"),
    "SmsMethod": Setting("sms_method", METHOD),
    "SmsFallbackUrl": Setting("sms_fallback_url"),
    "SmsFallbackMethod": Setting("sms_fallback_method", METHOD),
    "StatusCallback": Setting("status_callback"),
    "StatusCallbackMethod": Setting("status_callback_method", METHOD),
    "VoiceUrl": Setting("voice_url"),
    "VoiceMethod": Setting("voice_method", METHOD),
    "VoiceFallbackUrl": Setting("voice_fallback_url"),
    "VoiceFallbackMethod": Setting("voice_fallback_method", METHOD),
}
"""What numbers and applications both have."""


def given(request: Request, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """The fields that the request sets, with their values; a form with none of them has none."""
    arguments, fields = request.arguments, request.fields
    found: dict[str, Any] = {}
    for parameter, setting in settings.items():
        if parameter not in fields:
            continue
        is_flag = isinstance(setting.unset, bool)
        value = arguments.flag(parameter) if is_flag else arguments.text(parameter)
        found[setting.field] = setting.unset if value is None else value
    return found


def friendly_name(request: Request) -> str | None:
    """The name that was given; `None` without one, which an update may not take away."""
    name = request.arguments.text("FriendlyName")
    if name is not None and len(name) > FRIENDLY_NAME_CHARS_MAX:
        raise invalid("FriendlyName", f"it is longer than {FRIENDLY_NAME_CHARS_MAX} characters")
    return name


def check_version(request: Request) -> None:
    """Raises `ApiError` for any version but ours: there is another one, in which an application would
    be told other things."""
    if request.arguments.text("ApiVersion") not in (None, API_VERSION):
        raise invalid("ApiVersion", f"only {API_VERSION} is spoken here")


def signed(settings: Settings) -> Settings:
    """The settings of a create, with the fingerprint that tells its repeat from another create."""
    bare = msgspec.structs.replace(settings, fingerprint="")
    digest = hashlib.sha256(_ENCODER.encode(bare)).hexdigest()
    return msgspec.structs.replace(settings, fingerprint=digest)


def is_repeat_of(standing: Settings, wanted: Settings) -> bool:
    """Whether the create of `wanted` is the one that `standing` began with, changed as it may be
    since. A record from before there were fingerprints was never changed."""
    if standing.fingerprint:
        return standing.fingerprint == wanted.fingerprint
    return standing == msgspec.structs.replace(wanted, fingerprint="")
