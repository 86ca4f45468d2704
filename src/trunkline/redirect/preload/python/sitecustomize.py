"""Leads this Python program to the forwarder of `trunkline run`, which put this folder on PYTHONPATH.

Nothing is imported that the program does not import itself: what has to be changed is changed when the
program imports it. It may run on any Python from 3.8 on, and knows nothing of Trunkline.

    twilio's clients        ask the forwarder, sync and async, whatever product, edge or region
    aiohttp                 the same for URLs that a program has written out: it heeds no proxy
    socket.getaddrinfo      refuses Twilio's names: whatever comes that far would go to Twilio itself
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from typing import Any

_FORWARDER = os.environ.get("_TRUNKLINE_FORWARDER", "")  # noqa: TID251 - nobody hands it down to us
_HERE = os.path.dirname(os.path.abspath(__file__))


def _is_theirs(host: object) -> bool:
    text = host.decode("latin-1") if isinstance(host, bytes) else host
    if not isinstance(text, str):
        return False
    name = text.lower().rstrip(".")
    return name == "twilio.com" or name.endswith(".twilio.com")


def _led(url: str) -> str:
    """The URL at the forwarder, if it is one of Twilio's."""
    from urllib.parse import urlsplit, urlunsplit

    parts = urlsplit(url)
    if not _is_theirs(parts.hostname):
        return url
    there = urlsplit(_FORWARDER)
    path = f"/.to/{parts.hostname}{parts.path or '/'}"
    return urlunsplit((there.scheme, there.netloc, path, parts.query, parts.fragment))


def _change_twilio(module: Any) -> None:
    """`get_hostname` has the last word on the URL of each request, edge and region included."""
    client = getattr(module, "ClientBase", None) or getattr(module, "Client", None)
    original = None if client is None else client.__dict__.get("get_hostname")
    if client is None or original is None:
        if module.__name__ == "twilio.base.client_base":
            _say("this version of twilio builds its URLs in another way, so it is led here only as far as "
                 "it heeds HTTPS_PROXY")  # fmt: skip
        return

    def get_hostname(self: Any, uri: str) -> str:
        return _led(original(self, uri))

    client.get_hostname = get_hostname


def _change_aiohttp(module: Any) -> None:
    session = module.ClientSession
    original = getattr(session, "_build_url", None)
    if original is None:
        _say("this version of aiohttp builds its URLs in another way: a program that writes out Twilio's "
             "URLs for it is refused, and must be given the base URL of a host")  # fmt: skip
        return

    def _build_url(self: Any, str_or_url: Any) -> Any:
        url = original(self, str_or_url)
        if not _is_theirs(url.host):
            return url
        return type(url)(_led(str(url)), encoded=True)

    session._build_url = _build_url  # noqa: SLF001 - there is no public place for it


def _change_socket(module: Any) -> None:
    original = module.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **named: Any) -> Any:
        if _is_theirs(host):
            why = (
                f"this would have gone to {host} itself and was refused. The client heeds neither "
                "HTTPS_PROXY nor the hooks: give it the base URL of a host"
            )
            _say(why)
            raise module.gaierror(module.EAI_FAIL, f"trunkline run: {why}")
        return original(host, *arguments, **named)

    module.getaddrinfo = getaddrinfo


_said: set[str] = set()


def _say(what: str) -> None:
    if what not in _said:
        _said.add(what)
        sys.stderr.write(f"trunkline run: {what}\n")


_CHANGES: dict[str, Callable[[Any], None]] = {
    "twilio.base.client_base": _change_twilio,
    "twilio.rest": _change_twilio,
    "aiohttp.client": _change_aiohttp,
    "socket": _change_socket,
}


class _Changing:
    """Finds what is to be changed as everybody else would, and changes it once it is loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        change = _CHANGES.get(name)
        if change is None:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    _change_behind(spec.loader, change)
                return spec
        return None


def _change_behind(loader: Any, change: Callable[[Any], None]) -> None:
    load = loader.exec_module

    def exec_module(module: Any) -> None:
        load(module)
        change(module)

    loader.exec_module = exec_module


def _begin() -> None:
    for name, change in _CHANGES.items():
        if name in sys.modules:
            change(sys.modules[name])
    sys.meta_path.insert(0, _Changing())


def _run_the_one_behind() -> None:
    """Python runs only the first `sitecustomize` of its path; there may be one that it would have run
    without us."""
    others = [each for each in sys.path if os.path.abspath(each or ".") != _HERE]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    from importlib.util import module_from_spec

    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if _FORWARDER:
    _begin()
_run_the_one_behind()
