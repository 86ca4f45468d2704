"""The command line: its table, what it imports, and how it says what is wrong."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trunkline.cli import commands
from trunkline.cli.commands import COMMANDS
from trunkline.cli.main import application
from trunkline.version import __version__

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "command-line.md"


def test_every_command_file_has_its_row() -> None:
    folder = Path(commands.__path__[0])
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}

    assert {command.module.rpartition(".")[2] for command in COMMANDS.values()} == files
    assert all(callable(import_module(command.module).command) for command in COMMANDS.values())


@pytest.mark.parametrize(
    "name", [name for name, command in COMMANDS.items() if not command.is_hidden]
)
def test_every_command_and_each_of_its_flags_is_in_the_reference(name: str) -> None:
    text = DOCS.read_text()
    shown = CliRunner().invoke(application([name]), [name, "--help"]).output

    flags = [word for line in shown.splitlines() for word in line.split()[:1] if word[:2] == "--"]
    assert f"## `trunkline {name}`" in text
    section = text.partition(f"## `trunkline {name}`")[2].partition("\n## ")[0]
    assert [flag for flag in flags if f"`{flag}" not in section and flag != "--help"] == []


def test_version_says_the_version() -> None:
    result = CliRunner().invoke(application(["version"]), ["version"])

    assert result.output == f"trunkline {__version__}\n"


def test_the_version_flag_says_the_same_as_the_command() -> None:
    result = CliRunner().invoke(application(["--version"]), ["--version"])

    assert (result.exit_code, result.output) == (0, f"trunkline {__version__}\n")


@pytest.mark.parametrize("flag", ["--http", "--carrier"])
def test_a_flag_with_a_value_that_cannot_be_used_is_exit_code_2(tmp_path: Path, flag: str) -> None:
    asked = (sys.executable, "-P", "-m", "trunkline", "up", "--data", str(tmp_path), flag, "a b")

    done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)

    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"(from flag {flag})" in done.stderr


def test_a_file_with_a_value_that_cannot_be_used_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "host.toml").write_text('[host]\nhttp = "foo"\n')
    asked = (sys.executable, "-P", "-m", "trunkline", "up", "--config", str(tmp_path / "host.toml"))

    done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)

    assert done.returncode == 1


def test_help_names_the_commands_and_hides_the_inner_ones() -> None:
    shown = CliRunner().invoke(application([]), ["--help"]).output

    assert [name for name in COMMANDS if f"  {name} " not in shown] == ["host"]


def test_an_unknown_command_is_a_wrong_command_line() -> None:
    assert CliRunner().invoke(application(["dial"]), ["dial"]).exit_code == 2


def test_what_can_be_mended_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    asked = (sys.executable, "-P", "-m", "trunkline", "credentials", "--data", str(tmp_path / "x"))

    done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("trunkline: there are no credentials in ")
    assert len(done.stderr.splitlines()) == 1


def test_a_quick_command_does_not_pay_for_the_server() -> None:
    heavy = ("aiohttp", "starlette", "uvicorn", "nats", "sqlite3", "structlog")
    look = (
        "import sys; from trunkline.cli.main import application; import trunkline.host.up;"
        "application(['up']);"
        f"print([name for name in {heavy} if name in sys.modules])"
    )

    done = subprocess.run((sys.executable, "-P", "-c", look), capture_output=True, check=True)

    assert done.stdout == b"[]\n"
