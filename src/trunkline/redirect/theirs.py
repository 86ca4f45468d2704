"""Which names are Twilio's, and for which of them a request is one for this cluster.

A name is `PRODUCT.twilio.com`, `PRODUCT.REGION.twilio.com` or `PRODUCT.EDGE.REGION.twilio.com`. Of the
products the cluster has `api`. The others are answered here, and never sent to Twilio itself: the
program was started to speak to somebody else.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

DOMAIN: Final = "twilio.com"
API: Final = "api"

REGIONS: Final = ("us1", "ie1", "au1")
EDGES: Final = (
    "ashburn", "dublin", "frankfurt", "roaming", "sao-paulo", "singapore", "sydney", "tokyo",
    "umatilla",
)  # fmt: skip
"""As published; what the program's own environment names is added to both."""


def is_theirs(host: str) -> bool:
    """Whether it is Twilio's. `host` may be spelled in any case, and end in a dot."""
    name = plain(host)
    return name == DOMAIN or name.endswith("." + DOMAIN)


def product_of(host: str) -> str:
    """The first word of one of their names."""
    return plain(host).partition(".")[0]


def plain(host: str) -> str:
    return host.lower().rstrip(".")


def certificate_names(regions: Iterable[str] = (), edges: Iterable[str] = ()) -> Iterator[str]:
    """What a certificate must be for, as a star stands for one word only."""
    yield DOMAIN
    yield "*." + DOMAIN
    for region in _distinct(REGIONS, regions):
        yield f"*.{region}.{DOMAIN}"
        for edge in _distinct(EDGES, edges):
            yield f"*.{edge}.{region}.{DOMAIN}"


def _distinct(known: Sequence[str], more: Iterable[str]) -> list[str]:
    return list(dict.fromkeys((*known, *(name for name in more if _is_word(name)))))


def _is_word(name: str) -> bool:
    return bool(name) and name.replace("-", "").isalnum() and name.isascii()
