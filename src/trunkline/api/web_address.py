"""URLs that we are asked to call: absolute, http or https, with a host."""

from typing import Final
from urllib.parse import urlsplit

URL_CHARS_MAX: Final = 4_000


def is_web_address(text: str) -> bool:
    """Whether `text` can be called. A host on a private network can: see `webhooks` for who may."""
    # Unlike Twilio: localhost is a fine host. Programs are developed against this very server.
    if len(text) > URL_CHARS_MAX or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket without its pair
        return False
