"""The page of compatibility says what is so."""

import ast
import json
import subprocess
import sys
from pathlib import Path

from trunkline.api.resources import RESOURCES

ROOT = Path(__file__).parents[3]
SDK = ROOT / "tests" / "sdk"
EXERCISED: dict[str, list[str]] = json.loads((SDK / "exercised.json").read_text("utf-8"))
MEND = "make compatibility"


def test_the_page_is_what_the_catalogue_and_the_tests_give() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate_compatibility.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_implemented_operation_is_exercised_by_a_program_with_an_sdk() -> None:
    exercised = {operation for names in EXERCISED.values() for operation in names}

    assert RESOURCES.keys() - exercised == set(), MEND
    assert exercised - RESOURCES.keys() == set(), MEND


def test_every_test_that_the_page_names_exists() -> None:
    there = {
        f"{path.name}::{node.name}"
        for path in SDK.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert {name.partition("[")[0] for name in EXERCISED} - there == set(), MEND
