"""What the program is started with: a pure function of what its environment was, and where we listen.

Nothing of the user's is dropped: lists are extended, files of certificates joined, options added. Only
proxies are replaced, and the forwarder passes on through those that were there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.redirect.theirs import is_theirs

FORWARDER: Final = "_TRUNKLINE_FORWARDER"
"""The forwarder's URL, for the hooks. The underscore keeps it out of the settings, which are refused
where they are unknown."""

PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "https_proxy")
"""The Node SDK and twilio-cli read HTTP_PROXY, in capitals, for https. `http_proxy` is left alone: it
would add nothing."""
NOT_PROXIED: Final = ("NO_PROXY", "no_proxy")
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

REPLACED_BUNDLES: Final = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
JOINED_BUNDLES: Final = ("CURL_CA_BUNDLE",)
"""Replaced only where they are set: whoever reads them reads one of the others too."""
ADDED_BUNDLE: Final = "NODE_EXTRA_CA_CERTS"


@dataclass(frozen=True, slots=True)
class Trust:
    """Where the files of certificates are: on top of the named file, or the machine's for None; and
    on top of what Node has built in."""

    on_top_of: Callable[[str | None], Path]
    ours: Callable[[], Path]


@dataclass(frozen=True, slots=True)
class Login:
    account_sid: str
    auth_token: str
    is_given: bool
    """On the command line: then it goes before what the environment says."""


def redirected(
    environ: Mapping[str, str],
    *,
    forwarder: str,
    hooks: Path,
    trust: Trust | None,
    login: Login | None,
) -> dict[str, str]:
    """The program's environment. `forwarder` is a URL without a path; `hooks` holds the folders
    `python` and `node`. Without `trust`, no proxy is named: TLS could not end there."""
    found = dict(environ)
    found[FORWARDER] = forwarder
    python = str(hooks / "python")
    found["PYTHONPATH"] = (
        f"{python}:{environ['PYTHONPATH']}" if environ.get("PYTHONPATH") else python
    )
    required = f"--require {_quoted(hooks / 'node' / 'redirect.js')}"
    found["NODE_OPTIONS"] = f"{environ.get('NODE_OPTIONS', '')} {required}".strip()
    for name in NOT_PROXIED:
        found[name] = _extended(environ.get(name) or environ.get(_other(name), ""))
    if trust is not None:
        found |= dict.fromkeys(PROXIES, forwarder)
        found |= _bundles(environ, trust)
    if login is not None:
        found |= _credentials(environ, login)
    return found


def _bundles(environ: Mapping[str, str], trust: Trust) -> dict[str, str]:
    curl = environ.get("CURL_CA_BUNDLE")  # what `requests` reads where the other is not set
    found = {
        name: str(trust.on_top_of(environ.get(name) or (curl if name.startswith("REQ") else None)))
        for name in REPLACED_BUNDLES
    }
    found |= {
        name: str(trust.on_top_of(environ[name])) for name in JOINED_BUNDLES if environ.get(name)
    }
    added = environ.get(ADDED_BUNDLE)
    found[ADDED_BUNDLE] = str(trust.on_top_of(added) if added else trust.ours())
    return found


def _credentials(environ: Mapping[str, str], login: Login) -> dict[str, str]:
    """A pair: one half of ours with one half of somebody else's would be nobody's."""
    has_own = bool(environ.get("TWILIO_ACCOUNT_SID") or environ.get("TWILIO_AUTH_TOKEN"))
    if has_own and not login.is_given:
        return {}
    return {"TWILIO_ACCOUNT_SID": login.account_sid, "TWILIO_AUTH_TOKEN": login.auth_token}


def _extended(listed: str) -> str:
    names = [name.strip() for name in listed.split(",") if name.strip()]
    # A star, or one of Twilio's names, would lead past the forwarder what must come here.
    names = [name for name in names if name != "*" and not is_theirs(name.lstrip("*."))]
    return ",".join(dict.fromkeys((*names, *LOOPBACK)))


def _other(name: str) -> str:
    return name.lower() if name.isupper() else name.upper()


def _quoted(path: Path) -> str:
    """As node(1) reads NODE_OPTIONS."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
