"""The `X-Twilio-Signature` header, as receivers' libraries check it.

A signature covers the URL as it is sent, so `sendable` decides what is sent, once, and both the
request and the signature are made from its answer. A form's pairs are signed behind the URL, each
distinct key and value once, in order; a query is part of the URL and signed as such.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

HEADER: Final = "X-Twilio-Signature"
BODY_HASH: Final = "bodySHA256"

Pairs = Iterable[tuple[str, str]]

# RFC 3986 §2: what may stand in a URL as it is. A `%` is left alone: the URL is the customer's.
_UNQUOTED: Final = "%!#$&'()*+,/:;=?@[]~"
_IS_SENDABLE: Final = re.compile(r"[!#-;=?-\[\]_a-z|~]*\Z").match


def sendable(url: str) -> str:
    """`url` as it goes on the wire: without fragment and user information, with a path.

    Both official libraries refuse a signature over a fragment or user information.
    Raises `ValueError` when it is not a URL of HTTP with a host.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"not an http or https URL with a host: {url!r}")
    if parts.port == 0:
        raise ValueError(f"port 0 cannot be reached: {url!r}")
    host = _host(parts.netloc.rpartition("@")[2], parts.port)
    return urlunsplit((parts.scheme, host, _quoted(parts.path) or "/", _quoted(parts.query), ""))


def without_user(url: str) -> str:
    """`url` to be shown: without user information, which is a secret. What cannot be read stays as it
    is from behind the last `@` on."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def with_query(url: str, params: Pairs) -> str:
    """`url` with `params` behind whatever query it has."""
    encoded = encode_form(params)
    if not encoded:
        return url
    return f"{url}{'&' if '?' in url else '?'}{encoded}"


def with_body_hash(url: str, body: bytes) -> str:
    """`url` for a body that is no form, such as JSON: sign it without any pairs. Receivers check the
    hash against the body as it came."""
    return with_query(url, [(BODY_HASH, hashlib.sha256(body).hexdigest())])


def encode_form(params: Pairs) -> str:
    """`params` as `application/x-www-form-urlencoded`, in UTF-8."""
    return urlencode(tuple(params), encoding="utf-8", errors="replace")


def sign(auth_token: str, url: str, params: Pairs = ()) -> str:
    """The signature of a form posted to `url`, or of a GET when there are no `params`."""
    signed = url + "".join(key + value for key, value in sorted(set(params)))
    digest = hmac.new(
        auth_token.encode("utf-8"), signed.encode("utf-8", "replace"), hashlib.sha1
    ).digest()
    return base64.b64encode(digest).decode("ascii")


def _host(text: str, port: int | None) -> str:
    """Host and port as the request's `Host` has them, from which receivers put the URL together
    again: without the dot of a whole name, and with a port that is a plain number or not there."""
    name = text.rpartition(":")[0] if port is not None or text.endswith(":") else text
    name = name.removesuffix(".")
    if not name.isascii():
        name = name.encode("idna").decode("ascii")
    return name if port is None else f"{name}:{port}"


def _quoted(text: str) -> str:
    """`text` unchanged if it can be sent, else with what cannot be sent percent-encoded."""
    return text if _IS_SENDABLE(text) else quote(text, safe=_UNQUOTED, errors="replace")
