"""The program on the page about using the kernel alone: three servers, one frozen, all answered."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-the-kernel-alone.md"
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLE_MAX_S = 30.0


def test_a_client_over_three_replicas_of_which_one_is_frozen_gets_all_its_answers(
    tmp_path: Path,
) -> None:
    program = tmp_path / "example.py"
    program.write_text(PYTHON_BLOCK.findall(PAGE.read_text("utf-8"))[0], "utf-8")

    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        capture_output=True,
        text=True,
        timeout=EXAMPLE_MAX_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "300 of 300 answered" in done.stdout
    slowest = re.search(r"slowest in (\d\.\d+) s", done.stdout)
    assert slowest is not None
    assert float(slowest[1]) < 2.0
