"""The key that makes a repeated create the same create, in any place a client can put it.

No SDK lets its caller add a header to one request, so besides the headers the fragment of
`StatusCallback` is read: `https://app.example/status#ik=order-42`. A fragment never leaves a client
and Twilio itself keeps settings there; ours is taken out before the URL is stored.
"""

from typing import Final
from urllib.parse import unquote

from trunkline.api.errors import invalid
from trunkline.api.request import Request

KEY_CHARS_MAX: Final = 255

_HEADERS: Final = (b"idempotency-key", b"i-twilio-idempotency-token")
_FRAGMENT_FIELD: Final = "ik="


def key_of(request: Request, key_in_callback: str | None = None) -> str | None:
    """The request's key. A header goes before the fragment. Raises `ApiError` for a malformed one."""
    given = (request.header(name) for name in _HEADERS)
    key = next((value for value in given if value is not None), key_in_callback)
    if key is not None and not _is_key(key):
        # Ignoring it would turn a repeat into a second message.
        raise invalid(
            "Idempotency-Key", f"it must be 1 to {KEY_CHARS_MAX} printable ASCII characters"
        )
    return key


def split_callback(url: str) -> tuple[str, str | None]:
    """The URL without the key in its fragment, and that key. Other fields of the fragment stay."""
    bare, _, fragment = url.partition("#")
    if _FRAGMENT_FIELD not in fragment:
        return url, None
    fields = fragment.split("&")
    keys = [each for each in fields if each.startswith(_FRAGMENT_FIELD)]
    if not keys:
        return url, None
    rest = "&".join(each for each in fields if each not in keys)
    return f"{bare}#{rest}" if rest else bare, unquote(keys[0].removeprefix(_FRAGMENT_FIELD))


def _is_key(key: str) -> bool:
    return 0 < len(key) <= KEY_CHARS_MAX and key.isascii() and key.isprintable()
