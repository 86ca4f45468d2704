"""The banner: that what it says can be typed as it stands."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from trunkline.host.banner import banner, program_words
from trunkline.host.credentials import Credentials

ALONE = (("host-1", "http://127.0.0.1:8009"),)


def said(
    *,
    is_simulator_ours: bool,
    program: str = "trunkline",
    hosts: Sequence[tuple[str, str]] = ALONE,
) -> str:
    return banner(
        base_urls=hosts,
        carrier_url="http://127.0.0.1:8010",
        is_simulator_ours=is_simulator_ours,
        credentials=Credentials("AC1", "token", "+12025550100"),
        data=Path("/data"),
        is_ephemeral=False,
        program=program,
    )


def test_a_carrier_that_was_named_is_not_called_our_simulator() -> None:
    assert "  simulator      http://127.0.0.1:8010\n" in said(is_simulator_ours=True)
    assert "  carrier        http://127.0.0.1:8010\n" in said(is_simulator_ours=False)


def test_every_host_is_named_with_its_address_and_the_first_one_is_used() -> None:
    hosts = (("host-a", "http://127.0.0.2:8009"), ("host-b", "http://127.0.0.3:8009"))

    text = said(is_simulator_ours=True, hosts=hosts)

    assert "  API            http://127.0.0.2:8009  host-a\n" in text
    assert "                 http://127.0.0.3:8009  host-b\n" in text
    assert 'client.api.base_url = "http://127.0.0.2:8009"\n' in text


def test_the_phone_is_called_as_this_program_was() -> None:
    text = said(is_simulator_ours=True, program=".venv/bin/trunkline")

    assert "\n  .venv/bin/trunkline phone +12025550123 --simulator http://127.0.0.1:8010\n" in text


@pytest.mark.parametrize(
    ("called", "found", "words"),
    [
        ("/opt/bin/trunkline", "/opt/bin/trunkline", "trunkline"),
        (".venv/bin/trunkline", None, ".venv/bin/trunkline"),
        (".venv/bin/trunkline", "/usr/bin/trunkline", ".venv/bin/trunkline"),
        ("/my tools/trunkline", None, "'/my tools/trunkline'"),
        ("/src/trunkline/__main__.py", "/usr/bin/trunkline", "/usr/bin/python3 -m trunkline"),
    ],
)
def test_the_program_is_named_so_that_the_same_one_is_started(
    called: str, found: str | None, words: str
) -> None:
    assert program_words(called, python="/usr/bin/python3", found=found) == words
