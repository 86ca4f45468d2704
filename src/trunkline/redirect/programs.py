"""What can be told of a program before it runs: whether it can be led here, and what else it needs.

What no variable reaches is refused, with the way that works. What may or may not heed them is started,
and what must be known of it is said first.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HEAD_BYTES: Final = 4_096
"""How much of a program is read to see what it is."""
PROGRAM_HEADERS_MAX: Final = 64

HOW_TO: Final = "docs/how-to/point-your-app-here.md"

_ELSEWHERE: Final[Mapping[str, str]] = {
    "docker": "what runs in a container does not see this forwarder: run trunkline run inside of it",
    "podman": "what runs in a container does not see this forwarder: run trunkline run inside of it",
    "ssh": "what runs on another machine does not see this forwarder: run trunkline run there",
    "sudo": "sudo drops the variables that lead here: put it in front, 'sudo trunkline run ...'",
    "java": "Java heeds neither proxy variables nor files of certificates: give your client the base URL "
    "of a host",
}
_UNMEASURED: Final[Mapping[str, str]] = {
    "bun": "Bun takes no hook: it comes here only as far as it heeds HTTPS_PROXY",
    "deno": "Deno takes no hook: it comes here only as far as it heeds HTTPS_PROXY",
}
_PYTHON: Final = re.compile(r"(python|pypy)[\d.]*")
_WITHOUT_HOOK: Final = frozenset("IES")
"""Flags of Python: isolated, without environment, without `site`."""
_TAKES_VALUE: Final = frozenset("cmWX")
_ELF: Final = b"\x7fELF"
_PT_INTERP: Final = 3


@dataclass(frozen=True, slots=True)
class Told:
    """`refusal`: why the program cannot be led here, and what to do. `warnings` go before its start.
    `is_sure`: it is of a kind that was tested."""

    refusal: str = ""
    warnings: tuple[str, ...] = ()
    is_sure: bool = True


def examine(argv: Sequence[str], path: Path, environ: Mapping[str, str]) -> Told:
    """`path` is where `argv[0]` was found."""
    for name in ("TWILIO_EDGE", "TWILIO_REGION"):
        if "/" in environ.get(name, "") or "." in environ.get(name, ""):
            return Told(f"{name}={environ[name]} leads the SDKs to a host of its own: unset it")
    names = _names(argv, path)
    for name in names:
        if name in _ELSEWHERE:
            return Told(f"{name} cannot be led here: {_ELSEWHERE[name]} ({HOW_TO})")
    warnings = [_UNMEASURED[name] for name in names if name in _UNMEASURED]
    is_python = any(_PYTHON.fullmatch(name) for name in names)
    if is_python and (flag := _hookless(argv)):
        warnings.append(
            f"Python is started with {flag}, so it takes no hook: asynchronous clients go to Twilio "
            "itself. Leave the flag out"
        )
    if is_static(path):
        warnings.append(
            f"{path.name} is a static program and takes no hook: it comes here only if it heeds "
            "HTTPS_PROXY and SSL_CERT_FILE, as those written in Go do, and else goes to Twilio"
        )
    return Told(warnings=tuple(warnings), is_sure=not warnings)


def is_static(path: Path) -> bool:
    """Whether it is an ELF program that no loader is named in."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    if len(head) < 64 or not head.startswith(_ELF) or head[4] != 2:
        return False
    order = "<" if head[5] == 1 else ">"
    (offset,) = struct.unpack_from(order + "Q", head, 32)
    size, count = struct.unpack_from(order + "HH", head, 54)
    for index in range(min(count, PROGRAM_HEADERS_MAX)):
        at = offset + index * size
        if at + 4 > len(head):
            return False
        if struct.unpack_from(order + "I", head, at)[0] == _PT_INTERP:
            return False
    return True


def _names(argv: Sequence[str], path: Path) -> tuple[str, ...]:
    """Of the program, of what it is a link to, and of what interprets it."""
    found = [Path(argv[0]).name, path.resolve().name]
    try:
        with path.open("rb") as file:
            line = file.read(HEAD_BYTES).partition(b"\n")[0]
    except OSError:
        line = b""
    if line.startswith(b"#!"):
        found += [Path(word).name for word in line[2:].decode("latin-1").split()[:2]]
    if path.suffix == ".jar":
        found.append("java")
    return tuple(found)


def _hookless(argv: Sequence[str]) -> str:
    """The flag by which Python ignores hooks, if there is one before its program."""
    for word in argv[1:]:
        if not word.startswith("-") or word == "-" or word.startswith("--"):
            return ""
        for letter in word[1:]:
            if letter in _WITHOUT_HOOK:
                return word
            if letter in _TAKES_VALUE:
                return ""
    return ""
