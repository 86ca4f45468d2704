"""What is told of a program before it runs, and which names are Twilio's."""

import shutil
import struct
import sys
from pathlib import Path

import pytest

from trunkline.redirect import theirs
from trunkline.redirect.programs import examine, is_static
from trunkline.redirect.tunnel import Proxy


def script(folder: Path, name: str, content: bytes = b"") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def elf(*kinds: int) -> bytes:
    """A program of 64 bits with these program headers."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + bytes(16) + struct.pack("<Q", 64) + bytes(14)
    return (
        head
        + struct.pack("<HHHHH", 56, len(kinds), 0, 0, 0)
        + b"".join(struct.pack("<I", kind) + bytes(52) for kind in kinds)
    )


def test_what_was_tested_runs_without_a_word() -> None:
    python = Path(sys.executable)

    told = examine(["python", "app.py", "-I"], python, {})

    assert (told.refusal, told.warnings, told.is_sure) == ("", (), True)


@pytest.mark.parametrize("name", ["java", "docker", "ssh", "sudo"])
def test_what_no_variable_reaches_is_refused_with_the_way_that_works(
    tmp_path: Path, name: str
) -> None:
    told = examine([name, "x"], script(tmp_path, name), {})

    assert told.refusal.startswith(f"{name} cannot be led here: ")
    assert "point-your-app-here" in told.refusal


def test_a_script_is_what_interprets_it(tmp_path: Path) -> None:
    told = examine(["./tool"], script(tmp_path, "tool", b"#!/usr/bin/env deno\n"), {})

    assert "Deno" in told.warnings[0]
    assert not told.is_sure


@pytest.mark.parametrize("flags", [["-I"], ["-uE"], ["-S", "-m", "app"]])
def test_python_without_hooks_is_warned_of(flags: list[str]) -> None:
    told = examine(["python3", *flags, "app.py"], Path(sys.executable), {})

    assert "takes no hook" in told.warnings[0]


def test_flags_of_the_program_itself_are_none_of_python() -> None:
    argv = ["python3", "-m", "app", "-I"]

    assert examine(argv, Path(sys.executable), {}).warnings == ()
    assert examine(["python3", "-cimport I"], Path(sys.executable), {}).warnings == ()


@pytest.mark.parametrize("value", ["cloud.example.org/", "us1/", "a.b"])
def test_an_edge_that_is_a_host_of_its_own_is_refused(value: str) -> None:
    told = examine(["python"], Path(sys.executable), {"TWILIO_EDGE": value})

    assert "unset it" in told.refusal
    assert examine(["python"], Path(sys.executable), {"TWILIO_EDGE": "dublin"}).refusal == ""


def test_a_static_program_is_known_by_its_headers(tmp_path: Path) -> None:
    static = script(tmp_path, "static", elf(1, 1))
    dynamic = script(tmp_path, "dynamic", elf(1, 3))

    assert is_static(static)
    assert not is_static(dynamic)
    assert not is_static(Path(shutil.which("sh") or "/bin/sh"))
    assert not is_static(script(tmp_path, "text", b"#!/bin/sh\n"))
    assert "HTTPS_PROXY" in examine([str(static)], static, {}).warnings[0]


@pytest.mark.parametrize("cut", range(0, 180, 7))
def test_a_program_that_is_cut_off_breaks_nothing(tmp_path: Path, cut: int) -> None:
    is_static(script(tmp_path, "cut", elf(1, 3)[:cut]))


@pytest.mark.parametrize("name", ["twilio.com", "API.twilio.com", "api.dublin.ie1.twilio.com."])
def test_these_names_are_twilios(name: str) -> None:
    assert theirs.is_theirs(name)


@pytest.mark.parametrize("name", ["nottwilio.com", "twilio.com.example", "localhost", ""])
def test_these_are_not(name: str) -> None:
    assert not theirs.is_theirs(name)


def test_a_certificate_is_for_every_edge_and_region_and_for_those_of_the_environment() -> None:
    names = set(theirs.certificate_names(["jp1", "bad name", ""], ["osaka", "*"]))

    assert {"*.twilio.com", "*.ie1.twilio.com", "*.dublin.ie1.twilio.com"} <= names
    assert "*.osaka.jp1.twilio.com" in names
    assert all(" " not in name and "**" not in name for name in names)


def test_a_proxy_that_was_there_is_understood() -> None:
    assert Proxy.of("http://u:p%40ss@proxy.example:3128") == Proxy(
        "proxy.example", 3128, b"dTpwQHNz"
    )
    assert Proxy.of("proxy.example:3128") == Proxy("proxy.example", 3128)
    assert Proxy.of("socks5://proxy.example") is None
    assert Proxy.of("") is None
