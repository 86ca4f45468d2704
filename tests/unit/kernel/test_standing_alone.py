"""The kernel can be used alone: it imports the standard library and itself, and has one door."""

import ast
import sys
from pathlib import Path

from trunkline import kernel

FOLDER = Path(kernel.__file__).parent


def imported() -> set[str]:
    nodes = [
        node
        for path in FOLDER.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
    ]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module
    }


def test_the_kernel_needs_nothing_but_the_standard_library() -> None:
    foreign = {
        name
        for name in imported()
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not name.startswith("trunkline.kernel")
    }

    assert foreign == set()


def test_every_public_name_can_be_had_at_the_door_and_is_explained() -> None:
    assert sorted(kernel.__all__, key=lambda name: (not name.isupper(), name.lower()))
    for name in kernel.__all__:
        thing = getattr(kernel, name)
        assert not callable(thing) or thing.__doc__, name
