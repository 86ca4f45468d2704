"""The examples on the page about using the kernel alone do what the page says."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "use-the-kernel-alone.md"
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_example_in_virtual_time_passes() -> None:
    (source,) = [
        block for block in PYTHON_BLOCK.findall(PAGE.read_text("utf-8")) if "def test_" in block
    ]
    names: dict[str, Any] = {}
    exec(compile(source, str(PAGE), "exec"), names)  # noqa: S102 - it is our own page

    example: Callable[[], None] = names["test_ten_minutes_with_a_frozen_replica"]
    example()


def test_every_name_that_an_example_imports_exists() -> None:
    imports = [
        line
        for block in PYTHON_BLOCK.findall(PAGE.read_text("utf-8"))
        for line in block.splitlines()
        if line.startswith("from trunkline")
    ]

    assert len(imports) >= 5
    for line in imports:
        exec(line, {})  # noqa: S102 - it is our own page
