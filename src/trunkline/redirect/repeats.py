"""Which requests may be repeated through another host, and how that is made safe.

    GET, HEAD, OPTIONS   at will
    DELETE               at will: what is gone stays gone
    creates in CREATES   with a key, which makes the repeat the same resource
    updates in UPDATES   at will: each sets values, or ends something, and a second time changes nothing
    any other POST       only if it surely never left

The tables say what the API does; a test holds them against it.
"""

import re
import secrets
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl, unquote

from trunkline.redirect.asked import Asked

KEY_HEADER: Final = b"Idempotency-Key"
_KEY_HEADERS: Final = (b"idempotency-key", b"i-twilio-idempotency-token")
_KEY_BYTES: Final = 16
_FORM_FIELDS_MAX: Final = 1_000

CREATES: Final = (
    "/2010-04-01/Accounts",
    "/2010-04-01/Accounts/{}/Applications",
    "/2010-04-01/Accounts/{}/IncomingPhoneNumbers",
    "/2010-04-01/Accounts/{}/IncomingPhoneNumbers/Local",
    "/2010-04-01/Accounts/{}/IncomingPhoneNumbers/Mobile",
    "/2010-04-01/Accounts/{}/IncomingPhoneNumbers/TollFree",
    "/2010-04-01/Accounts/{}/Keys",
    "/2010-04-01/Accounts/{}/Messages",
    "/2010-04-01/Accounts/{}/SigningKeys",
)
"""The creates that take a key."""

UPDATES: Final = (
    "/2010-04-01/Accounts/{}",
    "/2010-04-01/Accounts/{}/Applications/{}",
    "/2010-04-01/Accounts/{}/IncomingPhoneNumbers/{}",
    "/2010-04-01/Accounts/{}/Keys/{}",
    "/2010-04-01/Accounts/{}/Messages/{}",
    "/2010-04-01/Accounts/{}/SigningKeys/{}",
)
"""The updates that are idempotent by nature: of a message, to redact or to cancel it; of the others, to
set what is named to what is given."""


class Repeats(Enum):
    """Whether a request may be sent again after one whose outcome nobody knows."""

    SAFE = "safe"
    WITH_KEY = "with a key"
    IF_UNSENT = "if it never left"


def repeats_of(method: str, path: str) -> Repeats:
    """`path` may end in `.json`, and have no query."""
    if method in ("GET", "HEAD", "OPTIONS", "DELETE"):
        return Repeats.SAFE
    if method != "POST":
        return Repeats.IF_UNSENT
    name = unquote(path).removesuffix(".json")
    if _CREATES.fullmatch(name):
        return Repeats.WITH_KEY
    return Repeats.SAFE if _UPDATES.fullmatch(name) else Repeats.IF_UNSENT


def keyed(asked: Asked) -> Asked:
    """The create with a key: its own, in a header or in its callback, or a fresh one."""
    if any(name.lower() in _KEY_HEADERS for name, _ in asked.headers) or _has_key_in_callback(
        asked.body
    ):
        return asked
    return asked.with_header(KEY_HEADER, secrets.token_hex(_KEY_BYTES).encode())


def _has_key_in_callback(body: bytes) -> bool:
    """As the API reads it: `ik=` in the fragment of `StatusCallback`."""
    if b"ik" not in body:
        return False
    try:
        fields = parse_qsl(body.decode("latin-1"), max_num_fields=_FORM_FIELDS_MAX)
    except ValueError:
        return False
    fragments = (value.partition("#")[2] for name, value in fields if name == "StatusCallback")
    return any(part.startswith("ik=") for text in fragments for part in text.split("&"))


def _pattern(paths: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(path).replace(r"\{\}", "[^/]+") for path in paths))


_CREATES: Final = _pattern(CREATES)
_UPDATES: Final = _pattern(UPDATES)
