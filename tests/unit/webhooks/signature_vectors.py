"""Requests as we send them and as receivers see them, for whoever checks signatures.

A receiver puts the URL together from the request: scheme, `Host` and target. So a vector has both,
the URL that was configured and the one that is seen.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from yarl import URL

from trunkline.webhooks.client import Method, WebhookRequest, _rendered
from trunkline.webhooks.signature import HEADER, sendable, sign, with_body_hash

TOKEN: Final = "0123456789abcdef" * 2

Pairs = Sequence[tuple[str, str]]

FORM: Final = (
    ("ToCountry", ""),
    ("Body", "Grüße, 世界 😀 & a=b + 100% \"quoted\" 'single'\nnext\ttab"),
    ("To", "+15005550006"),
    ("FromCity", ""),
    ("NumMedia", "0"),
    ("MessageSid", "SM" + "0" * 32),
    ("AccountSid", "AC" + "0" * 32),
)
REPEATED: Final = (("Extra", "b"), ("Extra", "a"), ("Extra", "b"), ("extra", "c"), ("Extra", ""))
BODIES: Final = (
    b"",
    b"{}",
    b'[{"specversion":"1.0","data":{"text":"Gr\xc3\xbc\xc3\x9fe \xf0\x9f\x98\x80"}}]',
    b'{"a": 1,\n "b": null}\n',
)
URLS: Final = (
    "https://app.example/sms",
    "https://app.example",
    "https://app.example/",
    "https://app.example?x=1",
    "https://app.example/sms?a=1&b=two&a=1&c=",
    "https://app.example/sms?q=a+b%20c%2Bd&e=%41",
    "https://app.example/sms?it's=o'clock",
    "https://app.example/sms?flag",
    "https://app.example/sms?next=https://other.example/?x=y",
    "https://app.example:443/sms",
    "http://app.example:80/sms?x=1",
    "https://app.example:8443/sms",
    "http://app.example:443/sms",
    "http://app.example:0080/sms",
    "http://app.example:/sms",
    "http://app.example./sms",
    "https://user:pass@app.example/sms",
    "https://us%40er:p%3Ass@app.example:8443/sms?x=1",
    "https://user@app.example/sms#rc=2&rp=all",
    "https://app.example/sms#",
    "http://127.0.0.1:5000/sms",
    "http://[::1]/sms",
    "http://[::1]:80/sms",
    "http://[2001:DB8::1]:8080/sms?x=1",
    "https://APP.Example/Sms",
    "https://bücher.example/größe/😀?q=ü ü",
    "https://app.example/a%2fb/../c;d|e",
    "https://app.example//double//slash",
)


@dataclass(frozen=True, slots=True)
class Vector:
    """One request. A form as it is on the wire; `body` is there where it is none."""

    configured: str
    sent: str
    seen: str
    method: str
    signature: str
    form: str = ""
    body: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        kind = "form" if self.form else "query" if self.body is None else "json"
        return f"{self.method}-{kind}-{self.configured}"


def vectors() -> tuple[Vector, ...]:
    """All of them."""
    found = []
    for url in URLS:
        found += [_sent(url, "POST", FORM), _sent(url, "GET", FORM), _sent(url, "GET", ())]
        found.append(_sent(url, "POST", REPEATED))
        found += [_of_body(url, body) for body in BODIES]
    return tuple(found)


def _sent(url: str, method: Method, params: Pairs) -> Vector:
    request = WebhookRequest(url, method, tuple(params), TOKEN, "token-1")
    sent, form, headers = _rendered(request)
    text = "" if form is None else form.decode("ascii")
    return Vector(url, sent, _seen(sent), method, headers[HEADER], text)


def _of_body(url: str, body: bytes) -> Vector:
    sent = with_body_hash(sendable(url), body)
    return Vector(url, sent, _seen(sent), "POST", sign(TOKEN, sent), body=body.decode())


def _seen(sent: str) -> str:
    """As a receiver sees it: `Host` is what the client sends for this URL."""
    url = URL(sent, encoded=True)
    return f"{url.scheme}://{url.host_port_subcomponent}{url.raw_path_qs}"
