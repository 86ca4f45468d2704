"""`trunkline phone`: which command lines it refuses, and whose phones it reads."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trunkline.cli.main import application
from trunkline.host.data_folder import open_folder

NUMBER = "+15551234567"
NOWHERE = ("--simulator", "http://127.0.0.1:9")


def phone(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(application(["phone"]), ["phone", NUMBER, *arguments])
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "12025550100", "--send", "hi"), "is not a number like +15551234567"),
        (("--to", "front desk", "--send", "hi"), "--to"),
        (("--to", "+12025550100", "--send", ""), "there is nothing to send"),
        (("--send", ""), "--to and --send together"),
        (("--to", "+12025550100"), "--to and --send together"),
        (("--to", "+12025550100", "--media", "no-such-cat.png"), "nor a file"),
        (("--to", "+12025550100", "--media", "ftp://a.example/c.png"), "--media"),
        (("--to", "+12025550100", "--media", "http://[a"), "--media"),
    ],
)
def test_what_cannot_be_sent_is_a_wrong_command_line(arguments: tuple[str, ...], said: str) -> None:
    code, output = phone(*arguments, *NOWHERE)

    assert code == 2
    assert said in output


def test_media_needs_no_text() -> None:
    code, output = phone("--to", "+12025550100", "--media", "https://a.example/c.png", *NOWHERE)

    assert code == 1
    assert "no simulator answers at http://127.0.0.1:9" in output


def test_a_folder_without_a_running_host_is_not_mistaken_for_another_one(tmp_path: Path) -> None:
    open_folder(tmp_path / "data", entropy=os.urandom).release()

    for folder in (tmp_path / "data", tmp_path / "nowhere"):
        code, output = phone("--data", str(folder))

        assert code == 1
        assert f"no host runs on {folder}: start one with `trunkline up --data" in output
        assert "--simulator URL" in output


def test_a_host_that_is_not_ready_is_waited_for(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "data", entropy=os.urandom)
    try:
        code, output = phone("--data", str(tmp_path / "data"))
    finally:
        folder.release()

    assert code == 1
    assert "does not say where its simulator is: wait until it is ready" in output
