"""The cookies of one conversation: an application's own, given back to it and to nobody else.

They live as long as the conversation about one message. Few and short ones are kept; one too many is
forgotten.
"""

from http.cookies import SimpleCookie
from typing import Final

import aiohttp
from yarl import URL

COOKIES_MAX: Final = 20
COOKIE_BYTES_MAX: Final = 4096
"""Of name and value; what every browser takes (RFC 6265 §6.1)."""


class Cookies:
    """Made in a running loop. A cookie goes back where it may: by host, path and `Secure`."""

    def __init__(self) -> None:
        # Applications under development are at bare addresses, and those count as hosts here.
        self._jar = aiohttp.CookieJar(unsafe=True)

    def take(self, cookies: SimpleCookie, url: URL) -> None:
        """What an answer from `url` sets."""
        for name, morsel in cookies.items():
            if len(name) + len(morsel.value) > COOKIE_BYTES_MAX:
                continue
            if len(self._jar) < COOKIES_MAX or name in self._jar.filter_cookies(url):
                self._jar.update_cookies({name: morsel}, url)

    def header(self, url: str) -> dict[str, str]:
        """The header for a request to `url`; none without cookies for it."""
        found = self._jar.filter_cookies(URL(url, encoded=True))
        if not found:
            return {}
        return {"Cookie": "; ".join(f"{name}={each.coded_value}" for name, each in found.items())}
